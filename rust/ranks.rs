//! Exact ranks: the number of items that score above a target and the number that score the same.

use crate::error::{Error, Result};
use crate::keys::Tally;
use crate::matrix::{Matrix, check_exclude, excluded_ids, not_a_number};
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
            out[0][1] = 0;
        }
        Ok(())
    })?;
    Ok(counts)
}

/// The weighted sum of `views` at one item, added in the same order as in `passes::fused_tally`.
fn weighted(views: &[&[f32]], weights: &[f32], id: usize) -> f32 {
    let products = views.iter().zip(weights).map(|(view, weight)| weight * view[id]);
    products.reduce(|sum, product| sum + product).unwrap_or(0.0)
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
    fill_rows(
        &mut counts,
        rows,
        width,
        threads,
        |(excluded, tallies): &mut (Vec<u32>, Vec<Tally>), row, out| {
            let views: Vec<&[f32]> = views.iter().map(|view| view.row(row)).collect();
            let target_id = check_target(row, targets[row], num_items)?;
            excluded_ids(row, exclude.row(row), num_items, excluded)?;
            let at = |id: usize| {
                let sum = weighted(&views, weights, id);
                views.iter().map(|view| view[id]).chain([sum]).collect::<Vec<f32>>()
            };
            let target_scores = at(target_id);
            tallies.clear();
            tallies.resize(width, Tally::default());
            simd::fused_tally(&views, weights, &target_scores, tallies);
            if tallies.iter().any(|tally| tally.nan > 0) {
                return Err(not_a_number_in(&views, weights, row));
            }
            for (counts, tally) in out.iter_mut().zip(tallies) {
                *counts = Counts::from(*tally);
            }
            for id in excluded.iter().map(|&id| id as usize).filter(|&id| id != target_id) {
                for ((counts, score), &target) in out.iter_mut().zip(at(id)).zip(&target_scores) {
                    leave_out(counts, score, target);
                }
            }
            if rule == ExcludedTarget::Missed && contains(excluded, target_id) {
                out.iter_mut().for_each(|counts| counts[1] = 0);
            }
            Ok(())
        },
    )?;
    Ok(counts)
}

/// The error for the first NaN of a row, in a view or otherwise in the sum.
fn not_a_number_in(views: &[&[f32]], weights: &[f32], row: usize) -> Error {
    for (place, view) in views.iter().enumerate() {
        if view.iter().any(|score| score.is_nan()) {
            return not_a_number(&format!("views[{place}]"), row, view);
        }
    }
    let sums: Vec<f32> = (0..views[0].len()).map(|id| weighted(views, weights, id)).collect();
    not_a_number("weighted sum of views", row, &sums)
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
