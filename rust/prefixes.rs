//! Prefixes of sessions as rows of one array.

use crate::error::{Error, Result};

/// Right-padded prefixes, row after row; padding is never read.
#[derive(Debug, Clone, Copy)]
pub struct Prefixes<'a> {
    /// `lengths.len() * width` items.
    pub items: &'a [i64],
    /// Items of a row, padding included.
    pub width: usize,
    /// Items of each row that are not padding.
    pub lengths: &'a [i64],
}

impl<'a> Prefixes<'a> {
    /// How many there are.
    ///
    /// # Errors
    /// `Value` when `items` has another number of rows than `lengths`.
    pub(crate) fn rows(&self) -> Result<usize> {
        let rows = self.lengths.len();
        if self.items.len() != rows * self.width {
            let found = self.items.len().checked_div(self.width).unwrap_or(0);
            return Err(Error::Value(format!(
                "lengths has {rows} values, items {found} rows; allowed: equal"
            )));
        }
        Ok(rows)
    }

    /// The items of one of them.
    ///
    /// # Errors
    /// `Value` for a length that the row has no room for, and an item outside the catalogue.
    pub(crate) fn row(&self, row: usize, num_items: usize) -> Result<&'a [i64]> {
        let (length, width) = (self.lengths[row], self.width);
        let Some(length) = usize::try_from(length).ok().filter(|&length| length <= width) else {
            return Err(Error::Value(format!("lengths[{row}] is {length}; allowed: 0 to {width}")));
        };
        let prefix = &self.items[row * width..row * width + length];
        match prefix.iter().position(|item| !(0..num_items as i64).contains(item)) {
            None => Ok(prefix),
            Some(column) => Err(Error::Value(format!(
                "items[{row}, {column}] is {}; allowed: 0 to {}",
                prefix[column],
                num_items as i64 - 1
            ))),
        }
    }
}
