//! Softmaxes of rows of scores, and the logarithm of weighted sums of such rows.
//!
//! Together they give the scores of a mixture of softmaxes, `log(sum_j w_j softmax(scores_j))`: every row of
//! scores is normalised once, however many mixtures it is part of.

use crate::error::{Error, Result};
use crate::matrix::{Matrix, check_exclude, excluded_ids};
use crate::mixture_passes::UNIT;
use crate::simd;
use crate::threads::fill_rows;
use std::sync::{Mutex, PoisonError};

/// Overwrites each row of `scores` with its softmax over the candidates and fills `log_sums` with the logsumexp
/// of the candidates. Items that are no candidates get 0.
///
/// Bit `i % 8` of byte `i / 8` of a row of `candidates` says whether item `i` is one; `None` is the whole
/// catalogue. The ids in `exclude`, padded with -1, are no candidates. A probability below 2^-100 may become
/// 0. A row in which no candidate has a score above -inf becomes 0, and its logsumexp is -inf. A row in which
/// a candidate has the score NaN or +inf becomes NaN.
///
/// # Errors
/// `Value` for shapes that differ, an id outside the catalogue, and 0 threads.
pub fn softmax(
    scores: &mut [f32],
    columns: usize,
    exclude: Matrix<'_, i64>,
    candidates: Option<Matrix<'_, u8>>,
    threads: Option<usize>,
    log_sums: &mut [f64],
) -> Result<()> {
    let rows = log_sums.len();
    check_candidates(&Matrix::new(&*scores, rows, columns)?, &exclude, candidates.as_ref())?;
    let log_sums = Mutex::new(log_sums);
    fill_rows(scores, rows, columns, threads, |excluded: &mut Vec<u32>, row, scores| {
        excluded_ids(row, exclude.row(row), columns, excluded)?;
        if let Some(marks) = candidates {
            simd::unmark(scores, marks.row(row));
        }
        for &id in &*excluded {
            scores[id as usize] = f32::NEG_INFINITY;
        }
        let log_sum = softmax_of_row(scores);
        log_sums.lock().unwrap_or_else(PoisonError::into_inner)[row] = log_sum;
        Ok(())
    })
}

/// Checks the shapes of the arguments that say which items are candidates.
pub(crate) fn check_candidates(
    scores: &Matrix<'_, f32>,
    exclude: &Matrix<'_, i64>,
    candidates: Option<&Matrix<'_, u8>>,
) -> Result<()> {
    check_exclude(scores, exclude)?;
    let expected = (scores.rows, scores.columns.div_ceil(8));
    match candidates.map(|marks| (marks.rows, marks.columns)) {
        Some(found) if found != expected => Err(Error::Value(format!(
            "candidates has shape {found:?}; expected {expected:?}, one row of bits for each row of scores and \
             one bit for each of the {} items",
            scores.columns
        ))),
        _ => Ok(()),
    }
}

/// Sets the bit of `items[k]` in row `rows[k]` of `bits`, bitmaps of `columns` bytes as in [`softmax`]. Entries
/// with -1 are skipped.
///
/// # Errors
/// `Value` for lists of different lengths and for a row or an item outside `bits`.
pub fn mark(bits: &mut [u8], columns: usize, rows: &[i64], items: &[i64]) -> Result<()> {
    if rows.len() != items.len() {
        return Err(Error::Value(format!(
            "rows has {} entries and items {}; give one row for each item",
            rows.len(),
            items.len()
        )));
    }
    let (num_rows, num_items) = (bits.len().checked_div(columns).unwrap_or(0), 8 * columns);
    let found = |number: i64, most: usize| usize::try_from(number).ok().filter(|&number| number < most);
    for (entry, (&row, &item)) in rows.iter().zip(items).enumerate() {
        if row == -1 || item == -1 {
            continue;
        }
        let Some(row) = found(row, num_rows) else {
            return Err(Error::Value(format!(
                "rows: entry {entry} has the number {row}; expected 0 to {} (bits has {num_rows} rows), or -1 as \
                 padding",
                num_rows as i64 - 1
            )));
        };
        let Some(item) = found(item, num_items) else {
            return Err(Error::Value(format!(
                "items: entry {entry} has the id {item}; expected 0 to {} (bits has room for {num_items} items), \
                 or -1 as padding",
                num_items as i64 - 1
            )));
        };
        bits[row * columns + item / 8] |= 1 << (item % 8);
    }
    Ok(())
}

/// Overwrites a row with its softmax and returns its logsumexp.
pub(crate) fn softmax_of_row(scores: &mut [f32]) -> f64 {
    let most = simd::peak(scores);
    // So that -inf minus this is not NaN.
    let most = if most == f32::NEG_INFINITY { 0.0 } else { most };
    let sum = simd::powers(scores, most);
    // Nothing to scale otherwise, and 1 / 0 is no factor.
    if sum != 0.0 {
        simd::scale(scores, (1.0 / sum) as f32);
    }
    f64::from(most) + (sum / UNIT).ln()
}

/// Fills each row of `out` with `log(sum_j weights[j] * probabilities[rows[j]])`.
///
/// A row of `rows` holds numbers of rows of `probabilities`, padded with -1; weights of padding are not read. A
/// sum below the smallest normal number is replaced by that number, so that all results are finite.
/// NaN among the probabilities stays NaN.
///
/// # Errors
/// `Value` for shapes that differ, a number outside `probabilities`, a weight that is negative, infinite or
/// NaN, and 0 threads.
pub fn mixture_scores(
    probabilities: Matrix<'_, f32>,
    rows: Matrix<'_, i64>,
    weights: Matrix<'_, f32>,
    threads: Option<usize>,
    out: &mut [f32],
) -> Result<()> {
    if (weights.rows, weights.columns) != (rows.rows, rows.columns) {
        return Err(Error::Value(format!(
            "weights has shape ({}, {}) and rows ({}, {}); give one weight for each entry of rows",
            weights.rows, weights.columns, rows.rows, rows.columns
        )));
    }
    fill_rows(out, rows.rows, probabilities.columns, threads, |parts: &mut Parts<'_>, row, out| {
        parts.read(row, probabilities, rows.row(row), weights.row(row))?;
        simd::log_mixture(&parts.views, &parts.weights, out);
        Ok(())
    })
}

/// The rows of probabilities that are mixed, and their weights.
#[derive(Debug, Default)]
struct Parts<'a> {
    views: Vec<&'a [f32]>,
    weights: Vec<f32>,
}

impl<'a> Parts<'a> {
    fn read(
        &mut self,
        row: usize,
        probabilities: Matrix<'a, f32>,
        numbers: &[i64],
        weights: &[f32],
    ) -> Result<()> {
        self.views.clear();
        self.weights.clear();
        for (column, (&number, &weight)) in numbers.iter().zip(weights).enumerate() {
            let Some(found) = row_number(row, number, ("probabilities", probabilities.rows))? else {
                continue;
            };
            self.views.push(probabilities.row(found));
            if !(weight >= 0.0 && weight.is_finite()) {
                return Err(Error::Value(format!(
                    "weights: row {row}, column {column} is {weight}; expected a finite number that is not \
                     negative"
                )));
            }
            self.weights.push(weight);
        }
        Ok(())
    }
}

/// An entry of `rows` as the number of a row of the matrix of this name and size; `None` is padding.
pub(crate) fn row_number(row: usize, number: i64, (matrix, size): (&str, usize)) -> Result<Option<usize>> {
    match usize::try_from(number) {
        _ if number == -1 => Ok(None),
        Ok(found) if found < size => Ok(Some(found)),
        _ => Err(Error::Value(format!(
            "rows: row {row} has the number {number}; expected 0 to {} ({matrix} has {size} rows), or -1 as padding",
            size as i64 - 1
        ))),
    }
}
