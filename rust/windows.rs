//! Rank windows: the items at ranks `start..stop` of each row of a matrix, as ids, as a mask or as bits.

use crate::brackets::Sample;
use crate::draws::{Draw, Drawn};
use crate::error::{Error, Result};
use crate::matrix::{Matrix, check_call};
use crate::simd;

use crate::select::Scratch;
use crate::threads::fill_rows;
use std::ops::Range;

fn check_window(window: &Range<usize>) -> Result<()> {
    if window.start > window.end {
        return Err(Error::Value(format!(
            "start is {} and stop is {}; start must not be above stop",
            window.start, window.end
        )));
    }
    Ok(())
}

/// Number of ids that [`rank_window`] writes per row.
#[must_use]
pub fn width(window: &Range<usize>, draw: Option<&Draw<'_>>) -> usize {
    draw.map_or(window.len(), |draw| draw.count)
}

/// Writes the ids at ranks `window` of each row, ascending, to `ids`; with `draw`, a sample of them.
///
/// # Errors
/// `Value` for a reversed window, for what [`check_call`] and [`Draw::check`] refuse, a NaN, too few
/// candidates, and 0 threads.
///
/// # Panics
/// If `ids` does not hold `rows * width` values.
pub fn rank_window(
    scores: Matrix<'_, f32>,
    window: Range<usize>,
    exclude: Matrix<'_, i64>,
    draw: Option<&Draw<'_>>,
    threads: Option<usize>,
    ids: &mut [i64],
) -> Result<()> {
    check_window(&window)?;
    check_call(&scores, &exclude, ("stop", window.end))?;
    if let Some(draw) = draw {
        draw.check(scores.rows, window.len())?;
    }
    let sample = Sample::new(scores.columns);
    let width = width(&window, draw);
    fill_rows(
        ids,
        scores.rows,
        width,
        threads,
        |(scratch, all, drawn): &mut (Scratch, Vec<i64>, Drawn), row, out| {
            scratch.mark(&sample, (row, scores.row(row), exclude.row(row)), &window, "stop")?;
            let Some(draw) = draw else {
                simd::expand(&scratch.marked, out);
                return Ok(());
            };
            all.resize(window.len(), 0);
            simd::expand(&scratch.marked, all);
            draw.positions(row, window.len(), drawn, out);
            for place in out {
                *place = all[*place as usize];
            }
            Ok(())
        },
    )
}

/// Writes to `mask`, for each row and item, whether its rank is in `window`.
///
/// # Errors
/// As [`rank_window`].
///
/// # Panics
/// If `mask` does not hold `rows * columns` values.
pub fn rank_window_mask(
    scores: Matrix<'_, f32>,
    window: Range<usize>,
    exclude: Matrix<'_, i64>,
    threads: Option<usize>,
    mask: &mut [bool],
) -> Result<()> {
    check_window(&window)?;
    check_call(&scores, &exclude, ("stop", window.end))?;
    let sample = Sample::new(scores.columns);
    fill_rows(mask, scores.rows, scores.columns, threads, |scratch: &mut Scratch, row, out| {
        scratch.mark(&sample, (row, scores.row(row), exclude.row(row)), &window, "stop")?;
        for (flags, word) in out.chunks_mut(64).zip(&scratch.marked) {
            for (place, flag) in flags.iter_mut().enumerate() {
                *flag = word >> place & 1 == 1;
            }
        }
        Ok(())
    })
}

/// Writes the window of each row to `bytes`: bit `i % 8` of byte `i / 8` is item `i`.
///
/// # Errors
/// As [`rank_window`].
///
/// # Panics
/// If `bytes` does not hold `rows * columns.div_ceil(8)` values.
pub fn rank_window_bits(
    scores: Matrix<'_, f32>,
    window: Range<usize>,
    exclude: Matrix<'_, i64>,
    threads: Option<usize>,
    bytes: &mut [u8],
) -> Result<()> {
    check_window(&window)?;
    check_call(&scores, &exclude, ("stop", window.end))?;
    let sample = Sample::new(scores.columns);
    fill_rows(bytes, scores.rows, scores.columns.div_ceil(8), threads, |scratch: &mut Scratch, row, out| {
        scratch.mark(&sample, (row, scores.row(row), exclude.row(row)), &window, "stop")?;
        write_bytes(&scratch.marked, out);
        Ok(())
    })
}

/// Writes the words of a bitmap as bytes, as many as `out` has.
pub(crate) fn write_bytes(marked: &[u64], out: &mut [u8]) {
    for (bytes, word) in out.chunks_mut(8).zip(marked) {
        bytes.copy_from_slice(&word.to_le_bytes()[..bytes.len()]);
    }
}
