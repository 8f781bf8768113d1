//! Random draws from a rank window or from the whole catalogue, as functions of (seed, row) alone.

use crate::bits;
use crate::error::{Error, Result};
use crate::random::{Stream, derive_seed};
use crate::simd;
use crate::threads::fill_rows;

// One word per kind of draw, so that the same seed and row give independent numbers to each.
const FROM_WINDOW: u64 = 1;
const FROM_CATALOGUE: u64 = 2;

/// The size of a draw and the numbers that determine it.
#[derive(Debug, Clone, Copy)]
pub struct Draw<'a> {
    /// How many to draw for each row.
    pub count: usize,
    /// The seed, the same for all rows.
    pub seed: u64,
    /// A number that identifies each row, independently of its batch.
    pub rows: &'a [u64],
}

impl Draw<'_> {
    /// Checks that there is one number per row and that the population is large enough.
    ///
    /// # Errors
    /// `Value` if not.
    pub fn check(&self, rows: usize, population: usize) -> Result<()> {
        if self.rows.len() != rows {
            return Err(Error::Value(format!(
                "rows has {} entries; expected one for each of the {rows} rows",
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
    /// If `count` is more than `population` or than `out` holds.
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
        simd::expand(marked, out);
    }
}

/// Memory that one thread uses for all its draws: the positions as a bitmap.
#[derive(Debug, Default)]
pub(crate) struct Drawn(Vec<u64>);

/// Draws positions in `0..population`, in the same way as `windows::rank_window`, into `positions`.
///
/// # Errors
/// `Value` for what [`Draw::check`] refuses, and for 0 threads.
///
/// # Panics
/// If `positions` does not hold `rows * count` values.
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

/// Draws ids uniformly with replacement from `0..num_items` into `ids`.
///
/// # Errors
/// `Value` for an empty catalogue and for 0 threads.
///
/// # Panics
/// If `ids` does not hold `rows * count` values.
pub fn uniform_items(draw: &Draw<'_>, num_items: u64, threads: Option<usize>, ids: &mut [i64]) -> Result<()> {
    if num_items == 0 || i64::try_from(num_items).is_err() {
        return Err(Error::Value(format!("num_items is {num_items}; expected 1 to 2**63 - 1")));
    }
    let seed = derive_seed(draw.seed, &[FROM_CATALOGUE]);
    fill_rows(ids, draw.rows.len(), draw.count, threads, |_: &mut (), row, out| {
        let mut stream = Stream::new(seed, draw.rows[row]);
        out.fill_with(|| stream.below(num_items) as i64);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws are equal on every platform; `tests/python/oracle.py` has the same numbers.
    #[test]
    fn known_draws() {
        let draw = Draw { count: 6, seed: 7, rows: &[0, 1, u64::MAX] };
        let (mut positions, mut items) = ([0; 18], [0; 18]);
        window_positions(&draw, 100, Some(2), &mut positions).unwrap();
        uniform_items(&draw, 1 << 40, Some(2), &mut items).unwrap();
        assert_eq!(positions, [11, 13, 34, 61, 78, 92, 0, 59, 69, 77, 95, 96, 2, 14, 30, 71, 89, 97]);
        let rows: Vec<&[i64]> = items.chunks(6).collect();
        assert_eq!(rows[0][..3], [857_922_563_228, 1_088_017_225_846, 969_684_529_833]);
        assert_eq!(rows[1][..3], [766_929_604_254, 614_143_960_972, 796_218_824_418]);
        assert_eq!(rows[2][..3], [607_604_840_763, 33_683_250_914, 317_591_956_667]);
    }

    #[test]
    fn every_set_of_positions_is_equally_likely() {
        // 5 choose 2 sets in 20,000 rows: chi-square with 9 degrees of freedom, 0.999 quantile.
        let rows: Vec<u64> = (0..20_000).collect();
        let mut positions = vec![0; 40_000];
        window_positions(&Draw { count: 2, seed: 3, rows: &rows }, 5, None, &mut positions).unwrap();
        let mut counts = [0_u32; 25];
        for pair in positions.chunks(2) {
            counts[(5 * pair[0] + pair[1]) as usize] += 1;
        }
        let drawn: Vec<f64> = counts.iter().filter(|&&count| count > 0).map(|&count| count.into()).collect();
        assert_eq!(drawn.len(), 10);
        let chi2: f64 = drawn.iter().map(|count| (count - 2000.0).powi(2) / 2000.0).sum();
        assert!(chi2 < 27.9, "chi-square {chi2}");
    }
}
