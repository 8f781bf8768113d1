//! Integers from Python: any integer array as int64, and checked numbers.

use numpy::ndarray::Dimension;
use numpy::{PyArray, PyArrayMethods, PyReadonlyArray};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::IntoPyDict;

/// Converts `values` (array-like) to C-contiguous int64; copies only if necessary.
pub(super) fn int64<'py, D: Dimension>(
    name: &str,
    values: &Bound<'py, PyAny>,
) -> PyResult<PyReadonlyArray<'py, i64, D>> {
    let py = values.py();
    let order = [("order", "C")].into_py_dict(py)?;
    let numpy = py.import("numpy")?;
    // Tensors on other devices and ragged lists raise various exceptions.
    let array = numpy.call_method("asarray", (values,), Some(&order)).map_err(|error| {
        let reason = error.value(py).to_string();
        let reason = reason.lines().next().unwrap_or_default();
        PyValueError::new_err(format!("{name} cannot be read as an array of integers ({reason})"))
    })?;
    if numpy.getattr("ma")?.call_method1("is_masked", (values,))?.extract()? {
        return Err(PyValueError::new_err(format!("{name} has masked entries; fill or remove them")));
    }
    let dtype = array.getattr("dtype")?;
    let kind: char = dtype.getattr("kind")?.extract()?;
    let empty = array.getattr("size")?.extract::<usize>()? == 0;
    // An empty list is an array of floats; a complex array is none, whatever its size.
    if kind == 'c' || !empty && !matches!(kind, 'i' | 'u') {
        return Err(PyValueError::new_err(format!("{name} has dtype {dtype}; expected integers")));
    }
    if !empty && kind == 'u' && array.call_method0("max")?.extract::<i64>().is_err() {
        return Err(PyValueError::new_err(format!("{name} has values above {}; expected int64", i64::MAX)));
    }
    let dimensions = array.getattr("ndim")?;
    let keep = [("copy", false)].into_py_dict(py)?;
    let cast = array.call_method("astype", ("int64",), Some(&keep))?.cast_into::<PyArray<i64, D>>();
    let array = cast.map_err(|_| {
        let allowed = D::NDIM.unwrap_or_default();
        PyValueError::new_err(format!("{name} has {dimensions} dimensions; expected {allowed}"))
    })?;
    Ok(array.try_readonly()?)
}

/// An integer below 2^63.
pub(super) fn integer(name: &str, value: &Bound<'_, PyAny>) -> PyResult<i64> {
    value
        .extract()
        .map_err(|_| PyValueError::new_err(format!("{name} is {value}; expected an integer below 2**63")))
}

/// Checks that `value` is a count of at least 1.
pub(super) fn positive(name: &str, value: i64) -> PyResult<usize> {
    let checked = usize::try_from(value).ok().filter(|&count| count > 0);
    checked.ok_or_else(|| PyValueError::new_err(format!("{name} is {value}; expected 1 or more")))
}
