//! Exact ranks: the number of items that score above a target and the number that score the same.

use crate::error::{Error, Result};
use crate::keys::Tally;
use crate::matrix::{Matrix, check_exclude, excluded_ids, item_ids, not_a_number};
use crate::repeats::{Own, Repeats, log_sum, own_items};
use crate::simd;
use crate::threads::fill_rows;

/// Items strictly above the target, and items equal to it (the target itself included).
pub type Counts = [i64; 2];

impl From<Tally> for Counts {
    fn from(tally: Tally) -> Self {
        [i64::from(tally.greater), i64::from(tally.tied)]
    }
}

/// What becomes of a target that is in its own row of excluded items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExcludedTarget {
    /// It is not a candidate and cannot be found: 0 items are tied with it.
    Missed,
    /// It is a candidate all the same.
    Ranked,
}

/// Subtracts one excluded item from the counts.
fn leave_out(counts: &mut Counts, score: f32, target: f32) {
    counts[0] -= i64::from(score > target);
    counts[1] -= i64::from(score == target);
}

/// Whether an item is among the ids.
fn contains(ids: &[u32], id: usize) -> bool {
    ids.iter().any(|&other| other as usize == id)
}

fn check_target(row: usize, target: i64, num_items: usize) -> Result<usize> {
    match usize::try_from(target) {
        Ok(id) if id < num_items => Ok(id),
        _ => Err(Error::Value(format!(
            "targets: row {row} has the id {target}; expected 0 to {} (the catalogue has {num_items} items)",
            num_items as i64 - 1
        ))),
    }
}

fn check_targets(scores: &Matrix<'_, f32>, targets: &[i64], exclude: &Matrix<'_, i64>) -> Result<()> {
    if targets.len() != scores.rows {
        return Err(Error::Value(format!(
            "targets has {} entries and scores has {} rows; give one target for each row",
            targets.len(),
            scores.rows
        )));
    }
    check_exclude(scores, exclude)
}

/// Makes the counts those of a target that is not a candidate.
fn miss(counts: &mut [Counts]) {
    counts.iter_mut().for_each(|counts| counts[1] = 0);
}

/// Returns the counts of each row's target; excluded items are not counted.
///
/// # Errors
/// `Value` for shapes that differ, a NaN, an id outside the catalogue, and 0 threads.
pub fn target_counts(
    scores: Matrix<'_, f32>,
    targets: &[i64],
    exclude: Matrix<'_, i64>,
    rule: ExcludedTarget,
    threads: Option<usize>,
) -> Result<Vec<Counts>> {
    check_targets(&scores, targets, &exclude)?;
    let mut counts = vec![[0; 2]; scores.rows];
    fill_rows(&mut counts, scores.rows, 1, threads, |excluded: &mut Vec<u32>, row, out| {
        let scores = scores.row(row);
        let target_id = check_target(row, targets[row], scores.len())?;
        excluded_ids(row, exclude.row(row), scores.len(), excluded)?;
        let target = scores[target_id];
        let tally = simd::tally(scores, target);
        if tally.nan > 0 {
            return Err(not_a_number("scores", row, scores));
        }
        out[0] = tally.into();
        for id in excluded.iter().map(|&id| id as usize).filter(|&id| id != target_id) {
            leave_out(&mut out[0], scores[id], target);
        }
        if rule == ExcludedTarget::Missed && contains(excluded, target_id) {
            miss(out);
        }
        Ok(())
    })?;
    Ok(counts)
}

/// One row of each view, and their weights.
struct Views<'a> {
    rows: Vec<&'a [f32]>,
    weights: &'a [f32],
}

impl<'a> Views<'a> {
    fn new(views: &[Matrix<'a, f32>], weights: &'a [f32], row: usize) -> Self {
        Self { rows: views.iter().map(|view| view.row(row)).collect(), weights }
    }

    /// The scores of an item in each view and, last, in the weighted sum.
    ///
    /// The sum is added in the same order as in `passes::fused_tally`.
    fn at(&self, id: usize) -> impl Iterator<Item = f32> {
        let products = self.rows.iter().zip(self.weights).map(|(view, weight)| weight * view[id]);
        let sum = products.reduce(|sum, product| sum + product).unwrap_or(0.0);
        self.rows.iter().map(move |view| view[id]).chain([sum])
    }

    /// Fills `out` with the counts of all items, compared with one score for each view and for the sum.
    fn compare(
        &self,
        row: usize,
        scores: &[f32],
        tallies: &mut Vec<Tally>,
        out: &mut [Counts],
    ) -> Result<()> {
        tallies.clear();
        tallies.resize(scores.len(), Tally::default());
        simd::fused_tally(&self.rows, self.weights, scores, tallies);
        if tallies.iter().any(|tally| tally.nan > 0) {
            return Err(self.not_a_number(row));
        }
        for (counts, tally) in out.iter_mut().zip(tallies) {
            *counts = Counts::from(*tally);
        }
        Ok(())
    }

    /// Subtracts items from counts that were compared with `scores`.
    fn leave_out(&self, ids: impl Iterator<Item = usize>, scores: &[f32], out: &mut [Counts]) {
        for id in ids {
            for ((counts, score), &target) in out.iter_mut().zip(self.at(id)).zip(scores) {
                leave_out(counts, score, target);
            }
        }
    }

    /// The error for the first NaN of a row, in a view or otherwise in the sum.
    fn not_a_number(&self, row: usize) -> Error {
        for (place, view) in self.rows.iter().enumerate() {
            if view.iter().any(|score| score.is_nan()) {
                return not_a_number(&format!("views[{place}]"), row, view);
            }
        }
        not_a_number("weighted sum of views", row, &self.sums())
    }

    fn sums(&self) -> Vec<f32> {
        let mut sums = vec![0.0; self.rows[0].len()];
        simd::weighted_sum(&self.rows, self.weights, &mut sums);
        sums
    }
}

/// Memory that one thread uses for all its rows.
#[derive(Default)]
struct Scratch {
    excluded: Vec<u32>,
    /// The scores that all others are compared with.
    compared: Vec<f32>,
    tallies: Vec<Tally>,
    sums: Vec<f32>,
    own: Vec<Own>,
    own_scores: Vec<f32>,
}

/// Returns the counts of each row's target in each view and, last, in their weighted sum, in one pass.
///
/// The result has `rows * (views + 1)` values, row after row. The sum is added in float32 in the order of the
/// views and is never stored beyond one block.
///
/// # Errors
/// As [`target_counts`]; and for no views, views of different shapes, weights that are not finite or not one
/// per view, and a sum that is NaN (opposite infinities).
pub fn fused_target_counts(
    views: &[Matrix<'_, f32>],
    weights: &[f32],
    targets: &[i64],
    exclude: Matrix<'_, i64>,
    rule: ExcludedTarget,
    threads: Option<usize>,
) -> Result<Vec<Counts>> {
    check_views(views, weights)?;
    check_targets(&views[0], targets, &exclude)?;
    let (rows, num_items, width) = (views[0].rows, views[0].columns, views.len() + 1);
    let mut counts = vec![[0; 2]; rows * width];
    fill_rows(&mut counts, rows, width, threads, |scratch: &mut Scratch, row, out| {
        let Scratch { excluded, compared, tallies, .. } = scratch;
        let views = Views::new(views, weights, row);
        let target_id = check_target(row, targets[row], num_items)?;
        excluded_ids(row, exclude.row(row), num_items, excluded)?;
        compared.clear();
        compared.extend(views.at(target_id));
        views.compare(row, compared, tallies, out)?;
        let others = excluded.iter().map(|&id| id as usize).filter(|&id| id != target_id);
        views.leave_out(others, compared, out);
        if rule == ExcludedTarget::Missed && contains(excluded, target_id) {
            miss(out);
        }
        Ok(())
    })?;
    Ok(counts)
}

/// Returns the counts of [`fused_target_counts`] with the items of `seen` as candidates and without them, and,
/// with `repeats`, under the repeat component.
///
/// The result has `rows * rules * (views + 1)` values, row after row, where the rules are kept, excluded and, if
/// given, repeats.
///
/// # Errors
/// As [`fused_target_counts`]; and for wrong shapes, temperatures or log odds of `repeats`.
pub fn seen_target_counts(
    views: &[Matrix<'_, f32>],
    weights: &[f32],
    targets: &[i64],
    seen: Matrix<'_, i64>,
    repeats: Option<&Repeats<'_>>,
    threads: Option<usize>,
) -> Result<Vec<Counts>> {
    check_views(views, weights)?;
    check_targets(&views[0], targets, &seen)?;
    let (rows, num_items, width) = (views[0].rows, views[0].columns, views.len() + 1);
    repeats.map_or(Ok(()), |repeats| repeats.check(&seen, width))?;
    let all = width * if repeats.is_some() { 3 } else { 2 };
    let mut counts = vec![[0; 2]; rows * all];
    fill_rows(&mut counts, rows, all, threads, |scratch: &mut Scratch, row, out| {
        let views = Views::new(views, weights, row);
        let target_id = check_target(row, targets[row], num_items)?;
        item_ids("seen", row, seen.row(row), num_items, &mut scratch.excluded)?;
        scratch.compared.clear();
        scratch.compared.extend(views.at(target_id));
        let (kept, others) = out.split_at_mut(width);
        let (excluded, by_repeats) = others.split_at_mut(width);
        views.compare(row, &scratch.compared, &mut scratch.tallies, kept)?;
        excluded.copy_from_slice(kept);
        views.leave_out(scratch.excluded.iter().map(|&id| id as usize), &scratch.compared, excluded);
        if contains(&scratch.excluded, target_id) {
            miss(excluded);
        }
        if let Some(repeats) = repeats {
            by_repeats.copy_from_slice(excluded);
            scratch.count_repeats(&views, (row, target_id), seen.row(row), repeats, by_repeats)?;
        }
        Ok(())
    })?;
    Ok(counts)
}

impl Scratch {
    /// Turns the counts without the seen items into those under the repeat component.
    fn count_repeats(
        &mut self,
        views: &Views<'_>,
        (row, target_id): (usize, usize),
        seen: &[i64],
        repeats: &Repeats<'_>,
        out: &mut [Counts],
    ) -> Result<()> {
        let Self { excluded, compared, tallies, sums, own, own_scores } = self;
        if excluded.is_empty() {
            return Ok(());
        }
        own_scores.clear();
        // A single view of weight 1 is the weighted sum.
        let alone = views.weights == [1.0] && repeats.log_odds.len() == 1;
        let alone = alone && repeats.temperatures[0] == repeats.temperatures[1];
        if !alone {
            sums.resize(views.rows[0].len(), 0.0);
            simd::weighted_sum(&views.rows, views.weights, sums);
        }
        let matrices = views.rows.iter().copied().chain([sums.as_slice()]);
        for (view, (scores, &temperature)) in matrices.zip(repeats.temperatures).enumerate() {
            if view == 1 && alone {
                own_scores.extend_from_within(..own.len());
                continue;
            }
            if view == 0 || repeats.log_odds.len() > 1 {
                own_items(row, seen, repeats.of_view(view).row(row), own)?;
            }
            if own.iter().any(Own::is_candidate) {
                let log_sum = log_sum(scores, excluded, temperature);
                own_scores.extend(own.iter().map(|own| own.score(log_sum, temperature)));
            } else {
                own_scores.extend(own.iter().map(|_| f32::NEG_INFINITY));
            }
        }
        let scores_by_view = own_scores.chunks(own.len());
        let target_place = own.binary_search_by_key(&target_id, |own| own.id as usize).ok();
        if let Some(place) = target_place {
            // A repeated target has another score, with which the items that were not seen are compared anew.
            for (target, scores) in compared.iter_mut().zip(scores_by_view.clone()) {
                *target = if scores[place] > f32::NEG_INFINITY { scores[place] } else { *target };
            }
            views.compare(row, compared, tallies, out)?;
            views.leave_out(excluded.iter().map(|&id| id as usize), compared, out);
        }
        for ((counts, scores), target) in out.iter_mut().zip(scores_by_view).zip(compared) {
            let candidates = scores.iter().filter(|&&score| score > f32::NEG_INFINITY);
            counts[0] += candidates.clone().filter(|&score| score > target).count() as i64;
            counts[1] += candidates.filter(|&score| score == target).count() as i64;
            if target_place.is_some_and(|place| scores[place] == f32::NEG_INFINITY) {
                counts[1] = 0;
            }
        }
        Ok(())
    }
}

fn check_views(views: &[Matrix<'_, f32>], weights: &[f32]) -> Result<()> {
    let Some(first) = views.first() else {
        return Err(Error::Value("views is empty; give one score matrix or more".into()));
    };
    if let Some(place) = views.iter().position(|v| (v.rows, v.columns) != (first.rows, first.columns)) {
        let other = &views[place];
        return Err(Error::Value(format!(
            "views[{place}] has shape ({}, {}) and views[0] ({}, {}); all views must have one shape",
            other.rows, other.columns, first.rows, first.columns
        )));
    }
    if weights.len() != views.len() {
        return Err(Error::Value(format!(
            "weights has {} entries for {} views; give one weight per view",
            weights.len(),
            views.len()
        )));
    }
    if let Some(place) = weights.iter().position(|weight| !weight.is_finite()) {
        return Err(Error::Value(format!(
            "weights[{place}] is {}; expected finite float32 numbers",
            weights[place]
        )));
    }
    Ok(())
}
