//! The passes over the products of queries with a table of whole numbers, in plain Rust that compilers vectorise.
//!
//! Products of whole numbers are exact, so every instruction set gives the same bits.

use crate::mixture_passes::power;

/// Items of a block.
pub(crate) const ITEMS: usize = 64;

/// Two neighbouring columns of a vector of whole numbers.
pub(crate) type Pair = [i16; 2];

/// Values of one block for one pair of columns.
pub(crate) const STEP: usize = 2 * ITEMS;

/// Fills rows of `out`, one for each query of `pairs` pairs, with its products with the items of whole blocks.
#[inline(always)]
pub(crate) fn whole_products(packed: &[i16], pairs: usize, queries: &[Pair], out: &mut [i32]) {
    let width = packed.len() / (2 * pairs);
    for (block, at) in packed.chunks_exact(pairs * STEP).zip((0..).step_by(ITEMS)) {
        for (some, first) in queries.chunks(4 * pairs).zip((0..).step_by(4)) {
            let out = &mut out[first * width + at..];
            match some.len() / pairs {
                4 => tile::<4, 16>(block, some, out, width),
                3 => tile::<3, 16>(block, some, out, width),
                2 => tile::<2, 32>(block, some, out, width),
                _ => tile::<1, 64>(block, some, out, width),
            }
        }
    }
}

/// Products of one block for `Q` queries, `S` items at a time, whose sums stay in registers.
#[inline(always)]
fn tile<const Q: usize, const S: usize>(block: &[i16], queries: &[Pair], out: &mut [i32], width: usize) {
    let pairs = queries.len() / Q;
    let rows: [&[Pair]; Q] = std::array::from_fn(|query| &queries[query * pairs..(query + 1) * pairs]);
    for start in (0..ITEMS).step_by(S) {
        let mut sums = [[0; S]; Q];
        for (pair, values) in block.as_chunks::<STEP>().0.iter().enumerate() {
            let values = &values.as_chunks::<2>().0[start..start + S];
            for (sums, row) in sums.iter_mut().zip(rows) {
                let [first, second] = row[pair].map(i32::from);
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum += i32::from(value[0]) * first + i32::from(value[1]) * second;
                }
            }
        }
        for (query, sums) in sums.iter().enumerate() {
            out[query * width + start..][..S].copy_from_slice(sums);
        }
    }
}

/// Fills `scores` with products times the scale of each item and the factor of the query.
#[inline(always)]
pub(crate) fn scaled(products: &[i32], scales: &[f32], factor: f32, scores: &mut [f32]) {
    for ((score, &product), scale) in scores.iter_mut().zip(products).zip(scales) {
        *score = product as f32 * scale * factor;
    }
}

/// Adds the weighted powers of the scores of a query, `weight * exp(score - most)`, to `sums`.
///
/// No score may be above `most`.
#[inline(always)]
pub(crate) fn add_powers(
    products: &[i32],
    scales: &[f32],
    (factor, most, weight): (f32, f32, f32),
    sums: &mut [f32],
) {
    for ((sum, &product), scale) in sums.iter_mut().zip(products).zip(scales) {
        *sum += weight * power((product as f32 * scale * factor - most) * std::f32::consts::LOG2_E);
    }
}

/// Appends the places of the values below `low` and of those above `high`, ascending.
#[inline(always)]
pub(crate) fn outside(values: &[f32], low: f32, high: f32, found: &mut Vec<u32>) {
    for (block, first) in values.chunks(ITEMS).zip((0_u32..).step_by(ITEMS)) {
        // Counted first, because compilers vectorise that.
        if block.iter().map(|&value| u32::from(value < low) | u32::from(value > high)).sum::<u32>() > 0 {
            let outside = block.iter().zip(first..).filter(|(value, _)| **value < low || **value > high);
            found.extend(outside.map(|(_, place)| place));
        }
    }
}

/// Replaces the scores of absent items, those with -inf in `absent`, by the ones of `other` plus `shift`.
#[inline(always)]
pub(crate) fn fill_absent(scores: &mut [f32], other: &[f32], absent: &[f32], shift: f32) {
    for ((score, other), absent) in scores.iter_mut().zip(other).zip(absent) {
        *score = if *absent < 0.0 { other + shift } else { *score };
    }
}
