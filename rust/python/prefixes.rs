//! Right-padded prefixes from Python.

use super::integers::int64;
use crate::prefixes::Prefixes;
use numpy::ndarray::{Ix1, Ix2};
use numpy::{PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::prelude::*;

/// Borrowed integer arrays: items (B, L) and lengths (B,).
pub(super) struct PrefixArrays<'py> {
    items: PyReadonlyArray2<'py, i64>,
    lengths: PyReadonlyArray1<'py, i64>,
}

impl<'py> PrefixArrays<'py> {
    pub(super) fn new(items: &Bound<'py, PyAny>, lengths: &Bound<'py, PyAny>) -> PyResult<Self> {
        Ok(Self { items: int64::<Ix2>("items", items)?, lengths: int64::<Ix1>("lengths", lengths)? })
    }

    pub(super) fn prefixes(&self) -> PyResult<Prefixes<'_>> {
        Ok(Prefixes {
            items: self.items.as_slice()?,
            width: self.items.shape()[1],
            lengths: self.lengths.as_slice()?,
        })
    }
}
