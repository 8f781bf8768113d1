//! The extension module: wrappers that borrow, check, detach and hand over.

mod error;
mod graphs;
mod integers;
mod neighbours;
mod prefixes;
mod ranking;
mod sessions;

use pyo3::prelude::*;

/// Native kernels of `alterrec`; use `alterrec.ranking` and `alterrec.sessions` instead.
#[pymodule(gil_used = false)]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    ranking::register(m)?;
    sessions::register(m)?;
    neighbours::register(m)?;
    graphs::register(m)?;
    Ok(())
}
