//! Slow, obvious twins of the ranking kernels, for the property tests here and the fuzz targets in `fuzz/`.

#![allow(dead_code, reason = "its users need different parts of it")]

use alterrec_core::draws::{self, Draw};
use alterrec_core::error::Result;
use alterrec_core::instructions::{Instructions, use_only};
use alterrec_core::matrix::Matrix;
use alterrec_core::ranks::ExcludedTarget;
use alterrec_core::{select, windows};
use std::cmp::Ordering;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Runs `check` on each instruction set that this processor has; one test at a time, for all share the set.
pub fn on_each_set<R>(mut check: impl FnMut() -> std::result::Result<(), R>) -> std::result::Result<(), R> {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut result = Ok(());
    for set in Instructions::available() {
        use_only(Some(set)).unwrap();
        result = result.and_then(|()| check());
    }
    use_only(None).unwrap();
    result
}

pub fn rank_window(
    scores: Matrix<'_, f32>,
    window: Range<usize>,
    exclude: Matrix<'_, i64>,
    draw: Option<&Draw<'_>>,
    threads: Option<usize>,
) -> Result<Vec<i64>> {
    let mut ids = vec![-7; scores.rows * windows::width(&window, draw)];
    windows::rank_window(scores, window, exclude, draw, threads, &mut ids).map(|()| ids)
}

pub fn rank_window_mask(
    scores: Matrix<'_, f32>,
    window: Range<usize>,
    exclude: Matrix<'_, i64>,
    threads: Option<usize>,
) -> Result<Vec<bool>> {
    let mut mask = vec![true; scores.data.len()];
    windows::rank_window_mask(scores, window, exclude, threads, &mut mask).map(|()| mask)
}

pub fn top_ranked(
    scores: Matrix<'_, f32>,
    k: usize,
    exclude: Matrix<'_, i64>,
    threads: Option<usize>,
) -> Result<Vec<i64>> {
    let mut ids = vec![-7; scores.rows * k];
    select::top_ranked(scores, k, exclude, threads, &mut ids).map(|()| ids)
}

pub fn window_positions(draw: &Draw<'_>, population: usize, threads: Option<usize>) -> Result<Vec<i64>> {
    let mut positions = vec![-7; draw.rows.len() * draw.count];
    draws::window_positions(draw, population, threads, &mut positions).map(|()| positions)
}

/// Rows of scores, ids to leave out of each (-1 is padding), and one target a row.
#[derive(Debug, Clone)]
pub struct Case {
    pub columns: usize,
    pub scores: Vec<f32>,
    pub excluded_columns: usize,
    pub exclude: Vec<i64>,
    pub targets: Vec<i64>,
}

impl Case {
    pub fn rows(&self) -> usize {
        self.targets.len()
    }

    pub fn scores(&self) -> Matrix<'_, f32> {
        Matrix::new(&self.scores, self.rows(), self.columns).unwrap()
    }

    pub fn exclude(&self) -> Matrix<'_, i64> {
        Matrix::new(&self.exclude, self.rows(), self.excluded_columns).unwrap()
    }

    /// The candidates of a row in rank order.
    pub fn ranking(&self, row: usize) -> Vec<i64> {
        let (scores, excluded) = (self.scores().row(row), self.exclude().row(row));
        let mut ids: Vec<i64> = (0..self.columns as i64).filter(|id| !excluded.contains(id)).collect();
        // A stable sort keeps the lower id first.
        ids.sort_by(|&a, &b| scores[b as usize].partial_cmp(&scores[a as usize]).unwrap_or(Ordering::Equal));
        ids
    }

    /// Whether all scores are numbers and all exclusions are items or padding.
    pub fn is_valid(&self) -> bool {
        let known = |id: &i64| (-1..self.columns as i64).contains(id);
        !self.scores.iter().any(|score| score.is_nan()) && self.exclude.iter().all(known)
    }

    pub fn fewest_candidates(&self) -> usize {
        (0..self.rows()).map(|row| self.ranking(row).len()).min().unwrap_or(self.columns)
    }

    pub fn windows(&self, start: usize, stop: usize) -> Vec<i64> {
        let sorted = |row| {
            let mut ids = self.ranking(row)[start..stop].to_vec();
            ids.sort_unstable();
            ids
        };
        (0..self.rows()).flat_map(sorted).collect()
    }

    pub fn counts(&self, scores: &[f32], rule: ExcludedTarget) -> Vec<[i64; 2]> {
        let count = |row: usize| {
            let values = &scores[row * self.columns..][..self.columns];
            let target = self.targets[row];
            let excluded = self.exclude().row(row);
            let ranked = rule == ExcludedTarget::Ranked;
            let counted = |id: &i64| (ranked && *id == target) || !excluded.contains(id);
            let of = |wanted: Ordering| {
                let ids = (0..self.columns as i64).filter(counted);
                ids.filter(|&id| values[id as usize].partial_cmp(&values[target as usize]) == Some(wanted))
                    .count() as i64
            };
            [of(Ordering::Greater), if counted(&target) { of(Ordering::Equal) } else { 0 }]
        };
        (0..self.rows()).map(count).collect()
    }
}
