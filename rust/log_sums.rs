//! The logsumexp of a row without some of its items, in one pass over the row.

/// Scores that are added together; small enough for the first-level cache.
const BLOCK: usize = 1024;

/// Number of partial sums. It is the same on every instruction set, so that all of them add in the same order.
const LANES: usize = 16;

/// The logarithm of a sum of `exp(score / temperature)`, while scores are added.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogSum {
    temperature: f64,
    /// A score times this is the power of 2 that is added.
    factor: f32,
    /// The largest score so far.
    most: f32,
    /// The sum of `exp((score - most) / temperature)` of all scores so far, unless `most` is infinite.
    sum: f64,
}

impl LogSum {
    /// The empty sum; `1 / temperature` must be an ordinary float32 number.
    pub(crate) fn new(temperature: f64) -> Self {
        let factor = (std::f64::consts::LOG2_E / temperature) as f32;
        Self { temperature, factor, most: f32::NEG_INFINITY, sum: 0.0 }
    }

    /// -inf for no scores and for scores that are all -inf; +inf if one of them is.
    pub(crate) fn log(&self) -> f64 {
        let most = f64::from(self.most);
        if most.is_finite() { most / self.temperature + self.sum.ln() } else { most }
    }

    #[inline(always)]
    fn add(&mut self, scores: &[f32]) {
        let (blocks, rest) = scores.as_chunks::<LANES>();
        let larger = |score: f32, best: f32| if score > best { score } else { best };
        let mut lanes = [self.most; LANES];
        for block in blocks {
            for place in 0..LANES {
                lanes[place] = larger(block[place], lanes[place]);
            }
        }
        let most = rest.iter().chain(&lanes).fold(self.most, |best, &score| larger(score, best));
        let before = std::mem::replace(&mut self.most, most);
        if most.is_infinite() {
            return;
        }
        if before < most {
            self.sum *= (f64::from(before - most) * f64::from(self.factor)).exp2();
        }
        let (mut lanes, factor) = ([0.0; LANES], self.factor);
        for block in blocks {
            for place in 0..LANES {
                lanes[place] += exp2((block[place] - most) * factor);
            }
        }
        for (lane, score) in lanes.iter_mut().zip(rest) {
            *lane += exp2((score - most) * factor);
        }
        self.sum += f64::from(lanes.iter().sum::<f32>());
    }
}

/// Adds the scores of all items but those in `without`, ascending ids, to each of the sums.
#[inline(always)]
pub(crate) fn add_exponentials(scores: &[f32], without: &[u32], sums: &mut [LogSum]) {
    let mut without = without.iter().map(|&id| id as usize).peekable();
    let mut copy = [0.0; BLOCK];
    for (mut block, first) in scores.chunks(BLOCK).zip((0..).step_by(BLOCK)) {
        let end = first + block.len();
        if without.peek().is_some_and(|&id| id < end) {
            let copy = &mut copy[..block.len()];
            copy.copy_from_slice(block);
            while let Some(id) = without.next_if(|&id| id < end) {
                copy[id - first] = f32::NEG_INFINITY;
            }
            block = copy;
        }
        for sum in &mut *sums {
            sum.add(block);
        }
    }
}

/// `2^x` for `x <= 0`, within 3 parts in 10 million; at least 2^-126, which is nothing in a sum of 1 or more.
///
/// A sum needs fewer digits than the gradients for which there is `passes::exp`, so this takes fewer steps.
#[inline(always)]
fn exp2(x: f32) -> f32 {
    // Adding and subtracting 1.5 * 2^23 rounds to whole numbers.
    const ROUND: f32 = 12_582_912.0;
    let x = if x > -126.0 { x } else { -126.0 };
    let whole = x + ROUND;
    let r = x - (whole - ROUND);
    // Of degree 5, with the value and slope of 2^r at 0 and the smallest relative error at |r| <= 1/2.
    let series = [0.009_669_693, 0.055_505_585, 0.240_222_83, std::f32::consts::LN_2, 1.0];
    let value = series.iter().fold(0.001_330_061_4, |sum, term| sum * r + term);
    f32::from_bits((whole.to_bits() << 23).wrapping_add(value.to_bits()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_two_are_precise() {
        for step in 0..200_000 {
            let x = -126.0 * (step as f32 / 200_000.0);
            let (found, exact) = (f64::from(exp2(x)), f64::from(x).exp2());
            assert!((found - exact).abs() <= 3e-7 * exact, "{x}: {found} {exact}");
        }
        assert_eq!([exp2(0.0), exp2(-1.0), exp2(-126.0)], [1.0, 0.5, f32::MIN_POSITIVE]);
        assert_eq!([exp2(f32::NEG_INFINITY), exp2(-1e30)], [f32::MIN_POSITIVE; 2]);
    }
}
