//! Matrices borrowed from the caller, and the checks that all ranking functions share.

use crate::error::{Error, Result};

/// A borrowed row-major matrix.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a, T> {
    /// All values, row after row.
    pub data: &'a [T],
    /// Number of rows.
    pub rows: usize,
    /// Number of values per row.
    pub columns: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// Views `data` as a matrix.
    ///
    /// # Errors
    /// `Value` if `data` does not hold `rows * columns` values.
    pub fn new(data: &'a [T], rows: usize, columns: usize) -> Result<Self> {
        if rows.checked_mul(columns) == Some(data.len()) {
            return Ok(Self { data, rows, columns });
        }
        Err(Error::Value(format!("{} values do not make a matrix of {rows} x {columns}", data.len())))
    }

    /// The values of one row.
    #[must_use]
    pub fn row(&self, row: usize) -> &'a [T] {
        &self.data[row * self.columns..(row + 1) * self.columns]
    }
}

/// Checks the arguments that all rows share, before anything of size `needed` is allocated.
///
/// # Errors
/// `Value` if the row counts differ, ids do not fit 32 bits, or `needed` is more than the catalogue.
pub fn check_call(
    scores: &Matrix<'_, f32>,
    exclude: &Matrix<'_, i64>,
    (wanted, needed): (&str, usize),
) -> Result<()> {
    check_exclude(scores, exclude)?;
    if needed > scores.columns {
        return Err(Error::Value(format!(
            "{wanted} is {needed}, but scores has only {0} candidates (columns); ask for at most {0}",
            scores.columns
        )));
    }
    Ok(())
}

/// Checks that `exclude` has the rows of `scores` and that ids fit 32 bits.
///
/// # Errors
/// `Value` if they do not.
pub fn check_exclude(scores: &Matrix<'_, f32>, exclude: &Matrix<'_, i64>) -> Result<()> {
    if exclude.rows != scores.rows {
        return Err(Error::Value(format!(
            "exclude has {} rows and scores has {}; give one row of ids for each row of scores",
            exclude.rows, scores.rows
        )));
    }
    if u32::try_from(scores.columns).is_err() {
        return Err(Error::Value(format!(
            "scores has {} columns; expected at most {} items",
            scores.columns,
            u32::MAX
        )));
    }
    Ok(())
}

/// The error for the first NaN in `scores`, row `row` of `name`.
#[must_use]
pub(crate) fn not_a_number(name: &str, row: usize, scores: &[f32]) -> Error {
    let column = scores.iter().take_while(|score| !score.is_nan()).count();
    Error::Value(format!(
        "{name}: NaN at row {row}, column {column}; a score must be a number (infinities are allowed)"
    ))
}

/// Replaces `into` with the ids of one row of `exclude`: ascending, without duplicates and padding (-1).
///
/// # Errors
/// `Value`, with row and value, for an id that is neither an item nor -1.
pub fn excluded_ids(row: usize, exclude: &[i64], num_items: usize, into: &mut Vec<u32>) -> Result<()> {
    item_ids("exclude", row, exclude, num_items, into)
}

/// [`excluded_ids`] for one row of the argument `name`.
pub(crate) fn item_ids(
    name: &str,
    row: usize,
    ids: &[i64],
    num_items: usize,
    into: &mut Vec<u32>,
) -> Result<()> {
    into.clear();
    for &id in ids {
        if id < -1 || id >= num_items as i64 {
            return Err(Error::Value(format!(
                "{name}: row {row} has the id {id}; expected 0 to {} (the catalogue has {num_items} items), \
                 or -1 as padding",
                num_items as i64 - 1
            )));
        }
        if id >= 0 {
            into.push(id as u32);
        }
    }
    into.sort_unstable();
    into.dedup();
    Ok(())
}
