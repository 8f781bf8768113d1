//! Values that the passes over a row share: sortable keys of scores, brackets, and counts.
//!
//! It uses no other file of the crate, so that the passes, their compiled forms and the code that calls them
//! can all use it.

/// Maps a score to an integer key; ascending keys are descending scores, and -0.0 has the key of 0.0.
///
/// ```
/// use alterrec_core::keys::score_key;
/// assert!(score_key(f32::INFINITY) < score_key(2.0) && score_key(2.0) < score_key(-3.0));
/// assert_eq!(score_key(0.0), score_key(-0.0));
/// ```
#[inline]
#[must_use]
pub fn score_key(score: f32) -> u32 {
    // Adding 0.0 turns -0.0 into 0.0 and leaves every other value alone.
    let bits = (score + 0.0).to_bits();
    if bits >> 31 == 1 { bits } else { !(bits | 1 << 31) }
}

/// The inverse of [`score_key`].
#[inline]
pub(crate) fn key_score(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key } else { !(key | 1 << 31) })
}

/// An open interval of scores: a score is inside unless it is at most `low` or at least `high`.
///
/// A bound that is NaN has no effect, and a score that is NaN is inside every bracket.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bracket {
    pub(crate) low: f32,
    pub(crate) high: f32,
}

impl Bracket {
    #[inline(always)]
    pub(crate) fn holds(self, score: f32) -> bool {
        !(score <= self.low || score >= self.high)
    }
}

/// Numbers of scores of a row at or above the upper bound of a bracket, and inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Split {
    pub(crate) above: usize,
    pub(crate) inside: usize,
}

/// The scores of a row inside a bracket, as keys, in the order of the row.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) bracket: Bracket,
    /// Number of scores at or above the bracket.
    pub(crate) above: usize,
    /// Number of valid entries of `keys`; the rest is spare room.
    pub(crate) found: usize,
    pub(crate) keys: Vec<u32>,
}

impl Kept {
    /// Clears the result and sets the bracket.
    pub(crate) fn start(&mut self, bracket: Bracket) {
        (self.bracket, self.above, self.found) = (bracket, 0, 0);
    }

    /// The free part of `keys`, with room for `more` keys and one whole vector after them.
    pub(crate) fn room(&mut self, more: usize) -> &mut [u32] {
        let needed = self.found + more + 16;
        if self.keys.len() < needed {
            // Most brackets hold a few thousand keys; room for a whole row would mean page faults in each
            // call.
            self.keys.resize(needed.max(2 * self.keys.len()), 0);
        }
        &mut self.keys[self.found..]
    }
}

/// A range of keys, the number of keys before it, and the number of keys up to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) least: u32,
    pub(crate) most: u32,
    pub(crate) before: usize,
    pub(crate) up_to: usize,
}

/// Numbers of scores above a target's score, equal to it, and NaN.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Scores above the target.
    pub(crate) greater: u32,
    /// Scores equal to the target.
    pub(crate) tied: u32,
    /// Scores that are NaN.
    pub(crate) nan: u32,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.greater += other.greater;
        self.tied += other.tied;
        self.nan += other.nan;
    }
}
