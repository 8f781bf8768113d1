//! The rank order of one row: score descending, then id ascending, over the items not excluded.

use crate::error::{Error, Result};
use crate::threads::fill_rows;
use std::ops::Range;

/// A row-major matrix that is borrowed from its owner.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a, T> {
    /// All values, row after row.
    pub data: &'a [T],
    /// How many rows.
    pub rows: usize,
    /// How many values a row has.
    pub columns: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// The matrix of `rows` rows over `data`.
    ///
    /// # Errors
    /// `Value` when `data` does not hold `rows * columns` values.
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

/// An integer whose ascending order is the rank order: higher score first, then lower id.
///
/// -0.0 and 0.0 are equal scores; infinities are values like others; the score must not be NaN.
///
/// ```
/// use alterrec_core::select::rank_key;
/// assert!(rank_key(2.0, 7) < rank_key(1.0, 3));
/// assert!(rank_key(0.0, 3) < rank_key(-0.0, 4));
/// assert!(rank_key(-0.0, 3) < rank_key(0.0, 4));
/// ```
#[inline]
#[must_use]
pub fn rank_key(score: f32, id: u32) -> u64 {
    // Adding 0.0 turns -0.0 into 0.0 and leaves every other value alone.
    let bits = (score + 0.0).to_bits();
    let descending = if bits >> 31 == 1 { bits } else { !(bits | 1 << 31) };
    u64::from(descending) << 32 | u64::from(id)
}

/// The id that `rank_key` was made from.
#[inline]
#[must_use]
pub fn key_id(key: u64) -> u32 {
    key as u32
}

/// Checks that `scores`, which begin at column `first` of row `row` of `name`, have no NaN.
///
/// # Errors
/// `Value` naming row and column of the first NaN.
pub fn check_scores(name: &str, row: usize, first: usize, scores: &[f32]) -> Result<()> {
    // No early exit: this form vectorises, and a NaN is the rare case.
    if !scores.iter().fold(false, |found, score| found | score.is_nan()) {
        return Ok(());
    }
    let column = first + scores.iter().take_while(|score| !score.is_nan()).count();
    Err(Error::Value(format!(
        "{name}: NaN at row {row}, column {column}; a score must be a number (infinities are allowed)"
    )))
}

/// Replaces `into` by the ids of one row of `exclude`, ascending, each once, without the -1 pads.
///
/// # Errors
/// `Value` naming row and value of an id that is neither an item nor -1.
pub fn excluded_ids(row: usize, exclude: &[i64], num_items: usize, into: &mut Vec<u32>) -> Result<()> {
    into.clear();
    for &id in exclude {
        if id < -1 || id >= num_items as i64 {
            return Err(Error::Value(format!(
                "exclude: row {row} has the id {id}; allowed: 0 to {} (the catalogue has {num_items} items), \
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

/// The runs of ids in `0..num_items` between the `excluded` ones (ascending, each once).
pub fn candidate_runs(excluded: &[u32], num_items: usize) -> impl Iterator<Item = Range<usize>> + '_ {
    let starts = std::iter::once(0).chain(excluded.iter().map(|&id| id as usize + 1));
    let ends = excluded.iter().map(|&id| id as usize).chain(std::iter::once(num_items));
    starts.zip(ends).map(|(start, end)| start..end)
}

/// What one thread keeps between rows: the excluded ids and the keys of the candidates.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Excluded ids of the current row, ascending, each once.
    pub excluded: Vec<u32>,
    /// Keys of the candidates of the current row.
    pub keys: Vec<u64>,
}

impl Scratch {
    /// Loads one row: checks it and makes the keys of its candidates, in ascending id order.
    ///
    /// # Errors
    /// `Value` for a NaN, an id outside the catalogue, or fewer than `needed` candidates; `wanted`
    /// names the argument that needs them.
    pub fn load(
        &mut self,
        row: usize,
        scores: &[f32],
        exclude: &[i64],
        (wanted, needed): (&str, usize),
    ) -> Result<()> {
        check_scores("scores", row, 0, scores)?;
        excluded_ids(row, exclude, scores.len(), &mut self.excluded)?;
        let candidates = scores.len() - self.excluded.len();
        if needed > candidates {
            return Err(Error::Value(format!(
                "{wanted} is {needed}, but row {row} has only {candidates} candidates ({} items, {} of them \
                 excluded); ask for at most {candidates} or exclude fewer",
                scores.len(),
                self.excluded.len()
            )));
        }
        self.keys.clear();
        for run in candidate_runs(&self.excluded, scores.len()) {
            let first = run.start as u32;
            self.keys.extend(scores[run].iter().zip(first..).map(|(&score, id)| rank_key(score, id)));
        }
        Ok(())
    }
}

/// Checks what all rows share before anything of size `needed` is allocated.
///
/// # Errors
/// `Value` when the row counts differ, ids do not fit 32 bits, or `needed` is more than the catalogue.
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
/// `Value` when they do not.
pub fn check_exclude(scores: &Matrix<'_, f32>, exclude: &Matrix<'_, i64>) -> Result<()> {
    if exclude.rows != scores.rows {
        return Err(Error::Value(format!(
            "exclude has {} rows and scores has {}; give one row of ids for each row of scores",
            exclude.rows, scores.rows
        )));
    }
    if u32::try_from(scores.columns).is_err() {
        return Err(Error::Value(format!(
            "scores has {} columns; allowed: at most {} items",
            scores.columns,
            u32::MAX
        )));
    }
    Ok(())
}

/// The ids of the `k` highest-ranked candidates of each row, in rank order: `rows * k` values.
///
/// # Errors
/// `Value` for what [`check_call`] and [`Scratch::load`] refuse, and for 0 threads.
pub fn top_ranked(
    scores: Matrix<'_, f32>,
    k: usize,
    exclude: Matrix<'_, i64>,
    threads: Option<usize>,
) -> Result<Vec<i64>> {
    check_call(&scores, &exclude, ("k", k))?;
    let mut ids = vec![0; scores.rows * k];
    fill_rows(&mut ids, scores.rows, k, threads, |scratch: &mut Scratch, row, out| {
        scratch.load(row, scores.row(row), exclude.row(row), ("k", k))?;
        let keys = &mut scratch.keys;
        if 0 < k && k < keys.len() {
            keys.select_nth_unstable(k - 1);
        }
        let top = &mut keys[..k];
        top.sort_unstable();
        for (id, &key) in out.iter_mut().zip(&*top) {
            *id = i64::from(key_id(key));
        }
        Ok(())
    })?;
    Ok(ids)
}
