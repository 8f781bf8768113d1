//! Draws that are a function of (seed, row) alone: from a rank window, or from the whole catalogue.

use crate::error::{Error, Result};
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

    /// Draws `count` of `items` without replacement for row `row`: ascending, at the front of `items`.
    ///
    /// A partial Fisher-Yates shuffle (Knuth, TAOCP 2, 3.4.2, algorithm P, stopped after `count`).
    pub fn choose<'i, T: Ord>(&self, row: usize, items: &'i mut [T]) -> &'i [T] {
        let mut stream = Stream::new(derive_seed(self.seed, &[FROM_WINDOW]), self.rows[row]);
        for place in 0..self.count {
            let left = (items.len() - place) as u64;
            items.swap(place, place + stream.below(left) as usize);
        }
        let chosen = &mut items[..self.count];
        chosen.sort_unstable();
        chosen
    }
}

/// Positions in `0..population`, drawn as [`Draw::choose`] draws: `rows * count` values.
///
/// # Errors
/// `Value` for what [`Draw::check`] refuses, and for 0 threads.
pub fn window_positions(draw: &Draw<'_>, population: usize, threads: Option<usize>) -> Result<Vec<i64>> {
    let rows = draw.rows.len();
    draw.check(rows, population)?;
    let mut positions = vec![0; rows * draw.count];
    fill_rows(&mut positions, rows, draw.count, threads, |all: &mut Vec<i64>, row, out| {
        all.clear();
        all.extend(0..population as i64);
        out.copy_from_slice(draw.choose(row, all));
        Ok(())
    })?;
    Ok(positions)
}

/// Ids drawn uniformly with replacement from `0..num_items`: `rows * count` values.
///
/// # Errors
/// `Value` for an empty catalogue, more values than memory can address, and 0 threads.
pub fn uniform_items(draw: &Draw<'_>, num_items: u64, threads: Option<usize>) -> Result<Vec<i64>> {
    if num_items == 0 || i64::try_from(num_items).is_err() {
        return Err(Error::Value(format!("num_items is {num_items}; allowed: 1 to 2**63 - 1")));
    }
    let rows = draw.rows.len();
    let total = rows.checked_mul(draw.count).filter(|&total| total <= isize::MAX as usize / 8);
    let total = total.ok_or_else(|| {
        Error::Value(format!("count is {}, too many for {rows} rows; ask for fewer", draw.count))
    })?;
    let seed = derive_seed(draw.seed, &[FROM_CATALOGUE]);
    let mut ids = vec![0; total];
    fill_rows(&mut ids, rows, draw.count, threads, |_: &mut (), row, out| {
        let mut stream = Stream::new(seed, draw.rows[row]);
        out.fill_with(|| stream.below(num_items) as i64);
        Ok(())
    })?;
    Ok(ids)
}
