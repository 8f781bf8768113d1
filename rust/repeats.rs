//! The repeat component: scores under which the items that a session has seen compete with all others.
//!
//! A model of repeats gives each seen item the log odds that it is the next item. The other items keep their
//! scores, whose softmax at a temperature T is their share of the rest of the probability. A seen item
//! therefore has the score `T * (log_odds + lse)`, where `lse` is the logsumexp of `score / T` over the items
//! that were not seen.

use crate::error::{Error, Result};
use crate::log_sums::LogSum;
use crate::matrix::{Matrix, check_exclude, item_ids, not_a_number};
use crate::simd;
use crate::threads::fill_rows;
use std::ops::RangeInclusive;

/// Temperatures whose inverse is an ordinary float32 number.
const TEMPERATURES: RangeInclusive<f64> = 1e-30..=1e30;

/// The log odds of each entry of `seen`, and one temperature for each view and for the weighted sum.
#[derive(Debug, Clone, Copy)]
pub struct Repeats<'a> {
    /// Each in the shape of `seen`: one for all views, or one for each view and for the weighted sum. The largest
    /// of several entries of one item counts; -inf: not a candidate.
    pub log_odds: &'a [Matrix<'a, f32>],
    /// Positive and finite.
    pub temperatures: &'a [f64],
}

impl Repeats<'_> {
    /// Checks the shapes, and the temperatures.
    pub(crate) fn check(&self, seen: &Matrix<'_, i64>, views: usize) -> Result<()> {
        check_temperatures(self.temperatures)?;
        if self.temperatures.len() != views {
            return Err(Error::Value(format!(
                "temperatures has {} entries; expected {views}, one for each view and one for the weighted sum",
                self.temperatures.len()
            )));
        }
        if self.log_odds.len() != 1 && self.log_odds.len() != views {
            return Err(Error::Value(format!(
                "log_odds has {} matrices; expected one, or {views}: one for each view and one for the weighted sum",
                self.log_odds.len()
            )));
        }
        for odds in self.log_odds {
            if (odds.rows, odds.columns) != (seen.rows, seen.columns) {
                return Err(Error::Value(format!(
                    "log_odds has shape ({}, {}) and seen ({}, {}); give one number for each entry of seen",
                    odds.rows, odds.columns, seen.rows, seen.columns
                )));
            }
        }
        Ok(())
    }

    /// The log odds for a view.
    pub(crate) fn of_view(&self, view: usize) -> &Matrix<'_, f32> {
        &self.log_odds[if self.log_odds.len() == 1 { 0 } else { view }]
    }
}

fn check_temperatures(temperatures: &[f64]) -> Result<()> {
    match temperatures.iter().position(|temperature| !TEMPERATURES.contains(temperature)) {
        None => Ok(()),
        Some(place) => Err(Error::Value(format!(
            "temperatures[{place}] is {}; expected a number between 1e-30 and 1e30",
            temperatures[place]
        ))),
    }
}

/// Returns for each row and temperature the logsumexp of `score / temperature` over the items not in `seen`.
///
/// It is -inf if there is no such item, or if all their scores are -inf. The result has
/// `rows * temperatures` values, row after row.
///
/// # Errors
/// `Value` for shapes that differ, a NaN, an id outside the catalogue, a temperature that is not between 1e-30
/// and 1e30, and 0 threads.
pub fn log_normaliser(
    scores: Matrix<'_, f32>,
    seen: Matrix<'_, i64>,
    temperatures: &[f64],
    threads: Option<usize>,
) -> Result<Vec<f64>> {
    check_exclude(&scores, &seen)?;
    check_temperatures(temperatures)?;
    let mut normalisers = vec![0.0; scores.rows * temperatures.len()];
    let fill = |(ids, sums): &mut (Vec<u32>, Vec<LogSum>), row, out: &mut [f64]| {
        item_ids("seen", row, seen.row(row), scores.columns, ids)?;
        refuse_nan(row, scores.row(row))?;
        sums.clear();
        sums.extend(temperatures.iter().map(|&temperature| LogSum::new(temperature)));
        simd::add_exponentials(scores.row(row), ids, sums);
        for (normaliser, sum) in out.iter_mut().zip(sums) {
            *normaliser = sum.log();
        }
        Ok(())
    };
    fill_rows(&mut normalisers, scores.rows, temperatures.len(), threads, fill)?;
    Ok(normalisers)
}

/// Returns the score of each entry of `seen` under the repeat component, in the shape of `seen`.
///
/// All entries of one item have the same score. Padding and items that are not candidates have -inf.
///
/// # Errors
/// As [`log_normaliser`]; and for log odds that are NaN or +inf.
pub fn repeat_scores(
    scores: Matrix<'_, f32>,
    seen: Matrix<'_, i64>,
    log_odds: Matrix<'_, f32>,
    temperature: f64,
    threads: Option<usize>,
) -> Result<Vec<f32>> {
    check_exclude(&scores, &seen)?;
    Repeats { log_odds: &[log_odds], temperatures: &[temperature] }.check(&seen, 1)?;
    let mut values = vec![f32::NEG_INFINITY; seen.data.len()];
    let fill = |(ids, own): &mut (Vec<u32>, Vec<Own>), row, out: &mut [f32]| {
        item_ids("seen", row, seen.row(row), scores.columns, ids)?;
        own_items(row, seen.row(row), log_odds.row(row), own)?;
        refuse_nan(row, scores.row(row))?;
        let log_sum = log_sum(scores.row(row), ids, temperature);
        for (value, &id) in out.iter_mut().zip(seen.row(row)) {
            if let Ok(place) = own.binary_search_by_key(&id, |own| i64::from(own.id)) {
                *value = own[place].score(log_sum, temperature);
            }
        }
        Ok(())
    };
    fill_rows(&mut values, seen.rows, seen.columns, threads, fill)?;
    Ok(values)
}

fn refuse_nan(row: usize, scores: &[f32]) -> Result<()> {
    if simd::tally(scores, 0.0).nan > 0 { Err(not_a_number("scores", row, scores)) } else { Ok(()) }
}

/// The logsumexp of `score / temperature` over the items of a row that are not in `seen`, ascending ids.
pub(crate) fn log_sum(scores: &[f32], seen: &[u32], temperature: f64) -> f64 {
    let mut sum = LogSum::new(temperature);
    simd::add_exponentials(scores, seen, std::slice::from_mut(&mut sum));
    sum.log()
}

/// A seen item; -inf: not a candidate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Own {
    pub(crate) id: u32,
    log_odds: f32,
}

impl Own {
    pub(crate) fn is_candidate(&self) -> bool {
        self.log_odds > f32::NEG_INFINITY
    }

    /// The item's score, where `log_sum` is the [`log_sum`] of its row at the same temperature.
    ///
    /// Without any finite score among the other items, seen items are ordered by their log odds alone. -inf
    /// always means that an item is not a candidate, so the score of others is at least the smallest finite
    /// number.
    pub(crate) fn score(&self, log_sum: f64, temperature: f64) -> f32 {
        if !self.is_candidate() {
            return f32::NEG_INFINITY;
        }
        let log_sum = if log_sum == f64::NEG_INFINITY { 0.0 } else { log_sum };
        ((temperature * (f64::from(self.log_odds) + log_sum)) as f32).max(f32::MIN)
    }
}

/// Replaces `own` with the ids of one row of `seen`, ascending, each of them once.
pub(crate) fn own_items(row: usize, seen: &[i64], log_odds: &[f32], own: &mut Vec<Own>) -> Result<()> {
    own.clear();
    for (column, (&id, &log_odds)) in seen.iter().zip(log_odds).enumerate() {
        // Padding, which has no log odds.
        let Ok(id) = u32::try_from(id) else { continue };
        if log_odds.is_nan() || log_odds == f32::INFINITY {
            return Err(Error::Value(format!(
                "log_odds: row {row}, column {column} is {}; expected a finite number, or -inf for an item that \
                 is not a candidate",
                if log_odds.is_nan() { "nan" } else { "inf" }
            )));
        }
        own.push(Own { id, log_odds });
    }
    // The largest log odds of an item come first and are the ones that stay.
    own.sort_unstable_by(|a, b| a.id.cmp(&b.id).then(b.log_odds.total_cmp(&a.log_odds)));
    own.dedup_by_key(|own| own.id);
    Ok(())
}
