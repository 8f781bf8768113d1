//! The loops of softmaxes and of their mixtures over one row, in plain Rust that compilers vectorise.
//!
//! Other files call them through [`crate::simd`]. The number of partial sums is fixed, and no product is fused with
//! a sum (the baseline of x86-64 cannot do that), so every instruction set gives the same bits.

use crate::simd;

/// Number of partial results of a pass over a row.
const LANES: usize = 32;

/// Scores whose exponentials are added in float32; few, so that long rows lose no precision.
const BLOCK: usize = 4096;

/// How many columns before they are needed the processor is asked for them.
const AHEAD: usize = 256;

/// Columns of a mixture whose sums stay in registers.
const COLUMNS: usize = 64;

/// Powers of 2 from this one down are 0, so that no probability is subnormal: such numbers are slow.
const LEAST_POWER: f32 = -101.0;

/// The powers are multiples of this one: they have the exponents for which the bits of [`LEAST_POWER`] are 0.
pub(crate) const UNIT: f64 = 1.0 / (1_u64 << 26) as f64;

/// Replaces the scores of items that are not marked by -inf.
#[inline(always)]
pub(crate) fn unmark(scores: &mut [f32], marks: &[u8]) {
    let take = |scores: &mut [f32], marks: u32| {
        for (score, place) in scores.iter_mut().zip(0..) {
            *score = if marks >> place & 1 == 1 { *score } else { f32::NEG_INFINITY };
        }
    };
    let (blocks, rest) = scores.as_chunks_mut::<32>();
    let (words, last) = marks.split_at(4 * blocks.len());
    for (block, &word) in blocks.iter_mut().zip(words.as_chunks::<4>().0) {
        take(block, u32::from_le_bytes(word));
    }
    for (eight, &byte) in rest.chunks_mut(8).zip(last) {
        take(eight, u32::from(byte));
    }
}

/// The largest score, or -inf if there is none; NaN is passed over.
#[inline(always)]
pub(crate) fn peak(scores: &[f32]) -> f32 {
    let mut best = [f32::NEG_INFINITY; LANES];
    let mut see = |scores: &[f32]| {
        for (best, &score) in best.iter_mut().zip(scores) {
            *best = if score > *best { score } else { *best };
        }
    };
    let (blocks, rest) = scores.as_chunks::<LANES>();
    for block in blocks {
        see(block);
    }
    see(rest);
    folded(best, f32::max)
}

/// One value from all lanes, by halves: vectors, and no lane waits for the one before.
#[inline(always)]
fn folded(mut lanes: [f32; LANES], joined: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        let (low, high) = lanes.split_at_mut(half);
        for (low, high) in low.iter_mut().zip(high) {
            *low = joined(*low, *high);
        }
        half /= 2;
    }
    lanes[0]
}

/// Replaces each score by `exp(score - most)` in multiples of [`UNIT`] and returns the sum. Powers below 2^-100
/// are 0.
///
/// No score may be above `most`.
#[inline(always)]
pub(crate) fn powers(scores: &mut [f32], most: f32) -> f64 {
    let mut total = 0.0;
    for block in scores.chunks_mut(BLOCK) {
        let mut sums = [0.0; LANES];
        let mut take = |scores: &mut [f32]| {
            for (sum, score) in sums.iter_mut().zip(scores) {
                *score = power((*score - most) * std::f32::consts::LOG2_E);
                *sum += *score;
            }
        };
        let (blocks, rest) = block.as_chunks_mut::<LANES>();
        for block in blocks {
            take(block);
        }
        take(rest);
        total += f64::from(folded(sums, |one, other| one + other));
    }
    total
}

/// `2^x` for `x <= 0` in multiples of [`UNIT`], within 2 units in the last place; NaN stays NaN.
#[inline(always)]
pub(crate) fn power(x: f32) -> f32 {
    // Adding and subtracting 1.5 * 2^23 rounds to whole numbers. With 101 more, the lowest bits of the sum are the
    // exponent of the result, and they are 0 for the least power.
    const ROUND: f32 = 12_582_912.0 - LEAST_POWER;
    // In this order, NaN is kept.
    let x = if LEAST_POWER > x { LEAST_POWER } else { x };
    let whole = x + ROUND;
    let r = x - (whole - ROUND);
    // 2^r with the smallest relative error among series of degree 5 that are 1 at 0. Pairs of terms are added
    // first, because the processor waits less for them than for one sum after the other.
    let square = r * r;
    let first = 1.0 + 0.693_146_95 * r;
    let second = 0.240_222_42 + 0.055_507_337 * r;
    let third = 0.009_671_513 + 0.001_326_472_7 * r;
    let value = first + square * (second + square * third);
    value * f32::from_bits(whole.to_bits() << 23)
}

/// Fills `out` with the logarithm of the weighted sum of `views`, or of the smallest normal number if that is
/// larger; NaN stays NaN. Products are added in the order of the views, starting from 0.
#[inline(always)]
pub(crate) fn log_mixture(views: &[&[f32]], weights: &[f32], out: &mut [f32]) {
    let ends = (COLUMNS..out.len()).step_by(COLUMNS);
    // The last block overlaps the one before, unless the row is shorter than a block.
    for end in ends.chain([out.len()]) {
        let first = end.saturating_sub(COLUMNS);
        match out[first..end].first_chunk_mut::<COLUMNS>() {
            Some(out) => {
                let mut sums = [0.0; COLUMNS];
                for (view, weight) in views.iter().zip(weights) {
                    if let Some(soon) = view.get(first + AHEAD..first + AHEAD + COLUMNS) {
                        simd::prefetch(soon);
                    }
                    if let Some(view) = view[first..].first_chunk::<COLUMNS>() {
                        for (sum, value) in sums.iter_mut().zip(view) {
                            *sum += weight * value;
                        }
                    }
                }
                for (out, sum) in out.iter_mut().zip(sums) {
                    *out = log(sum);
                }
            }
            None => {
                for (place, out) in out.iter_mut().enumerate() {
                    let products = views.iter().zip(weights).map(|(view, weight)| weight * view[place]);
                    *out = log(products.fold(0.0, |sum, product| sum + product));
                }
            }
        }
    }
}

/// The natural logarithm within 3 units in the last place of a number below 2^127, or of the smallest normal
/// number if that is larger; NaN stays NaN.
///
/// The standard library's `ln` is one call per number, which compilers do not vectorise.
#[inline(always)]
pub(crate) fn log(x: f32) -> f32 {
    let x = if f32::MIN_POSITIVE > x { f32::MIN_POSITIVE } else { x };
    // x = 2^whole * (1 + r) with 1 + r between the roots of 1/2 and 2.
    let whole = (x.to_bits().wrapping_sub(std::f32::consts::FRAC_1_SQRT_2.to_bits()) as i32) >> 23;
    let power = f32::from_bits(1.0_f32.to_bits().wrapping_sub((whole << 23) as u32));
    let r = x * power - 1.0;
    // ln(1 + r) / r with the smallest relative error among series of degree 7 that are 1 at 0, added as above.
    let square = r * r;
    let first = 1.0 - 0.500_003_2 * r;
    let second = 0.333_347_15 - 0.249_712_29 * r;
    let third = 0.199_068_83 - 0.172_432_24 * r;
    let fourth = 0.161_805 - 0.100_823_8 * r;
    let value = (first + square * second) + (square * square) * (third + square * fourth);
    whole as f32 * std::f32::consts::LN_2 + r * value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_within_two_units_of_the_last_place() {
        for step in 0..200_000 {
            let x = -100.0 * (step as f32 / 200_000.0);
            let (found, exact) = (f64::from(power(x)), f64::from(x).exp2() * UNIT);
            assert!((found - exact).abs() <= 2.0 * f64::from(f32::EPSILON) * exact, "{x}: {found} {exact}");
        }
        assert_eq!([power(0.0), power(-0.0), power(-1.0)].map(f64::from), [UNIT, UNIT, UNIT / 2.0]);
        assert_eq!(power(-100.0), f32::MIN_POSITIVE);
        assert_eq!([power(-100.6), power(-101.0), power(-1e30), power(f32::NEG_INFINITY)], [0.0; 4]);
        assert!(power(f32::NAN).is_nan());
    }

    #[test]
    fn logarithms_are_within_three_units_of_the_last_place() {
        let all = (f32::MIN_POSITIVE.to_bits()..1e38_f32.to_bits()).step_by(9973);
        let near_one = (0.999_f32.to_bits()..1.001_f32.to_bits()).step_by(7);
        let by_halves =
            (-125..127).map(|whole| (2.0_f32.powi(whole) * std::f32::consts::FRAC_1_SQRT_2).to_bits());
        for bits in all.chain(near_one).chain(by_halves) {
            let x = f32::from_bits(bits);
            let (found, exact) = (f64::from(log(x)), f64::from(x).ln());
            let unit = f64::from(f32::EPSILON) * exact.abs();
            assert!((found - exact).abs() <= 3.0 * unit, "{x}: {found} {exact}");
        }
        assert_eq!(log(1.0), 0.0);
        let least = (-126.0 * std::f64::consts::LN_2) as f32;
        assert_eq!([f32::MIN_POSITIVE, 1e-45, 0.0, -1.0].map(log), [least; 4]);
        assert!(log(f32::NAN).is_nan());
        assert!(!log(f32::INFINITY).is_finite());
    }

    #[test]
    fn the_largest_score_is_found_at_any_place() {
        for length in [1, 15, 16, 17, 100] {
            for place in 0..length {
                let mut scores = vec![-2.0; length];
                scores[place] = -1.0;
                assert_eq!(peak(&scores), -1.0);
            }
        }
        assert_eq!(peak(&[]), f32::NEG_INFINITY);
        assert_eq!(peak(&[f32::NAN, 1.0, f32::NAN]), 1.0);
    }
}
