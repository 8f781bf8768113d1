//! Python class `IdNumbers`.

use crate::ids;
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Two vectors of uint32.
type Pair<'py> = (Bound<'py, PyArray1<u32>>, Bound<'py, PyArray1<u32>>);

/// Numbers from 0 for ids that are texts, in the order in which they first appear.
///
/// Example:
///
/// >>> import numpy as np
/// >>> from alterrec.logs import IdNumbers
/// >>> ids = IdNumbers()
/// >>> ids.number(b"lamptentlamp", np.array([4, 4, 4], np.uint32))
/// (array([0, 1, 0], dtype=uint32), array([0, 1], dtype=uint32))
/// >>> ids.number(b"boattent", np.array([4, 4], np.uint32))
/// (array([2, 1], dtype=uint32), array([0], dtype=uint32))
/// >>> len(ids)
/// 3
#[pyclass(frozen, module = "alterrec._core")]
pub(super) struct IdNumbers(Mutex<ids::IdNumbers>);

impl IdNumbers {
    fn lock(&self) -> MutexGuard<'_, ids::IdNumbers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl IdNumbers {
    #[new]
    fn new() -> PyResult<Self> {
        Ok(Self(Mutex::new(ids::IdNumbers::new()?)))
    }

    /// Return the number of each id of a batch, and the places of ids that had no number before.
    ///
    /// Args:
    ///   text: the ids in UTF-8, one after the other.
    ///   lengths: (N,) uint32, bytes of each id.
    ///
    /// Raises:
    ///   ValueError: the lengths do not add up to the text.
    ///   TypeError: an argument has another type.
    fn number<'py>(
        &self,
        py: Python<'py>,
        text: &[u8],
        lengths: PyReadonlyArray1<'py, u32>,
    ) -> PyResult<Pair<'py>> {
        let lengths = lengths.as_slice()?;
        let (numbers, new) = py.detach(|| self.lock().number(text, lengths))?;
        Ok((numbers.into_pyarray(py), new.into_pyarray(py)))
    }

    fn __len__(&self) -> usize {
        self.lock().len()
    }
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<IdNumbers>()
}
