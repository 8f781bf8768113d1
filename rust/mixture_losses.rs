//! The cross-entropy of mixtures of softmaxes; the gradient over the scores of the queries overwrites them.

use crate::error::{Error, Result};
use crate::losses::item;
use crate::matrix::{Matrix, excluded_ids};
use crate::mixtures::{check_candidates, row_number, softmax_of_row};
use crate::simd;
use crate::threads::fill_rows;
use std::hint::black_box;
use std::sync::{Mutex, PoisonError};

/// What the mixtures consist of, and the positives that they should make likely.
#[derive(Debug, Clone, Copy)]
pub struct Mixtures<'a> {
    /// The rows of scores that each sample mixes, padded with -1.
    pub rows: Matrix<'a, i64>,
    /// The logarithms of their weights; those of padding are not read.
    pub log_weights: Matrix<'a, f32>,
    /// Item ids, one row per sample.
    pub positives: Matrix<'a, i64>,
    /// One weight for each column of `positives`.
    pub weights: &'a [f32],
    /// Ids that are no candidates of a row of scores, padded with -1.
    pub exclude: Matrix<'a, i64>,
    /// Bits of the candidates of each row of scores, to which the positives of its samples are added; `None` is
    /// the whole catalogue.
    pub candidates: Option<Matrix<'a, u8>>,
}

/// Losses and responsibilities.
#[derive(Debug, PartialEq)]
pub struct MixtureLosses {
    /// The loss of each sample.
    pub losses: Vec<f64>,
    /// The responsibility of each entry of `rows`, added over the positives; 0 at padding.
    pub shares: Vec<f64>,
    /// The sum of the shares of each row of scores.
    pub row_shares: Vec<f64>,
}

/// Returns the loss of each sample and overwrites the scores with their gradient, divided by the share of their
/// row.
///
/// With `p_q` the softmax of row q over its candidates, sample n gives item i the probability
/// `p(i) = sum_j w_j p_(rows_j)(i)`. Its loss is `-sum_t weights_t ln p(t)` over its positives t, and the
/// responsibility of entry j for a positive is `factor weights_t w_j p_(rows_j)(t) / p(t)`. Row q becomes `p_q`
/// minus, at each positive of its samples, the responsibility divided by the share of the row. So the gradient
/// of `factor * sum(losses)` over the scores of a row is the share times what the row becomes. A row whose share
/// is 0 becomes its softmax.
///
/// A positive that is a candidate of no row of its sample makes the loss infinite and the shares NaN. NaN in the
/// scores stays NaN.
///
/// # Errors
/// `Value` for shapes that differ, an id outside the catalogue, a row outside the scores, and 0 threads.
pub fn mixture_cross_entropy(
    scores: &mut [f32],
    (num_rows, columns): (usize, usize),
    mixtures: &Mixtures<'_>,
    factor: f64,
    threads: Option<usize>,
) -> Result<MixtureLosses> {
    mixtures.check(&Matrix::new(&*scores, num_rows, columns)?)?;
    let meetings = Meetings::of(mixtures, num_rows, columns)?;
    let logs = mixtures.softmaxes(scores, columns, &meetings, threads)?;
    let (parts, losses) = mixtures.responsibilities(&meetings, &logs, factor, threads)?;
    let positives = mixtures.positives.columns;
    let share = |place: usize| parts[place * positives..][..positives].iter().sum();
    let shares: Vec<f64> = (0..mixtures.rows.data.len()).map(share).collect();
    let row_share = |row| meetings.places(row).iter().map(|&place| shares[place]).sum();
    let row_shares: Vec<f64> = (0..num_rows).map(row_share).collect();
    fill_rows(scores, num_rows, columns, threads, |own: &mut Vec<(usize, f64)>, row, scores| {
        // There is nothing to subtract otherwise, and 0 / 0 is no number.
        if row_shares[row] != 0.0 {
            own.clear();
            for &place in meetings.places(row) {
                own.extend(mixtures.positives_at(place).zip(parts[place * positives..].iter().copied()));
            }
            // The parts of one item are added first, so that its score is rounded once.
            own.sort_by_key(|&(id, _)| id);
            for same in own.chunk_by(|one, next| one.0 == next.0) {
                let wanted: f64 = same.iter().map(|&(_, part)| part).sum();
                scores[same[0].0] -= (wanted / row_shares[row]) as f32;
            }
        }
        Ok(())
    })?;
    Ok(MixtureLosses { losses, shares, row_shares })
}

impl<'a> Mixtures<'a> {
    fn check(&self, scores: &Matrix<'_, f32>) -> Result<()> {
        let &Self { rows, log_weights, positives, weights, exclude, candidates } = self;
        check_candidates(scores, &exclude, candidates.as_ref())?;
        if (log_weights.rows, log_weights.columns) != (rows.rows, rows.columns) {
            return Err(Error::Value(format!(
                "log_weights has shape ({}, {}) and rows ({}, {}); give one weight for each entry of rows",
                log_weights.rows, log_weights.columns, rows.rows, rows.columns
            )));
        }
        if (positives.rows, positives.columns) != (rows.rows, weights.len()) {
            return Err(Error::Value(format!(
                "positives has shape ({}, {}); expected ({}, {}), one row per row of rows and one column per weight",
                positives.rows,
                positives.columns,
                rows.rows,
                weights.len()
            )));
        }
        Ok(())
    }

    /// The positives of the sample of a place, which [`Meetings`] has checked.
    fn positives_at(&self, place: usize) -> impl Iterator<Item = usize> + use<'a> {
        self.positives.row(place / self.rows.columns).iter().map(|&id| id as usize)
    }

    /// Overwrites the scores with softmaxes; returns the log probability of each positive under each entry that
    /// is no padding, in the order of [`Meetings`].
    fn softmaxes(
        &self,
        scores: &mut [f32],
        columns: usize,
        meetings: &Meetings,
        threads: Option<usize>,
    ) -> Result<Vec<f64>> {
        let rows = meetings.starts.len() - 1;
        let logs = Mutex::new(vec![0.0; meetings.places.len() * self.weights.len()]);
        fill_rows(scores, rows, columns, threads, |scratch: &mut Scratch, row, scores| {
            let Scratch { excluded, own } = scratch;
            // The row is read in order first (the result is unused), so that the random reads hit the cache.
            black_box(simd::peak(scores));
            own.clear();
            own.extend(
                meetings
                    .places(row)
                    .iter()
                    .flat_map(|&place| self.positives_at(place))
                    .map(|id| (id, scores[id])),
            );
            if let Some(marks) = self.candidates {
                simd::unmark(scores, marks.row(row));
                for &(id, score) in &*own {
                    scores[id] = score;
                }
            }
            excluded_ids(row, self.exclude.row(row), columns, excluded)?;
            for &id in &*excluded {
                scores[id as usize] = f32::NEG_INFINITY;
            }
            for (id, score) in &mut *own {
                *score = scores[*id];
            }
            let log_sum = softmax_of_row(scores);
            let mut logs = logs.lock().unwrap_or_else(PoisonError::into_inner);
            let first = meetings.starts[row] * self.weights.len();
            for (log, &(_, score)) in logs[first..].iter_mut().zip(&*own) {
                // Where nothing is a candidate, the difference would be NaN.
                *log = if score == f32::NEG_INFINITY { f64::from(score) } else { f64::from(score) - log_sum };
            }
            Ok(())
        })?;
        Ok(logs.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the responsibility of each entry of `rows` for each positive, and the losses.
    fn responsibilities(
        &self,
        meetings: &Meetings,
        logs: &[f64],
        factor: f64,
        threads: Option<usize>,
    ) -> Result<(Vec<f64>, Vec<f64>)> {
        let (rows, positives) = (self.rows, self.weights.len());
        let losses = Mutex::new(vec![0.0; rows.rows]);
        let mut parts = vec![0.0; rows.data.len() * positives];
        let width = rows.columns * positives;
        fill_rows(&mut parts, rows.rows, width, threads, |joint: &mut Vec<(usize, f64)>, row, parts| {
            let mut loss = 0.0;
            for (column, &weight) in self.weights.iter().enumerate() {
                joint.clear();
                for (entry, &log_weight) in self.log_weights.row(row).iter().enumerate() {
                    if let Some(meeting) = meetings.numbers[row * rows.columns + entry] {
                        joint.push((entry, logs[meeting * positives + column] + f64::from(log_weight)));
                    }
                }
                let most = joint.iter().fold(f64::NEG_INFINITY, |most, &(_, log)| most.max(log));
                // So that -inf minus this is not NaN.
                let most = if most == f64::NEG_INFINITY { 0.0 } else { most };
                let mut sum = 0.0;
                for (_, value) in &mut *joint {
                    *value = (*value - most).exp();
                    sum += *value;
                }
                loss -= f64::from(weight) * (most + sum.ln());
                for &(entry, value) in &*joint {
                    parts[entry * positives + column] = factor * f64::from(weight) * (value / sum);
                }
            }
            losses.lock().unwrap_or_else(PoisonError::into_inner)[row] = loss;
            Ok(())
        })?;
        Ok((parts, losses.into_inner().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Memory that one thread uses for all its rows.
#[derive(Debug, Default)]
struct Scratch {
    excluded: Vec<u32>,
    /// The positives of a row and their scores.
    own: Vec<(usize, f32)>,
}

/// The entries of `rows` that are no padding, in the order of the rows of scores that they name.
#[derive(Debug)]
struct Meetings {
    /// Where the entries of each row of scores start, and their number.
    starts: Vec<usize>,
    /// The place of each entry in `rows`.
    places: Vec<usize>,
    /// For each place, the number of its entry.
    numbers: Vec<Option<usize>>,
}

impl Meetings {
    fn of(mixtures: &Mixtures<'_>, num_rows: usize, num_items: usize) -> Result<Self> {
        let &Mixtures { rows, positives, .. } = mixtures;
        let mut starts = vec![0; num_rows + 1];
        for row in 0..rows.rows {
            for &id in positives.row(row) {
                item("positives", row, id, num_items)?;
            }
            for &number in rows.row(row) {
                if let Some(found) = row_number(row, number, ("scores", num_rows))? {
                    starts[found + 1] += 1;
                }
            }
        }
        for row in 0..num_rows {
            starts[row + 1] += starts[row];
        }
        let mut next = starts.clone();
        let mut places = vec![0; starts[num_rows]];
        let mut numbers = vec![None; rows.data.len()];
        for (place, &row) in rows.data.iter().enumerate() {
            if let Ok(row) = usize::try_from(row) {
                places[next[row]] = place;
                numbers[place] = Some(next[row]);
                next[row] += 1;
            }
        }
        Ok(Self { starts, places, numbers })
    }

    /// The places of a row of scores, ascending.
    fn places(&self, row: usize) -> &[usize] {
        &self.places[self.starts[row]..self.starts[row + 1]]
    }
}
