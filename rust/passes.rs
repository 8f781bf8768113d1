//! The time-critical loops over one row, in plain Rust that compilers vectorise.
//!
//! Other files call them through [`crate::simd`], which compiles each loop for every instruction set. A set of
//! items is a bitmap: bit `i % 64` of word `i / 64` is item `i`.

use crate::keys::{Bracket, Kept, Span, Split, Tally, key_score, score_key};
use std::ops::RangeInclusive;

pub(crate) use crate::log_sums::add_exponentials;
pub(crate) use crate::mixture_passes::{log_mixture, peak, powers, unmark};
pub(crate) use crate::query_passes::{add_powers, fill_absent, outside, scaled, whole_products};

/// Marks the scores inside a bracket.
#[inline(always)]
pub(crate) fn split(scores: &[f32], bracket: Bracket, marked: &mut [u64]) -> Split {
    let (blocks, rest) = scores.as_chunks::<64>();
    let (words, last) = marked.split_at_mut(blocks.len());
    let mut split = split_tail(rest, bracket, last);
    for (block, word) in blocks.iter().zip(words) {
        let (outside, above) = compared(block, bracket);
        *word = !(outside | above);
        split.inside += word.count_ones() as usize;
        split.above += above.count_ones() as usize;
    }
    split
}

/// [`split`] for the last scores of a row, fewer than 64.
#[inline(always)]
pub(crate) fn split_tail(scores: &[f32], bracket: Bracket, marked: &mut [u64]) -> Split {
    let (mut word, mut above) = (0, 0);
    for (place, &score) in scores.iter().enumerate() {
        word |= u64::from(bracket.holds(score)) << place;
        above += usize::from(score >= bracket.high);
    }
    if let Some(last) = marked.first_mut() {
        *last = word;
    }
    Split { above, inside: word.count_ones() as usize }
}

/// Bitmaps of the scores, of 64, that are at most `low` and at least `high`.
#[inline(always)]
fn compared(block: &[f32; 64], bracket: Bracket) -> (u64, u64) {
    let (mut at_most, mut at_least) = ([0; 64], [0; 64]);
    for ((&score, most), least) in block.iter().zip(&mut at_most).zip(&mut at_least) {
        *most = u8::from(score <= bracket.low);
        *least = u8::from(score >= bracket.high);
    }
    (packed(&at_most), packed(&at_least))
}

/// Number of scores between two checks of the room that is left.
pub(crate) const STRETCH: usize = 4096;

/// Adds the scores inside each bracket to the list of that bracket.
#[inline(always)]
pub(crate) fn collect(scores: &[f32], kept: &mut [Kept]) {
    let (blocks, rest) = scores.as_chunks::<64>();
    for kept in &mut *kept {
        let Kept { bracket, .. } = *kept;
        for block in blocks {
            let (outside, above) = compared(block, bracket);
            let mut inside = !(outside | above);
            let count = inside.count_ones() as usize;
            // Four per iteration: a loop over the exact number of bits would be mispredicted at most words.
            for slot in kept.room(64)[..count.next_multiple_of(4)].as_chunks_mut::<4>().0.as_flattened_mut() {
                *slot = block[inside.trailing_zeros() as usize % 64].to_bits();
                inside &= inside.wrapping_sub(1);
            }
            kept.found += count;
            kept.above += above.count_ones() as usize;
        }
    }
    collect_tail(rest, kept);
}

/// Ends [`collect`] with the last scores, fewer than 64, and converts all kept scores to keys.
#[inline(always)]
pub(crate) fn collect_tail(scores: &[f32], kept: &mut [Kept]) {
    for kept in kept {
        let Kept { bracket, .. } = *kept;
        let inside = scores.iter().filter(|&&score| bracket.holds(score));
        let count = inside.clone().count();
        for (slot, score) in kept.room(64).iter_mut().zip(inside) {
            *slot = score.to_bits();
        }
        kept.found += count;
        kept.above += scores.iter().filter(|&&score| score >= bracket.high).count();
        to_keys(&mut kept.keys[..kept.found]);
    }
}

/// Converts bits of scores to keys in place, see [`score_key`].
#[inline(always)]
pub(crate) fn to_keys(scores: &mut [u32]) {
    for score in scores {
        *score = score_key(f32::from_bits(*score));
    }
}

/// Counts the keys that are at most `most`.
#[inline(always)]
pub(crate) fn count_up_to(keys: &[u32], most: u32) -> usize {
    // A 32-bit sum vectorises without widening; a row has fewer than 2**32 scores.
    keys.iter().map(|&key| u32::from(key <= most)).sum::<u32>() as usize
}

/// Packs 64 bytes of 0 or 1 into a word; a multiplication gathers eight of them in its top byte.
#[inline(always)]
fn packed(flags: &[u8; 64]) -> u64 {
    let bytes = flags.as_chunks::<8>().0.iter().enumerate();
    bytes.fold(0, |word, (place, eight)| {
        let byte = u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        word | byte << (8 * place)
    })
}

/// The positions of the set bits of each byte, ascending; entries after the last are not used.
const PLACES: [[i64; 8]; 256] = {
    let mut places = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut bit, mut found) = (0, 0);
        while bit < 8 {
            if byte >> bit & 1 == 1 {
                places[byte][found] = bit as i64;
                found += 1;
            }
            bit += 1;
        }
        byte += 1;
    }
    places
};

/// Words with more set bits than this are written byte by byte.
const DENSE: usize = 12;

/// Writes the marked items to the front of `ids`, ascending, and returns how many there are.
///
/// # Panics
/// If `ids` is shorter than that.
#[inline(always)]
pub(crate) fn expand(marked: &[u64], ids: &mut [i64]) -> usize {
    let mut written = 0;
    for (&word, first) in marked.iter().zip((0..).step_by(64)) {
        let found = word.count_ones() as usize;
        let ids = &mut ids[written..];
        match ids.first_chunk_mut::<72>() {
            // Dense words: always eight positions per byte, so no branch depends on the bits.
            Some(ids) if found > DENSE => {
                let mut at = 0;
                for (byte, first) in word.to_le_bytes().into_iter().zip((first..).step_by(8)) {
                    for (id, place) in ids[at..at + 8].iter_mut().zip(PLACES[usize::from(byte)]) {
                        *id = first + place;
                    }
                    at += byte.count_ones() as usize;
                }
            }
            // Four per iteration: a loop over the exact number would be mispredicted at most words.
            Some(ids) => {
                let mut rest = word;
                for ids in ids[..found.next_multiple_of(4)].as_chunks_mut::<4>().0 {
                    for id in ids {
                        *id = first + i64::from(rest.trailing_zeros());
                        rest &= rest.wrapping_sub(1);
                    }
                }
            }
            None => expand_word(word, first, &mut ids[..found]),
        }
        written += found;
    }
    written
}

/// [`expand`] for one word with few set bits.
#[inline(always)]
pub(crate) fn expand_word(mut word: u64, first: i64, ids: &mut [i64]) {
    for id in ids {
        *id = first + i64::from(word.trailing_zeros());
        word &= word.wrapping_sub(1);
    }
}

/// The span of all `keys`.
#[inline(always)]
pub(crate) fn span(keys: &[u32]) -> Span {
    let ends = keys.iter().fold((u32::MAX, 0), |(least, most), &key| (key.min(least), key.max(most)));
    Span { least: ends.0, most: ends.1, before: 0, up_to: keys.len() }
}

/// Narrows `span` until the number of keys up to its end is in `wanted`; keys in `without` are not counted.
///
/// If equal keys make that impossible, the result is the single key that they share, and `before` is the
/// number of smaller keys. `without` must be a part of `keys`, and `wanted` must contain a number above
/// `before` and at most `up_to`.
#[inline(always)]
pub(crate) fn narrowed(keys: &[u32], without: &[u32], wanted: RangeInclusive<usize>, span: Span) -> Span {
    let Span { mut least, mut most, mut before, mut up_to } = span;
    let sought = wanted.start().midpoint(*wanted.end()) as f32;
    // Scores are spread more evenly than keys, so interpolating scores takes few iterations. Halving the
    // range of keys, where interpolation narrows too little, bounds the number of iterations on every row.
    let mut interpolate = true;
    while least < most && !wanted.contains(&up_to) {
        let candidates = up_to - before;
        let share = (sought - before as f32) / candidates as f32;
        let middle = match between(least, most, share) {
            Some(middle) if interpolate => middle,
            _ => least.midpoint(most),
        };
        let found = count_up_to(keys, middle) - count_up_to(without, middle);
        if found >= *wanted.start() {
            (most, up_to) = (middle, found);
        } else {
            (least, before) = (middle + 1, found);
        }
        interpolate = 2 * (up_to - before) <= candidates;
    }
    Span { least, most, before, up_to }
}

/// Interpolates linearly between the scores of two keys; `None` unless both are finite.
#[inline(always)]
fn between(least: u32, most: u32, share: f32) -> Option<u32> {
    let (high, low) = (key_score(least), key_score(most));
    let score = high + share * (low - high);
    score.is_finite().then(|| score_key(score).clamp(least, most - 1))
}

/// Compares a row of at most 2**32 - 1 scores with `target`.
#[inline(always)]
pub(crate) fn tally(scores: &[f32], target: f32) -> Tally {
    let mut tally = Tally::default();
    for &score in scores {
        tally.greater += u32::from(score > target);
        tally.tied += u32::from(score == target);
        tally.nan += u32::from(score.is_nan());
    }
    tally
}

/// [`tally`] for each view and, last, for their weighted sum, in one pass over the views.
///
/// The sum is added in float32 in the order of the views. It starts with the first product, so that a single
/// view of weight 1 is unchanged. NaN is counted in the sum only, which is NaN if any view is. `targets` and
/// `tallies` have one more entry than there are views.
#[inline(always)]
pub(crate) fn fused_tally(views: &[&[f32]], weights: &[f32], targets: &[f32], tallies: &mut [Tally]) {
    match (views, weights) {
        (&[one, other], &[first, second]) => {
            // Everything stays in registers: half the time of working in blocks.
            let ((ones, one_rest), (others, other_rest)) = (one.as_chunks::<8>(), other.as_chunks::<8>());
            let (mut greater, mut tied, mut nan) = ([[0_u32; 8]; 3], [[0_u32; 8]; 3], [0_u32; 8]);
            for (one, other) in ones.iter().zip(others) {
                for lane in 0..8 {
                    let sum = first * one[lane] + second * other[lane];
                    greater[0][lane] += u32::from(one[lane] > targets[0]);
                    tied[0][lane] += u32::from(one[lane] == targets[0]);
                    greater[1][lane] += u32::from(other[lane] > targets[1]);
                    tied[1][lane] += u32::from(other[lane] == targets[1]);
                    greater[2][lane] += u32::from(sum > targets[2]);
                    tied[2][lane] += u32::from(sum == targets[2]);
                    nan[lane] += u32::from(sum.is_nan());
                }
            }
            let mut sums = [Tally::default(); 3];
            for place in 0..3 {
                sums[place].greater = greater[place].iter().sum();
                sums[place].tied = tied[place].iter().sum();
            }
            sums[2].nan = nan.iter().sum();
            for (&one, &other) in one_rest.iter().zip(other_rest) {
                let scores = [one, other, first * one + second * other];
                for place in 0..3 {
                    sums[place].greater += u32::from(scores[place] > targets[place]);
                    sums[place].tied += u32::from(scores[place] == targets[place]);
                }
                sums[2].nan += u32::from(scores[2].is_nan());
            }
            tallies.copy_from_slice(&sums);
        }
        _ => fused_tally_of_many(views, weights, targets, tallies),
    }
}

/// Small enough that a block of a few views and their sum stays in the first-level cache.
const BLOCK: usize = 1024;

#[inline(always)]
fn fused_tally_of_many(views: &[&[f32]], weights: &[f32], targets: &[f32], tallies: &mut [Tally]) {
    tallies.fill(Tally::default());
    let mut sums = [0.0; BLOCK];
    for first in (0..views[0].len()).step_by(BLOCK) {
        let sums = &mut sums[..BLOCK.min(views[0].len() - first)];
        weighted_block(views, weights, first, sums);
        for (place, view) in views.iter().enumerate() {
            tallies[place].add(tally(&view[first..first + sums.len()], targets[place]));
        }
        tallies[views.len()].add(tally(sums, targets[views.len()]));
    }
}

/// Fills `sums` with the weighted sum of the scores from `first` on.
#[inline(always)]
fn weighted_block(views: &[&[f32]], weights: &[f32], first: usize, sums: &mut [f32]) {
    for (place, (view, &weight)) in views.iter().zip(weights).enumerate() {
        for (sum, score) in sums.iter_mut().zip(&view[first..]) {
            let product = weight * score;
            *sum = if place == 0 { product } else { *sum + product };
        }
    }
}

/// Fills `sums` with the weighted sum of whole rows, with the same values as in [`fused_tally`].
#[inline(always)]
pub(crate) fn weighted_sum(views: &[&[f32]], weights: &[f32], sums: &mut [f32]) {
    for (block, first) in sums.chunks_mut(BLOCK).zip((0..).step_by(BLOCK)) {
        weighted_block(views, weights, first, block);
    }
}

/// Scores per iteration of a loss pass, and number of partial sums. It is the same on every instruction set,
/// so that all of them add in the same order.
const LANES: usize = 32;

/// The bitmap as words of 32 bits.
#[inline(always)]
fn halves(marked: &[u64]) -> impl Iterator<Item = u32> {
    marked.iter().flat_map(|&word| [word as u32, (word >> 32) as u32])
}

/// The largest marked score, or -inf if none is marked.
#[inline(always)]
pub(crate) fn largest(scores: &[f32], marked: &[u64]) -> f32 {
    let mut best = [f32::NEG_INFINITY; LANES];
    let mut see = |scores: &[f32], marks: u32| {
        for ((best, &score), place) in best.iter_mut().zip(scores).zip(0..) {
            let score = if marks >> place & 1 == 1 { score } else { f32::NEG_INFINITY };
            *best = if score > *best { score } else { *best };
        }
    };
    let (blocks, rest) = scores.as_chunks::<LANES>();
    let mut marks = halves(marked);
    for (block, marks) in blocks.iter().zip(&mut marks) {
        see(block, marks);
    }
    see(rest, marks.next().unwrap_or(0));
    best.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// Replaces each marked score by `exp(score - shift)` and each other by 0, and returns the sum.
///
/// No marked score may be above `shift`.
#[inline(always)]
pub(crate) fn exponentials(scores: &mut [f32], marked: &[u64], shift: f32) -> f32 {
    let mut sums = [0.0; LANES];
    let mut take = |scores: &mut [f32], marks: u32| {
        for ((sum, score), place) in sums.iter_mut().zip(scores).zip(0..) {
            *score = if marks >> place & 1 == 1 { exp(*score - shift) } else { 0.0 };
            *sum += *score;
        }
    };
    let (blocks, rest) = scores.as_chunks_mut::<LANES>();
    let mut marks = halves(marked);
    for (block, marks) in blocks.iter_mut().zip(&mut marks) {
        take(block, marks);
    }
    take(rest, marks.next().unwrap_or(0));
    sums.iter().sum()
}

/// Multiplies all values by `factor`.
#[inline(always)]
pub(crate) fn scale(values: &mut [f32], factor: f32) {
    for value in values {
        *value *= factor;
    }
}

/// `e^x` for `x <= 0` within 2 units in the last place, 0 below -87; NaN stays NaN.
///
/// The standard library's `exp` is one call per score, which compilers do not vectorise.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding and subtracting 1.5 * 2^23 rounds to whole numbers.
    const ROUND: f32 = 12_582_912.0;
    let whole = x.max(-88.0) * std::f32::consts::LOG2_E + ROUND;
    let turns = whole - ROUND;
    // ln 2 in two parts, the first exact in a product with a small whole number.
    let r = x - turns * 0.693_359_4 - turns * -2.121_944_4e-4;
    // The Taylor series to r^7: |r| <= ln(2) / 2, where the next term is below half a unit.
    let series = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    let value = series.iter().fold(1.0 / 5040.0, |sum, term| sum * r + term);
    let power = f32::from_bits((whole.to_bits() << 23).wrapping_add(1.0_f32.to_bits()));
    if x < -87.0 { 0.0 } else { value * power }
}

/// Fills rows of equal width with the `lengths[row]` items before `places[row]`, then `pad`.
#[inline(always)]
pub(crate) fn copy_padded(items: &[u32], lengths: &[i64], places: &[i64], pad: i64, out: &mut [i64]) {
    let width = out.len().checked_div(lengths.len()).unwrap_or(0);
    if width == 0 {
        return;
    }
    for ((row, &length), &place) in out.chunks_exact_mut(width).zip(lengths).zip(places) {
        let (start, length) = ((place - length) as usize, length as usize);
        if let Some(run) = items.get(start..start + width) {
            // The same number of iterations in every row avoids mispredictions; items after the prefix are
            // dropped.
            for ((slot, &item), at) in row.iter_mut().zip(run).zip(0..) {
                *slot = if at < length { i64::from(item) } else { pad };
            }
        } else {
            let (prefix, rest) = row.split_at_mut(length);
            copy(&items[start..start + length], prefix);
            rest.fill(pad);
        }
    }
}

/// Writes prefixes one after the other, and the position of each item in its prefix.
///
/// Prefix i is written to `starts[i]..starts[i + 1]`; its items end before `places[i]`.
#[inline(always)]
pub(crate) fn copy_packed(
    items: &[u32],
    places: &[i64],
    starts: &[i64],
    out: &mut [i64],
    positions: &mut [i64],
) {
    for (bounds, &place) in starts.windows(2).zip(places) {
        let (at, next) = (bounds[0] as usize, bounds[1] as usize);
        let start = place as usize - (next - at);
        // Most prefixes are short: copy eight items at once; later rows overwrite the surplus.
        let eight = (
            items[start..].first_chunk::<8>(),
            out[at..].first_chunk_mut(),
            positions[at..].first_chunk_mut(),
        );
        if let (true, (Some(run), Some(out), Some(positions))) = (next - at <= 8, eight) {
            let (out, positions): (&mut [i64; 8], &mut [i64; 8]) = (out, positions);
            copy(run, out);
            *positions = [0, 1, 2, 3, 4, 5, 6, 7];
        } else {
            copy(&items[start..place as usize], &mut out[at..next]);
            for (position, value) in positions[at..next].iter_mut().zip(0..) {
                *position = value;
            }
        }
    }
}

#[inline(always)]
fn copy(items: &[u32], out: &mut [i64]) {
    for (slot, &item) in out.iter_mut().zip(items) {
        *slot = i64::from(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_within_two_units_of_the_last_place() {
        for step in 0..200_000 {
            let x = -87.0 * (step as f32 / 200_000.0);
            let (found, exact) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((found - exact).abs() <= 2.0 * f64::from(f32::EPSILON) * exact, "{x}: {found} {exact}");
        }
        assert_eq!([exp(0.0), exp(-0.0), exp(f32::NEG_INFINITY), exp(-1e30)], [1.0, 1.0, 0.0, 0.0]);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn sums_and_maxima_are_of_the_marked() {
        let scores: Vec<f32> = (0..100).map(|place| -(place as f32)).collect();
        let marked = [0b1010, 1 << 35];
        assert_eq!(largest(&scores, &marked), -1.0);
        assert_eq!(largest(&scores, &[0, 0]), f32::NEG_INFINITY);
        let mut values = scores;
        let sum = exponentials(&mut values, &marked, -1.0);
        assert!((f64::from(sum) - (1.0 + (-2.0_f64).exp())).abs() < 1e-6);
        assert_eq!(values.iter().filter(|&&value| value != 0.0).count(), 2);
    }
}
