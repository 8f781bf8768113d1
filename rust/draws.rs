//! Draws that are a function of (seed, row) alone: from a rank window, or from the whole catalogue.

use crate::bits;
use crate::error::{Error, Result};
use crate::machine;
use crate::random::{Stream, derive_seed};
use crate::threads::fill_rows;

// One word for each kind of draw, so that the same seed and row give unrelated numbers to both.
const FROM_WINDOW: u64 = 1;
const FROM_CATALOGUE: u64 = 2;

/// How many to draw, and what the draw is a function of.
#[derive(Debug, Clone, Copy)]
pub struct Draw<'a> {
    /// How many to draw of each row.
    pub count: usize,
    /// The seed that all rows share.
    pub seed: u64,
    /// The number that names each row, whatever batch it is in.
    pub rows: &'a [u64],
}

impl Draw<'_> {
    /// Checks that there is one name a row and that `population` suffices.
    ///
    /// # Errors
    /// `Value` otherwise.
    pub fn check(&self, rows: usize, population: usize) -> Result<()> {
        if self.rows.len() != rows {
            return Err(Error::Value(format!(
                "rows has {} entries; allowed: one for each of the {rows} rows",
                self.rows.len()
            )));
        }
        if self.count > population {
            return Err(Error::Value(format!(
                "sample is {}, but the window has only {population} ranks; ask for at most {population}",
                self.count
            )));
        }
        Ok(())
    }

    /// Draws `count` of the positions `0..population` without replacement for row `row`, ascending.
    ///
    /// Each set of positions is equally likely (Floyd's algorithm: Bentley and Floyd, "Programming
    /// pearls: a sample of brilliance", CACM 30(9), 1987).
    ///
    /// # Panics
    /// When `count` is more than `population` or than `out` holds.
    pub(crate) fn positions(&self, row: usize, population: usize, drawn: &mut Drawn, out: &mut [i64]) {
        let mut stream = Stream::new(derive_seed(self.seed, &[FROM_WINDOW]), self.rows[row]);
        let marked = &mut drawn.0;
        marked.clear();
        marked.resize(bits::words_for(population), 0);
        for last in population - self.count..population {
            let position = stream.below_u32(last as u32 + 1) as usize;
            if !bits::insert(marked, position) {
                bits::insert(marked, last);
            }
        }
        machine::expand(marked, out);
    }
}

/// What one thread keeps between draws: the positions as a bitmap.
#[derive(Debug, Default)]
pub(crate) struct Drawn(Vec<u64>);

/// Positions in `0..population`, drawn as [`crate::windows::rank_window`] draws, into `positions`.
///
/// # Errors
/// `Value` for what [`Draw::check`] refuses, and for 0 threads.
///
/// # Panics
/// When `positions` does not hold `rows * count` values.
pub fn window_positions(
    draw: &Draw<'_>,
    population: usize,
    threads: Option<usize>,
    positions: &mut [i64],
) -> Result<()> {
    let rows = draw.rows.len();
    draw.check(rows, population)?;
    fill_rows(positions, rows, draw.count, threads, |drawn: &mut Drawn, row, out| {
        draw.positions(row, population, drawn, out);
        Ok(())
    })
}

/// Ids drawn uniformly with replacement from `0..num_items`, into `ids`.
///
/// # Errors
/// `Value` for an empty catalogue and for 0 threads.
///
/// # Panics
/// When `ids` does not hold `rows * count` values.
pub fn uniform_items(draw: &Draw<'_>, num_items: u64, threads: Option<usize>, ids: &mut [i64]) -> Result<()> {
    if num_items == 0 || i64::try_from(num_items).is_err() {
        return Err(Error::Value(format!("num_items is {num_items}; allowed: 1 to 2**63 - 1")));
    }
    let seed = derive_seed(draw.seed, &[FROM_CATALOGUE]);
    fill_rows(ids, draw.rows.len(), draw.count, threads, |_: &mut (), row, out| {
        let mut stream = Stream::new(seed, draw.rows[row]);
        out.fill_with(|| stream.below(num_items) as i64);
        Ok(())
    })
}
