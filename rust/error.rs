//! The error type of the core; every message contains the value found and what is allowed.

use std::fmt;

/// An error, grouped by the Python exception that it becomes.
#[derive(Debug, Clone, PartialEq)]
pub enum Error {
    /// An argument has a value that is not allowed (`ValueError` in Python).
    Value(String),
    /// An index is out of range (`IndexError` in Python).
    Index(String),
    /// A file could not be read, written or understood (`OSError` in Python).
    Io(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(m) | Self::Index(m) | Self::Io(m) => f.write_str(m),
        }
    }
}

impl std::error::Error for Error {}

/// Shorthand for results of the core.
pub type Result<T> = std::result::Result<T, Error>;
