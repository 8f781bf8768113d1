//! Rank windows: the items at ranks `start..stop` of each row, as ids or as a mask.

use crate::draws::Draw;
use crate::error::{Error, Result};
use crate::select::{Matrix, Scratch, candidate_runs, check_call, rank_key};
use crate::threads::fill_rows;
use std::ops::Range;

/// The keys of one window: from the one at its first rank to the one at its last.
///
/// Keys are unique, so the two cut a row exactly, ties included, and one pass in id order needs no sort.
struct Bounds {
    first: u64,
    span: u64,
}

impl Bounds {
    /// The bounds of a window that is not empty; reorders `keys`.
    fn new(keys: &mut [u64], window: &Range<usize>) -> Self {
        let (above, &mut last, _) = keys.select_nth_unstable(window.end - 1);
        let first =
            if window.start + 1 == window.end { last } else { *above.select_nth_unstable(window.start).1 };
        Self { first, span: last - first }
    }

    // One comparison: keys below `first` wrap around to values above every span.
    #[inline]
    fn contain(&self, score: f32, id: usize) -> bool {
        rank_key(score, id as u32).wrapping_sub(self.first) <= self.span
    }
}

/// Replaces `ids` by the window of the row loaded into `scratch`, ascending.
fn window_ids(scratch: &mut Scratch, scores: &[f32], window: &Range<usize>, ids: &mut Vec<i64>) {
    ids.clear();
    if window.is_empty() {
        return;
    }
    let bounds = Bounds::new(&mut scratch.keys, window);
    // Every id is written and only those inside advance: no branch to mispredict. The spare place takes
    // what is written after the last.
    ids.resize(window.len() + 1, 0);
    let mut found = 0;
    for run in candidate_runs(&scratch.excluded, scores.len()) {
        for id in run {
            ids[found] = id as i64;
            found += usize::from(bounds.contain(scores[id], id));
        }
    }
    ids.truncate(window.len());
}

fn check_window(window: &Range<usize>) -> Result<()> {
    if window.start > window.end {
        return Err(Error::Value(format!(
            "start is {} and stop is {}; allowed: start at most stop",
            window.start, window.end
        )));
    }
    Ok(())
}

/// The ids at ranks `window` of each row, ascending; with `draw`, that many of them.
///
/// # Errors
/// `Value` for a reversed window, for what [`check_call`], [`Scratch::load`] and [`Draw::check`]
/// refuse, and for 0 threads.
pub fn rank_window(
    scores: Matrix<'_, f32>,
    window: Range<usize>,
    exclude: Matrix<'_, i64>,
    draw: Option<&Draw<'_>>,
    threads: Option<usize>,
) -> Result<Vec<i64>> {
    check_window(&window)?;
    let needed = ("stop", window.end);
    check_call(&scores, &exclude, needed)?;
    if let Some(draw) = draw {
        draw.check(scores.rows, window.len())?;
    }
    let width = draw.map_or(window.len(), |draw| draw.count);
    let mut ids = vec![0; scores.rows * width];
    fill_rows(
        &mut ids,
        scores.rows,
        width,
        threads,
        |(scratch, all): &mut (Scratch, Vec<i64>), row, out| {
            scratch.load(row, scores.row(row), exclude.row(row), needed)?;
            window_ids(scratch, scores.row(row), &window, all);
            match draw {
                Some(draw) => out.copy_from_slice(draw.choose(row, all)),
                None => out.copy_from_slice(all),
            }
            Ok(())
        },
    )?;
    Ok(ids)
}

/// For each row and item, whether its rank is in `window`: `rows * columns` values.
///
/// # Errors
/// As [`rank_window`].
pub fn rank_window_mask(
    scores: Matrix<'_, f32>,
    window: Range<usize>,
    exclude: Matrix<'_, i64>,
    threads: Option<usize>,
) -> Result<Vec<bool>> {
    check_window(&window)?;
    let needed = ("stop", window.end);
    check_call(&scores, &exclude, needed)?;
    let mut mask = vec![false; scores.data.len()];
    fill_rows(&mut mask, scores.rows, scores.columns, threads, |scratch: &mut Scratch, row, out| {
        scratch.load(row, scores.row(row), exclude.row(row), needed)?;
        if window.is_empty() {
            return Ok(());
        }
        let bounds = Bounds::new(&mut scratch.keys, &window);
        for id in candidate_runs(&scratch.excluded, out.len()).flatten() {
            out[id] = bounds.contain(scores.row(row)[id], id);
        }
        Ok(())
    })?;
    Ok(mask)
}
