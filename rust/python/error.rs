//! Mapping of core errors to Python's built-in exceptions.

use crate::error::Error;
use pyo3::PyErr;
use pyo3::exceptions::{PyIndexError, PyOSError, PyValueError};

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        match error {
            Error::Value(message) => PyValueError::new_err(message),
            Error::Index(message) => PyIndexError::new_err(message),
            Error::Io(message) => PyOSError::new_err(message),
        }
    }
}
