//! Rank windows between known cuts, and the counts of keys by which cuts are found.
//!
//! Where the items are divided among processes, each has some columns of the scores. A cut of the whole rank
//! order is found from 8 bits of its key at a time: the processes count the keys of their candidates
//! ([`key_counts`]) and add the counts. Each then marks its part of the window ([`window_bits`]) or returns
//! items of it ([`window_members`]).

use crate::brackets::{UNBOUNDED, just_above, just_below};
use crate::error::{Error, Result};
use crate::keys::{Bracket, Kept, key_score, score_key};
use crate::matrix::{Matrix, check_exclude, excluded_ids};
use crate::select::{Cut, Scratch, collect};
use crate::simd;
use crate::threads::fill_rows;
use crate::windows::write_bytes;

/// The keys of the infinities; keys beyond them belong to no score.
const MOST: u32 = 0x007f_ffff;
const LEAST: u32 = 0xff80_0000;

/// Number of values of the 8 bits that [`key_counts`] counts.
pub const BINS: usize = 256;

/// Counts the candidates of each row by 8 bits of their [`score_key`], among those with a given prefix.
///
/// # Arguments
/// - `prefixes`: for each row, the upper `known` bits of the keys to count, in one or two columns.
/// - `known`: 0, 8, 16 or 24.
/// - `counts`: for each row and prefix, 256 counts by the next 8 bits.
///
/// # Errors
/// `Value` for matrices of other sizes, a prefix or `known` out of range, a NaN, an excluded id outside the
/// catalogue, and 0 threads.
///
/// # Panics
/// If `counts` does not hold 256 values for each prefix.
pub fn key_counts(
    scores: Matrix<'_, f32>,
    prefixes: Matrix<'_, i64>,
    known: u32,
    exclude: Matrix<'_, i64>,
    threads: Option<usize>,
    counts: &mut [i64],
) -> Result<()> {
    check_exclude(&scores, &exclude)?;
    check_rows("prefixes", &prefixes, scores.rows)?;
    if !(1..=2).contains(&prefixes.columns) {
        return Err(Error::Value(format!("prefixes has {} columns; expected 1 or 2", prefixes.columns)));
    }
    if known > 24 || !known.is_multiple_of(8) {
        return Err(Error::Value(format!("known is {known}; expected 0, 8, 16 or 24 bits")));
    }
    if let Some(prefix) = prefixes.data.iter().find(|&&prefix| !(0..1 << known).contains(&prefix)) {
        return Err(Error::Value(format!("prefixes has the value {prefix}; expected {known} bits")));
    }
    let shift = 24 - known;
    fill_rows(
        counts,
        scores.rows,
        prefixes.columns * BINS,
        threads,
        |(kept, excluded): &mut (Vec<Kept>, Vec<u32>), number, out| {
            let row = scores.row(number);
            excluded_ids(number, exclude.row(number), row.len(), excluded)?;
            kept.resize_with(prefixes.columns, Kept::default);
            for (kept, &prefix) in kept.iter_mut().zip(prefixes.row(number)) {
                kept.start(keys_with(prefix as u32, known));
            }
            collect(number, row, kept)?;
            for ((kept, &prefix), out) in
                kept.iter().zip(prefixes.row(number)).zip(out.as_chunks_mut::<BINS>().0)
            {
                // The place of a key with another prefix is beyond the bins.
                let place = |key: u32| (key >> shift).wrapping_sub((prefix as u32) << 8) as usize;
                // Equal keys often follow each other, and each addition would wait for the last one.
                let mut bins = [[0_u32; BINS]; 8];
                let add = |bins: &mut [u32; BINS], key| {
                    if let Some(count) = bins.get_mut(place(key)) {
                        *count += 1;
                    }
                };
                let (eights, rest) = kept.keys[..kept.found].as_chunks::<8>();
                for eight in eights {
                    for (bins, &key) in bins.iter_mut().zip(eight) {
                        add(bins, key);
                    }
                }
                for &key in rest {
                    add(&mut bins[0], key);
                }
                for (at, count) in out.iter_mut().enumerate() {
                    *count = bins.iter().map(|bins| i64::from(bins[at])).sum();
                }
                for &id in &*excluded {
                    if let Some(count) = out.get_mut(place(score_key(row[id as usize]))) {
                        *count -= 1;
                    }
                }
            }
            Ok(())
        },
    )
}

/// Returns the bracket of the scores whose keys have a prefix of `known` bits.
fn keys_with(prefix: u32, known: u32) -> Bracket {
    if known == 0 {
        return Bracket { low: UNBOUNDED, high: UNBOUNDED };
    }
    let first = prefix << (32 - known);
    let (first, last) = (first.max(MOST), (first | u32::MAX >> known).min(LEAST));
    if first > last {
        return Bracket { low: f32::INFINITY, high: f32::INFINITY };
    }
    Bracket { low: just_below(key_score(last)), high: just_above(key_score(first)) }
}

fn check_rows(name: &str, matrix: &Matrix<'_, i64>, rows: usize) -> Result<()> {
    if matrix.rows == rows {
        return Ok(());
    }
    Err(Error::Value(format!(
        "{name} has {} rows and scores has {rows}; give one row for each row of scores",
        matrix.rows
    )))
}

/// Two cuts through the rank order of each row: before the window, and after it.
///
/// Each matrix has two columns. A cut follows all candidates with smaller keys and the first `taken` of those
/// with its own key, of which the row has `ties`.
#[derive(Debug, Clone, Copy)]
pub struct Cuts<'a> {
    /// The key of each cut, which is that of a score, though not necessarily of one of the row.
    pub keys: Matrix<'a, i64>,
    /// How many candidates with this key are before the cut.
    pub taken: Matrix<'a, i64>,
    /// How many candidates have this key.
    pub ties: Matrix<'a, i64>,
}

impl Cuts<'_> {
    fn check(&self, scores: &Matrix<'_, f32>) -> Result<()> {
        for (name, matrix) in [("keys", &self.keys), ("taken", &self.taken), ("ties", &self.ties)] {
            check_rows(name, matrix, scores.rows)?;
            if matrix.columns != 2 {
                return Err(Error::Value(format!("{name} has {} columns; expected 2", matrix.columns)));
            }
        }
        let scored = i64::from(MOST)..=i64::from(LEAST);
        for row in 0..scores.rows {
            let (keys, taken, ties) = (self.keys.row(row), self.taken.row(row), self.ties.row(row));
            let fits = |at: usize| {
                scored.contains(&keys[at])
                    && (0..=ties[at]).contains(&taken[at])
                    && ties[at] <= scores.columns as i64
            };
            if !fits(0) || !fits(1) || (keys[0], taken[0]) > (keys[1], taken[1]) {
                return Err(Error::Value(format!(
                    "row {row} has cuts with keys {keys:?}, {taken:?} of {ties:?} ties; expected two cuts in \
                     the rank order"
                )));
            }
        }
        Ok(())
    }

    fn of(&self, row: usize) -> [Cut; 2] {
        [0, 1].map(|at| Cut {
            score: key_score(self.keys.row(row)[at] as u32),
            taken: self.taken.row(row)[at] as usize,
            ties: self.ties.row(row)[at] as usize,
        })
    }
}

/// Writes the candidates between the cuts of each row to `bytes`: bit `i % 8` of byte `i / 8` is item `i`.
///
/// # Errors
/// `Value` for matrices of other sizes, cuts in the wrong order, a NaN, an excluded id outside the catalogue,
/// and 0 threads.
///
/// # Panics
/// If `bytes` does not hold `rows * columns.div_ceil(8)` values.
pub fn window_bits(
    scores: Matrix<'_, f32>,
    cuts: &Cuts<'_>,
    exclude: Matrix<'_, i64>,
    threads: Option<usize>,
    bytes: &mut [u8],
) -> Result<()> {
    check_exclude(&scores, &exclude)?;
    cuts.check(&scores)?;
    fill_rows(bytes, scores.rows, scores.columns.div_ceil(8), threads, |scratch: &mut Scratch, row, out| {
        scratch.mark_cut((row, scores.row(row), exclude.row(row)), cuts.of(row))?;
        write_bytes(&scratch.marked, out);
        Ok(())
    })
}

/// Writes the ids at some `places` among the candidates between the cuts of each row, which are in the order of
/// their ids; the id at place -1 is -1.
///
/// # Errors
/// As [`window_bits`], and for a place that the window does not have.
///
/// # Panics
/// If `ids` does not hold as many values as `places`.
pub fn window_members(
    scores: Matrix<'_, f32>,
    cuts: &Cuts<'_>,
    exclude: Matrix<'_, i64>,
    places: Matrix<'_, i64>,
    threads: Option<usize>,
    ids: &mut [i64],
) -> Result<()> {
    check_exclude(&scores, &exclude)?;
    check_rows("places", &places, scores.rows)?;
    cuts.check(&scores)?;
    fill_rows(
        ids,
        scores.rows,
        places.columns,
        threads,
        |(scratch, all): &mut (Scratch, Vec<i64>), row, out| {
            scratch.mark_cut((row, scores.row(row), exclude.row(row)), cuts.of(row))?;
            all.resize(scratch.marked.iter().map(|word| word.count_ones() as usize).sum(), 0);
            simd::expand(&scratch.marked, all);
            for (id, &place) in out.iter_mut().zip(places.row(row)) {
                *id = match usize::try_from(place).map(|place| all.get(place)) {
                    Ok(Some(&id)) => id,
                    Err(_) if place == -1 => -1,
                    _ => {
                        return Err(Error::Value(format!(
                            "places: row {row} has the place {place}; expected 0 to {}, or -1 as padding",
                            all.len() as i64 - 1
                        )));
                    }
                };
            }
            Ok(())
        },
    )
}
