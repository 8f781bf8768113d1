//! The extension module: wrappers that borrow and check arguments, release the interpreter, and call the
//! core.

mod error;
mod events;
mod graphs;
mod ids;
mod integers;
mod neighbours;
mod prefixes;
mod query_tables;
mod ranking;
mod sessions;

use pyo3::prelude::*;

/// Native kernels of `alterrec`; use them through `alterrec.ranking` and `alterrec.sessions`.
#[pymodule(gil_used = false)]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    ranking::register(m)?;
    sessions::register(m)?;
    neighbours::register(m)?;
    graphs::register(m)?;
    events::register(m)?;
    ids::register(m)?;
    query_tables::register(m)?;
    Ok(())
}
