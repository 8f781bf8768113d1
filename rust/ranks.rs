//! Exact ranks: how many items score above a target and how many score the same.

use crate::error::{Error, Result};
use crate::select::{Matrix, check_exclude, check_scores, excluded_ids};
use crate::threads::fill_rows;

/// Items strictly above the target, and items equal to it (the target itself included).
pub type Counts = [i64; 2];

// Small enough that one block of a few views and their sum stays in the first-level cache.
const BLOCK: usize = 1024;

fn count(block: &[f32], target: f32) -> Counts {
    // 32-bit sums vectorise, and a block is far too short to overflow them.
    let greater: u32 = block.iter().map(|&score| u32::from(score > target)).sum();
    let tied: u32 = block.iter().map(|&score| u32::from(score == target)).sum();
    [i64::from(greater), i64::from(tied)]
}

fn add(counts: &mut Counts, more: Counts) {
    counts[0] += more[0];
    counts[1] += more[1];
}

/// Takes one excluded item out of the counts.
fn leave_out(counts: &mut Counts, score: f32, target: f32) {
    counts[0] -= i64::from(score > target);
    counts[1] -= i64::from(score == target);
}

fn check_target(row: usize, target: i64, num_items: usize) -> Result<usize> {
    match usize::try_from(target) {
        Ok(id) if id < num_items => Ok(id),
        _ => Err(Error::Value(format!(
            "targets: row {row} has the id {target}; allowed: 0 to {} (the catalogue has {num_items} items)",
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

/// The counts of each row's target; excluded items are not counted, the target always is.
///
/// # Errors
/// `Value` for shapes that differ, a NaN, an id outside the catalogue, and 0 threads.
pub fn target_counts(
    scores: Matrix<'_, f32>,
    targets: &[i64],
    exclude: Matrix<'_, i64>,
    threads: Option<usize>,
) -> Result<Vec<Counts>> {
    check_targets(&scores, targets, &exclude)?;
    let mut counts = vec![[0; 2]; scores.rows];
    fill_rows(&mut counts, scores.rows, 1, threads, |excluded: &mut Vec<u32>, row, out| {
        let scores = scores.row(row);
        let target_id = check_target(row, targets[row], scores.len())?;
        excluded_ids(row, exclude.row(row), scores.len(), excluded)?;
        let target = scores[target_id];
        for (block, first) in scores.chunks(BLOCK).zip((0..).step_by(BLOCK)) {
            check_scores("scores", row, first, block)?;
            add(&mut out[0], count(block, target));
        }
        for id in excluded.iter().map(|&id| id as usize).filter(|&id| id != target_id) {
            leave_out(&mut out[0], scores[id], target);
        }
        Ok(())
    })?;
    Ok(counts)
}

/// The weighted sum of `views` at one place, added in float32 in the order of the views.
///
/// The first product starts the sum, so that one view of weight 1 is itself.
fn weighted(views: &[&[f32]], weights: &[f32], id: usize) -> f32 {
    let products = views.iter().zip(weights).map(|(view, weight)| weight * view[id]);
    products.reduce(|sum, product| sum + product).unwrap_or(0.0)
}

fn weighted_block(views: &[&[f32]], weights: &[f32], first: usize, sums: &mut [f32]) {
    for (place, (view, weight)) in views.iter().zip(weights).enumerate() {
        let scores = &view[first..first + sums.len()];
        for (sum, score) in sums.iter_mut().zip(scores) {
            let product = weight * score;
            *sum = if place == 0 { product } else { *sum + product };
        }
    }
}

/// The counts of each row's target in each view and, last, in their weighted sum, in one pass.
///
/// Row after row: `rows * (views + 1)` values. The sum is added in float32 in the order of the views
/// and is never stored beyond one block.
///
/// # Errors
/// As [`target_counts`], for no views, for views of different shapes, and for weights that are not
/// finite or not one a view; a sum that is NaN (opposite infinities) is refused too.
pub fn fused_target_counts(
    views: &[Matrix<'_, f32>],
    weights: &[f32],
    targets: &[i64],
    exclude: Matrix<'_, i64>,
    threads: Option<usize>,
) -> Result<Vec<Counts>> {
    check_views(views, weights)?;
    check_targets(&views[0], targets, &exclude)?;
    let (rows, num_items, width) = (views[0].rows, views[0].columns, views.len() + 1);
    let names: Vec<String> = (0..views.len()).map(|view| format!("views[{view}]")).collect();
    let mut counts = vec![[0; 2]; rows * width];
    fill_rows(&mut counts, rows, width, threads, |excluded: &mut Vec<u32>, row, out| {
        let views: Vec<&[f32]> = views.iter().map(|view| view.row(row)).collect();
        let target_id = check_target(row, targets[row], num_items)?;
        excluded_ids(row, exclude.row(row), num_items, excluded)?;
        let target_sum = weighted(&views, weights, target_id);
        let (of_sum, of_views) = out.split_last_mut().expect("one row for the sum");
        let mut sums = [0.0; BLOCK];
        for first in (0..num_items).step_by(BLOCK) {
            let sums = &mut sums[..BLOCK.min(num_items - first)];
            weighted_block(&views, weights, first, sums);
            for ((view, name), counts) in views.iter().zip(&names).zip(&mut *of_views) {
                let block = &view[first..first + sums.len()];
                check_scores(name, row, first, block)?;
                add(counts, count(block, view[target_id]));
            }
            check_scores("weighted sum of views", row, first, sums)?;
            add(of_sum, count(sums, target_sum));
        }
        for id in excluded.iter().map(|&id| id as usize).filter(|&id| id != target_id) {
            for (view, counts) in views.iter().zip(&mut *of_views) {
                leave_out(counts, view[id], view[target_id]);
            }
            leave_out(of_sum, weighted(&views, weights, id), target_sum);
        }
        Ok(())
    })?;
    Ok(counts)
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
            "weights has {} entries for {} views; give one weight a view",
            weights.len(),
            views.len()
        )));
    }
    if let Some(place) = weights.iter().position(|weight| !weight.is_finite()) {
        return Err(Error::Value(format!(
            "weights[{place}] is {}; allowed: finite float32 numbers",
            weights[place]
        )));
    }
    Ok(())
}
