//! Python wrapper of the order of a log's rows.

use super::integers::{int64, integer, positive};
use crate::events;
use numpy::ndarray::Ix1;
use numpy::{IntoPyArray, PyArray1, PyArrayMethods, PyReadonlyArray1};
use pyo3::prelude::*;

/// The rows of all sessions, and the offsets of the sessions.
type Cut<'py> = (Bound<'py, PyArray1<u32>>, Bound<'py, PyArray1<i64>>);

/// Users as numbers of which few are unused; a vector of such uint32 is borrowed.
fn numbers<'py>(users: &Bound<'py, PyAny>) -> PyResult<PyReadonlyArray1<'py, u32>> {
    if let Ok(given) = users.extract::<PyReadonlyArray1<'py, u32>>()
        && let Ok(numbers) = given.as_slice()
        && numbers.iter().max().is_none_or(|&largest| (largest as usize) < 2 * numbers.len())
    {
        return Ok(given);
    }
    let users = int64::<Ix1>("users", users)?;
    let (py, ids) = (users.py(), users.as_slice()?);
    Ok(py.detach(|| events::numbered(ids))?.into_pyarray(py).try_readonly()?)
}

/// Return the rows of all sessions, session after session, and the offsets of the sessions.
#[pyfunction]
#[pyo3(signature = (users, timestamps, gap, threads))]
fn cut_sessions<'py>(
    users: &Bound<'py, PyAny>,
    timestamps: Option<&Bound<'py, PyAny>>,
    gap: Option<&Bound<'py, PyAny>>,
    threads: Option<&Bound<'py, PyAny>>,
) -> PyResult<Cut<'py>> {
    let py = users.py();
    let users = numbers(users)?;
    let times = timestamps.map(|values| int64::<Ix1>("timestamps", values)).transpose()?;
    let gap = gap.map(|gap| integer("gap", gap)).transpose()?;
    let threads = threads.map(|count| positive("threads", integer("threads", count)?)).transpose()?;
    let (users, times) = (users.as_slice()?, times.as_ref().map(|times| times.as_slice()).transpose()?);
    let cut = py.detach(|| events::cut_sessions(users, times, gap, threads))?;
    Ok((cut.order.into_pyarray(py), cut.offsets.into_pyarray(py)))
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(cut_sessions, m)?)
}
