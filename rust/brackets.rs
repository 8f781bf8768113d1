//! Brackets: where in a row's scores a cut through its rank order probably lies, by a sample of the row.

use crate::machine;
use crate::passes::{Bracket, Span};
use crate::random::Stream;
use crate::select::key_score;

/// Bounds nothing: every comparison with it is false.
pub(crate) const UNBOUNDED: f32 = f32::NAN;

/// The highest bound below `score`, so that only `score` and what is above it lies above the bound.
pub(crate) fn just_below(score: f32) -> f32 {
    if score == f32::NEG_INFINITY { UNBOUNDED } else { score.next_down() }
}

/// The lowest bound above `score`.
pub(crate) fn just_above(score: f32) -> f32 {
    if score == f32::INFINITY { UNBOUNDED } else { score.next_up() }
}

/// Scores that are sampled side by side: a cache line.
const RUN: usize = 16;
/// Half the width of a bracket in standard deviations of a sampled rank.
const DEVIATIONS: f64 = 2.5;

/// Which places of a row are looked at to bracket an edge; the same for all rows of a call.
///
/// One random place in each of equally long stretches: a regular grid would meet the period of a row
/// that has one.
#[derive(Debug)]
pub(crate) struct Sample {
    places: Vec<usize>,
}

impl Sample {
    /// The places for rows of `columns` scores; none for short rows, which need no bracket.
    pub(crate) fn new(columns: usize) -> Self {
        if columns < 512 {
            return Self { places: Vec::new() };
        }
        // More places make a narrower bracket and cost more to look at: the sum grows least with this power.
        let count = (columns as f64).powf(2.0 / 3.0) as usize / RUN;
        let mut stream = Stream::new(0, columns as u64);
        let place = |part: usize| {
            let (start, end) = (part * columns / count, (part + 1) * columns / count);
            start + stream.below((end - start - RUN) as u64) as usize
        };
        Self { places: (0..count).map(place).collect() }
    }

    /// Replaces `keys` by those of the sampled scores.
    pub(crate) fn take(&self, scores: &[f32], keys: &mut Vec<u32>) {
        keys.clear();
        // Copied before any is worked on: with little to do between them, reads from memory overlap.
        for &place in &self.places {
            keys.extend(scores[place..place + RUN].iter().map(|score| score.to_bits()));
        }
        machine::to_keys(keys);
    }
}

/// Two sampled scores that probably enclose the cut after the first `count` of `candidates`.
pub(crate) fn bracket(sample: &[u32], span: Span, count: usize, candidates: usize) -> Bracket {
    let (size, share) = (sample.len() as f64, count as f64 / candidates as f64);
    let deviation = (size * share * (1.0 - share)).sqrt();
    // Any sampled score at about the right distance will do, so it takes few turns to find one.
    let (margin, slack) = (DEVIATIONS * deviation + 1.0, 0.5 * deviation + 2.0);
    let bound = |least: f64, most: f64| {
        let inside = 1.0 <= most && least < size;
        let wanted = least.max(1.0) as usize..=most as usize;
        if inside { key_score(machine::narrowed(sample, &[], wanted, span).most) } else { UNBOUNDED }
    };
    let place = size * share;
    Bracket {
        low: bound(place + margin, place + margin + slack),
        high: bound(place - margin - slack, place - margin),
    }
}
