//! First step of selection: estimate from a sample of the row a bracket of scores that contains the cut.
//!
//! A cut separates the first `count` items of the rank order from the others. [`crate::select`] finds it
//! exactly, by looking only at scores inside the bracket.

use crate::keys::{Bracket, Span, key_score};
use crate::random::Stream;
use crate::simd;

/// A bound without effect: every comparison with it is false.
pub(crate) const UNBOUNDED: f32 = f32::NAN;

/// The highest bound below `score`; `score` itself and higher scores are above it.
pub(crate) fn just_below(score: f32) -> f32 {
    if score == f32::NEG_INFINITY { UNBOUNDED } else { score.next_down() }
}

/// The lowest bound above `score`.
pub(crate) fn just_above(score: f32) -> f32 {
    if score == f32::INFINITY { UNBOUNDED } else { score.next_up() }
}

/// Number of adjacent scores that are sampled together: a cache line.
const RUN: usize = 16;
/// Half the width of a bracket in standard deviations of a sampled rank.
const DEVIATIONS: f64 = 2.5;

/// The sampled positions of a row, the same for all rows of a call.
///
/// One random position in each of equally long parts; a regular grid would fail on rows with the same period.
#[derive(Debug)]
pub(crate) struct Sample {
    places: Vec<usize>,
}

impl Sample {
    /// Chooses the positions for rows of `columns` scores; none for short rows, which need no bracket.
    pub(crate) fn new(columns: usize) -> Self {
        if columns < 512 {
            return Self { places: Vec::new() };
        }
        // More positions give a narrower bracket but cost more to read; this power minimises the sum of both.
        let count = (columns as f64).powf(2.0 / 3.0) as usize / RUN;
        let mut stream = Stream::new(0, columns as u64);
        let place = |part: usize| {
            let (start, end) = (part * columns / count, (part + 1) * columns / count);
            start + stream.below((end - start - RUN) as u64) as usize
        };
        Self { places: (0..count).map(place).collect() }
    }

    /// Replaces `keys` with the keys of the sampled scores.
    pub(crate) fn take(&self, scores: &[f32], keys: &mut Vec<u32>) {
        keys.clear();
        // All are copied before any is converted, so that the reads from memory overlap.
        for &place in &self.places {
            keys.extend(scores[place..place + RUN].iter().map(|score| score.to_bits()));
        }
        simd::to_keys(keys);
    }
}

/// Returns two sampled scores that probably enclose the cut after the first `count` of `candidates`.
pub(crate) fn bracket(sample: &[u32], span: Span, count: usize, candidates: usize) -> Bracket {
    let (size, share) = (sample.len() as f64, count as f64 / candidates as f64);
    let deviation = (size * share * (1.0 - share)).sqrt();
    // Any sampled score at about the right distance will do, so few iterations find one.
    let (margin, slack) = (DEVIATIONS * deviation + 1.0, 0.5 * deviation + 2.0);
    let bound = |least: f64, most: f64| {
        let inside = 1.0 <= most && least < size;
        let wanted = least.max(1.0) as usize..=most as usize;
        if inside { key_score(simd::narrowed(sample, &[], wanted, span).most) } else { UNBOUNDED }
    };
    let place = size * share;
    Bracket {
        low: bound(place + margin, place + margin + slack),
        high: bound(place - margin - slack, place - margin),
    }
}
