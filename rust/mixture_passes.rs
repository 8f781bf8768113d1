//! The loops of softmaxes and of their mixtures over one row, in plain Rust that compilers vectorise.
//!
//! Other files call them through [`crate::simd`]. No product is fused with a sum, and the number of partial
//! sums is fixed, so every instruction set gives the same bits.

use crate::log_sums::power_series;

/// Number of partial results of a pass over a row.
const LANES: usize = 16;

/// Scores that are processed together; small enough for the first-level cache.
const BLOCK: usize = 1024;

/// Below this, a power of 2 counts as 0. Quotients of the powers above it and of their sum, which is less than
/// 2^26 for any catalogue that fits in memory, are ordinary numbers and not subnormal ones, which are slow.
const LEAST_POWER: f32 = -100.0;

/// Replaces the scores of items that are not marked by -inf.
#[inline(always)]
pub(crate) fn unmark(scores: &mut [f32], marks: &[u8]) {
    for (eight, &marks) in scores.chunks_mut(8).zip(marks) {
        for (score, place) in eight.iter_mut().zip(0..) {
            *score = if marks >> place & 1 == 1 { *score } else { f32::NEG_INFINITY };
        }
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
    best.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// Replaces each score by `exp(score - most)`, or by 0 if that is below 2^-100, and returns the sum.
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
        // Few numbers are added in float32, so that long rows lose no precision.
        total += f64::from(sums.iter().sum::<f32>());
    }
    total
}

/// `2^x` for `x <= 0` within 3 parts in 10 million, and 0 below 2^-100; NaN stays NaN.
#[inline(always)]
fn power(x: f32) -> f32 {
    // Adding and subtracting 1.5 * 2^23 rounds to whole numbers.
    const ROUND: f32 = 12_582_912.0;
    // In this order, NaN is kept.
    let bounded = if LEAST_POWER > x { LEAST_POWER } else { x };
    let whole = bounded + ROUND;
    let value = power_series(bounded - (whole - ROUND));
    let scale = f32::from_bits((whole.to_bits() << 23).wrapping_add(1.0_f32.to_bits()));
    if x < LEAST_POWER { 0.0 } else { value * scale }
}

/// Fills `out` with the logarithm of the weighted sum of `views`, or of the smallest normal number if that is
/// larger; NaN stays NaN. Products are added in the order of the views, starting from 0.
#[inline(always)]
pub(crate) fn log_mixture(views: &[&[f32]], weights: &[f32], out: &mut [f32]) {
    for (out, first) in out.chunks_mut(BLOCK).zip((0..).step_by(BLOCK)) {
        out.fill(0.0);
        let (fours, rest) = views.as_chunks::<4>();
        let (weights_of_fours, weights_of_rest) = weights.as_chunks::<4>();
        for (views, weights) in fours.iter().zip(weights_of_fours) {
            let [one, two, three, four] = views.map(|view| &view[first..first + out.len()]);
            for ((((sum, one), two), three), four) in out.iter_mut().zip(one).zip(two).zip(three).zip(four) {
                // Four rows at a time, so that the sums are loaded and stored less often.
                let sums = *sum + weights[0] * one + weights[1] * two;
                *sum = sums + weights[2] * three + weights[3] * four;
            }
        }
        for (view, &weight) in rest.iter().zip(weights_of_rest) {
            for (sum, value) in out.iter_mut().zip(&view[first..]) {
                *sum += weight * value;
            }
        }
        for value in out {
            *value = log(if *value < f32::MIN_POSITIVE { f32::MIN_POSITIVE } else { *value });
        }
    }
}

/// The natural logarithm of a positive normal number within 2 units in the last place; NaN stays NaN.
///
/// The standard library's `ln` is one call per number, which compilers do not vectorise.
#[inline(always)]
fn log(x: f32) -> f32 {
    // x = 2^whole * (1 + r) with 1 + r between the roots of 1/2 and 2.
    let whole = (x.to_bits().wrapping_sub(std::f32::consts::FRAC_1_SQRT_2.to_bits()) as i32) >> 23;
    let r = f32::from_bits(x.to_bits().wrapping_sub((whole << 23) as u32)) - 1.0;
    // ln(1 + r) = r - r^2 / 2 + r^3 * series, with the smallest relative error among series of degree 6.
    let series = [-0.142_674_87, 0.149_147_68, -0.165_775_85, 0.199_630_64, -0.250_013_37, 0.333_339_1]
        .iter()
        .fold(0.087_004_35, |sum, term| sum * r + term);
    let turns = whole as f32;
    // ln 2 in two parts, the first exact in a product with a small whole number.
    let tail = r * r * (r * series - 0.5) + turns * -2.121_944_4e-4;
    let value = turns * 0.693_359_4 + (r + tail);
    if x.is_nan() { x } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_precise() {
        for step in 0..200_000 {
            let x = LEAST_POWER * (step as f32 / 200_000.0);
            let (found, exact) = (f64::from(power(x)), f64::from(x).exp2());
            assert!((found - exact).abs() <= 3e-7 * exact, "{x}: {found} {exact}");
        }
        assert_eq!(
            [power(0.0), power(-0.0), power(-1.0), power(-100.0)],
            [1.0, 1.0, 0.5, 2.0_f32.powi(-100)]
        );
        assert_eq!([power(-100.1), power(-1e30), power(f32::NEG_INFINITY)], [0.0; 3]);
        assert!(power(f32::NAN).is_nan());
    }

    #[test]
    fn logarithms_are_within_two_units_of_the_last_place() {
        let all = (f32::MIN_POSITIVE.to_bits()..f32::MAX.to_bits()).step_by(9973);
        let near_one = (0.999_f32.to_bits()..1.001_f32.to_bits()).step_by(7);
        let by_halves =
            (-126..127).map(|whole| (2.0_f32.powi(whole) * std::f32::consts::FRAC_1_SQRT_2).to_bits());
        for bits in all.chain(near_one).chain(by_halves) {
            let x = f32::from_bits(bits).max(f32::MIN_POSITIVE);
            let (found, exact) = (f64::from(log(x)), f64::from(x).ln());
            let unit = 2.0 * f64::from(f32::EPSILON) * exact.abs();
            assert!((found - exact).abs() <= unit, "{x}: {found} {exact}");
        }
        assert_eq!(log(1.0), 0.0);
        assert_eq!(log(f32::MIN_POSITIVE), (-126.0 * std::f64::consts::LN_2) as f32);
        assert!(log(f32::NAN).is_nan());
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
