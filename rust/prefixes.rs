//! Prefixes of sessions as rows of one array, and their checks.

use crate::error::{Error, Result};

/// Right-padded prefixes, row after row; padding is never read.
#[derive(Debug, Clone, Copy)]
pub struct Prefixes<'a> {
    /// `lengths.len() * width` items.
    pub items: &'a [i64],
    /// Width of a row, including padding.
    pub width: usize,
    /// Number of items of each row, without padding.
    pub lengths: &'a [i64],
}

impl<'a> Prefixes<'a> {
    /// Number of prefixes.
    ///
    /// # Errors
    /// `Value` if `items` has another number of rows than `lengths`.
    pub(crate) fn rows(&self) -> Result<usize> {
        let rows = self.lengths.len();
        if self.items.len() != rows * self.width {
            let found = self.items.len().checked_div(self.width).unwrap_or(0);
            return Err(Error::Value(format!(
                "lengths has {rows} values, items {found} rows; both must be equal"
            )));
        }
        Ok(rows)
    }

    /// The items of one prefix.
    ///
    /// # Errors
    /// `Value` for a length above the width, or an item outside the catalogue.
    pub(crate) fn row(&self, row: usize, num_items: usize) -> Result<&'a [i64]> {
        let (length, width) = (self.lengths[row], self.width);
        let Some(length) = usize::try_from(length).ok().filter(|&length| length <= width) else {
            return Err(Error::Value(format!("lengths[{row}] is {length}; expected 0 to {width}")));
        };
        let prefix = &self.items[row * width..row * width + length];
        match prefix.iter().position(|item| !(0..num_items as i64).contains(item)) {
            None => Ok(prefix),
            Some(column) => Err(Error::Value(format!(
                "items[{row}, {column}] is {}; expected 0 to {}",
                prefix[column],
                num_items as i64 - 1
            ))),
        }
    }
}
