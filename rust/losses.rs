//! Softmax cross-entropy of weighted positives against candidates; the gradient overwrites the scores.

use crate::bits;
use crate::error::{Error, Result};
use crate::matrix::{Matrix, check_exclude, excluded_ids};
use crate::passes::exp;
use crate::simd;
use crate::threads::fill_rows;
use std::hint::black_box;
use std::sync::{Mutex, PoisonError};

/// The candidates that the positives of a row are compared with.
#[derive(Debug, Clone, Copy)]
pub enum Candidates<'a> {
    /// The whole catalogue, positives included.
    All,
    /// These ids, each counted as often as it occurs; -1 is padding. The positives of a row are left out.
    Ids(Matrix<'a, i64>),
    /// Bit `i % 8` of byte `i / 8` is item `i`. The positives of a row are left out.
    Marked(Matrix<'a, u8>),
}

/// Positives, their weights, candidates and excluded items.
#[derive(Debug, Clone, Copy)]
pub struct Supervision<'a> {
    /// Item ids, one row per session.
    pub positives: Matrix<'a, i64>,
    /// One weight for each column of `positives`.
    pub weights: &'a [f32],
    /// The candidates.
    pub candidates: Candidates<'a>,
    /// Ids that are not candidates of their row, padded with -1; positives are never excluded.
    pub exclude: Matrix<'a, i64>,
    /// Weight of each candidate, unless they are the whole catalogue.
    pub each: f32,
}

/// Writes the loss of each row to `losses` and overwrites its scores with `factor` times the gradient.
///
/// With positives p of weight w_p and candidates C, the loss of a row is
/// `sum_p w_p * (logsumexp(s_p, s_C) - s_p)`: each positive is compared separately with the same candidates,
/// which have the weight `each`. A NaN among positives or candidates makes the loss NaN.
///
/// # Errors
/// `Value` for shapes that differ, an id outside the catalogue, and 0 threads.
pub fn cross_entropy(
    scores: &mut [f32],
    columns: usize,
    supervision: &Supervision<'_>,
    factor: f32,
    threads: Option<usize>,
    losses: &mut [f64],
) -> Result<()> {
    let rows = losses.len();
    check(&Matrix::new(&*scores, rows, columns)?, supervision)?;
    let &Supervision { positives, weights, candidates, exclude, each } = supervision;
    let losses = Mutex::new(losses);
    fill_rows(scores, rows, columns, threads, |scratch: &mut Scratch, row, scores| {
        excluded_ids(row, exclude.row(row), columns, &mut scratch.excluded)?;
        scratch.read_positives(row, positives.row(row), weights, columns)?;
        let loss = match candidates {
            Candidates::All => scratch.against_all(scores, factor),
            Candidates::Ids(ids) => scratch.against_ids(row, scores, ids.row(row), each, factor)?,
            Candidates::Marked(marks) => scratch.against_marked(scores, marks.row(row), each, factor),
        };
        losses.lock().unwrap_or_else(PoisonError::into_inner)[row] = loss;
        Ok(())
    })
}

fn check(scores: &Matrix<'_, f32>, supervision: &Supervision<'_>) -> Result<()> {
    let &Supervision { positives, weights, candidates, exclude, .. } = supervision;
    check_exclude(scores, &exclude)?;
    if (positives.rows, positives.columns) != (scores.rows, weights.len()) {
        return Err(Error::Value(format!(
            "positives has shape ({}, {}); expected ({}, {}), one row per row of scores and one column per weight",
            positives.rows,
            positives.columns,
            scores.rows,
            weights.len()
        )));
    }
    let (found, allowed) = match candidates {
        Candidates::All => return Ok(()),
        Candidates::Ids(ids) => ((ids.rows, ids.columns), (scores.rows, ids.columns)),
        Candidates::Marked(marks) => ((marks.rows, marks.columns), (scores.rows, scores.columns.div_ceil(8))),
    };
    if found == allowed {
        return Ok(());
    }
    Err(Error::Value(format!(
        "candidates has shape {found:?}; expected {allowed:?}, one row for each row of scores"
    )))
}

/// Memory that one thread uses for all its rows.
#[derive(Debug, Default)]
struct Scratch {
    excluded: Vec<u32>,
    /// Each positive and its weight.
    positives: Vec<(usize, f32)>,
    marked: Vec<u64>,
    /// Candidates given by id, and their scores.
    drawn: Vec<u32>,
    values: Vec<f32>,
}

impl Scratch {
    fn read_positives(&mut self, row: usize, ids: &[i64], weights: &[f32], num_items: usize) -> Result<()> {
        self.positives.clear();
        for (&id, &weight) in ids.iter().zip(weights) {
            self.positives.push((item("positives", row, id, num_items)?, weight));
        }
        Ok(())
    }

    /// The logsumexp contains the positives too, so one softmax serves all of them.
    fn against_all(&mut self, scores: &mut [f32], factor: f32) -> f64 {
        self.marked.clear();
        self.marked.resize(bits::words_for(scores.len()), !0);
        bits::remove(&mut self.marked, &self.excluded);
        for &(id, _) in &self.positives {
            bits::insert(&mut self.marked, id);
        }
        let most = simd::largest(scores, &self.marked);
        let own: Vec<f32> = self.positives.iter().map(|&(id, _)| scores[id] - most).collect();
        let sum = simd::exponentials(scores, &self.marked, most);
        let total: f32 = self.positives.iter().map(|&(_, weight)| weight).sum();
        simd::scale(scores, factor * total / sum);
        let mut loss = 0.0;
        for (&(id, weight), own) in self.positives.iter().zip(own) {
            scores[id] -= factor * weight;
            loss += f64::from(weight) * (f64::from(sum).ln() - f64::from(own));
        }
        loss
    }

    fn against_marked(&mut self, scores: &mut [f32], marks: &[u8], each: f32, factor: f32) -> f64 {
        self.marked.clear();
        self.marked.extend(marks.chunks(8).map(|bytes| {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(word)
        }));
        // Whole words are read, so bits after the last item are cleared.
        if let (Some(last), rest @ 1..) = (self.marked.last_mut(), scores.len() % 64) {
            *last &= !(!0 << rest);
        }
        bits::remove(&mut self.marked, &self.excluded);
        for &(id, _) in &self.positives {
            bits::remove(&mut self.marked, &[id as u32]);
        }
        let most = self.most(scores, simd::largest(scores, &self.marked));
        let own: Vec<f32> = self.positives.iter().map(|&(id, _)| scores[id] - most).collect();
        let sum = each * simd::exponentials(scores, &self.marked, most);
        let (loss, share) = self.alone(&own, sum);
        simd::scale(scores, factor * share * each);
        self.pull(scores, &own, sum, factor);
        loss
    }

    fn against_ids(
        &mut self,
        row: usize,
        scores: &mut [f32],
        ids: &[i64],
        each: f32,
        factor: f32,
    ) -> Result<f64> {
        // Here the marked items are those that are not candidates; the bits are cleared at the end.
        self.marked.resize(bits::words_for(scores.len()), 0);
        let left_out = self.excluded.iter().map(|&id| id as usize).chain(self.positives.iter().map(|p| p.0));
        let left_out: Vec<usize> = left_out.collect();
        for &id in &left_out {
            bits::insert(&mut self.marked, id);
        }
        // The row is read in order first (the result is unused), so that the random reads of the candidates
        // hit the cache: 12 ms instead of 51 for 4,000 of 40,000 candidates in 512 rows.
        black_box(simd::largest(scores, &self.marked));
        self.drawn.clear();
        self.values.clear();
        for &id in ids.iter().filter(|&&id| id != -1) {
            let id = item("candidates", row, id, scores.len())?;
            if self.marked[id / 64] >> (id % 64) & 1 == 0 {
                self.drawn.push(id as u32);
                self.values.push(scores[id]);
            }
        }
        self.marked.clear();
        self.marked.resize(bits::words_for(self.values.len()), !0);
        let most = self.most(scores, simd::largest(&self.values, &self.marked));
        let own: Vec<f32> = self.positives.iter().map(|&(id, _)| scores[id] - most).collect();
        let sum = each * simd::exponentials(&mut self.values, &self.marked, most);
        self.marked.clear();
        let (loss, share) = self.alone(&own, sum);
        scores.fill(0.0);
        for (&id, value) in self.drawn.iter().zip(&self.values) {
            scores[id as usize] += factor * share * each * value;
        }
        self.pull(scores, &own, sum, factor);
        Ok(loss)
    }

    /// The largest score among candidates and positives.
    fn most(&self, scores: &[f32], largest: f32) -> f32 {
        self.positives.iter().fold(largest, |most, &(id, _)| most.max(scores[id]))
    }

    /// The loss of positives that are each compared with candidates whose exponentials add up to `sum`, and
    /// the factor of the exponential of a candidate in the gradient.
    fn alone(&self, own: &[f32], sum: f32) -> (f64, f32) {
        let (mut loss, mut share) = (0.0, 0.0);
        for (&(_, weight), &own) in self.positives.iter().zip(own) {
            let whole = f64::from(exp(own)) + f64::from(sum);
            loss += f64::from(weight) * (whole.ln() - f64::from(own));
            share += f64::from(weight) / whole;
        }
        (loss, share as f32)
    }

    /// Adds the gradient with respect to the positives.
    fn pull(&self, scores: &mut [f32], own: &[f32], sum: f32, factor: f32) {
        for (&(id, weight), &own) in self.positives.iter().zip(own) {
            let value = exp(own);
            scores[id] -= factor * weight * (sum / (value + sum));
        }
    }
}

/// An id as a position in the catalogue.
pub(crate) fn item(name: &str, row: usize, id: i64, num_items: usize) -> Result<usize> {
    match usize::try_from(id) {
        Ok(found) if found < num_items => Ok(found),
        _ => Err(Error::Value(format!(
            "{name}: row {row} has the id {id}; expected 0 to {} (the catalogue has {num_items} items)",
            num_items as i64 - 1
        ))),
    }
}
