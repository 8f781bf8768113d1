//! Selection: mark the items at given ranks of one row, exactly and without sorting; and `top_ranked`.
//!
//! Rank order is score descending, then id ascending, over the items that are not excluded. A sample of the
//! row brackets each of the two edges of the window between two scores (`brackets`). One pass
//! collects the scores inside the brackets; these few scores give the score at each edge exactly. With both
//! edges known, one more pass marks the window. If a bracket missed its edge, or scores tie at an edge,
//! further passes settle it.

use crate::bits;
use crate::brackets::{Sample, UNBOUNDED, bracket, just_above, just_below};
use crate::error::{Error, Result};
use crate::keys::{Bracket, Kept, Span, Split, key_score, score_key};
use crate::matrix::{Matrix, check_call, excluded_ids, not_a_number};
use crate::simd;
use crate::threads::fill_rows;
use std::ops::Range;

/// A cut through the rank order, after all scores above `score` and `taken` of the `ties` scores equal to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    pub(crate) score: f32,
    pub(crate) taken: usize,
    pub(crate) ties: usize,
}

impl Cut {
    /// The cut after all scores that are at least `score`.
    fn after(score: f32) -> Self {
        Self { score, taken: 0, ties: 0 }
    }

    fn divides_ties(self) -> bool {
        self.taken < self.ties
    }
}

/// Memory that one thread uses for all its rows.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Excluded ids of the current row, ascending, each once.
    excluded: Vec<u32>,
    sample: Vec<u32>,
    /// The bitmap of the last pass; at the end it is the window.
    pub(crate) marked: Vec<u64>,
    tied: Vec<u64>,
    /// One for each cut to find.
    kept: Vec<Kept>,
}

/// One row of a call, after its checks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'a> {
    number: usize,
    scores: &'a [f32],
    candidates: usize,
}

impl Row<'_> {
    /// Returns an error for a NaN; for rows that no bracket reads.
    fn check(self) -> Result<()> {
        if simd::tally(self.scores, 0.0).nan > 0 {
            Err(not_a_number("scores", self.number, self.scores))
        } else {
            Ok(())
        }
    }
}

/// Collects the keys of a row inside each bracket.
///
/// # Errors
/// `Value` for a NaN.
pub(crate) fn collect(number: usize, scores: &[f32], kept: &mut [Kept]) -> Result<()> {
    simd::collect(scores, kept);
    for kept in kept {
        // NaN is inside every bracket, and its keys are beyond those of the infinities.
        let (keys, first, last) =
            (&kept.keys[..kept.found], score_key(f32::INFINITY), score_key(f32::NEG_INFINITY));
        if simd::count_up_to(keys, last) - simd::count_up_to(keys, first - 1) < kept.found {
            return Err(not_a_number("scores", number, scores));
        }
    }
    Ok(())
}

impl Scratch {
    /// Marks the items at ranks `window` of a row.
    ///
    /// # Errors
    /// `Value` for a NaN, an id outside the catalogue, or fewer candidates than `window` needs; `wanted`
    /// names the argument that needs them.
    pub(crate) fn mark(
        &mut self,
        sample: &Sample,
        (number, scores, exclude): (usize, &[f32], &[i64]),
        window: &Range<usize>,
        wanted: &str,
    ) -> Result<()> {
        excluded_ids(number, exclude, scores.len(), &mut self.excluded)?;
        let row = Row { number, scores, candidates: scores.len() - self.excluded.len() };
        self.marked.resize(bits::words_for(scores.len()), 0);
        if window.end > row.candidates {
            row.check()?;
            return Err(Error::Value(format!(
                "{wanted} is {}, but row {number} has only {} candidates ({} items, {} of them excluded); \
                 ask for at most {1} or exclude fewer",
                window.end,
                row.candidates,
                scores.len(),
                self.excluded.len()
            )));
        }
        if window.is_empty() {
            row.check()?;
            self.marked.fill(0);
            return Ok(());
        }
        sample.take(scores, &mut self.sample);
        let cuts = self.cuts(row, [window.start, window.end])?;
        self.mark_between(row, cuts);
        Ok(())
    }

    /// Marks the candidates of a row between two cuts.
    ///
    /// # Errors
    /// `Value` for a NaN and an id outside the catalogue.
    pub(crate) fn mark_cut(
        &mut self,
        (number, scores, exclude): (usize, &[f32], &[i64]),
        cuts: [Cut; 2],
    ) -> Result<()> {
        excluded_ids(number, exclude, scores.len(), &mut self.excluded)?;
        let row = Row { number, scores, candidates: scores.len() - self.excluded.len() };
        row.check()?;
        self.marked.resize(bits::words_for(scores.len()), 0);
        self.mark_between(row, cuts.map(Some));
        Ok(())
    }

    /// Marks the candidates between two cuts; `None` is a cut before or after all of them.
    fn mark_between(&mut self, row: Row<'_>, [first, last]: [Option<Cut>; 2]) {
        let high =
            first.map_or(UNBOUNDED, |cut| if cut.divides_ties() { just_above(cut.score) } else { cut.score });
        let low = last.map_or(UNBOUNDED, |cut| just_below(cut.score));
        self.split(row, Bracket { low, high });
        if let Some(cut) = first.filter(|cut| cut.divides_ties()) {
            self.unmark_ties(row, cut.score, 0..cut.taken);
        }
        if let Some(cut) = last.filter(|cut| cut.divides_ties()) {
            self.unmark_ties(row, cut.score, cut.taken..cut.ties);
        }
    }

    /// Finds the cuts after each number of candidates; `None` for a cut before or after all of them.
    fn cuts(&mut self, row: Row<'_>, counts: [usize; 2]) -> Result<[Option<Cut>; 2]> {
        let places: Vec<usize> = (0..2).filter(|&at| (1..row.candidates).contains(&counts[at])).collect();
        if places.is_empty() {
            row.check()?;
            return Ok([None; 2]);
        }
        let span = simd::span(&self.sample);
        self.kept.resize_with(places.len(), Kept::default);
        for (kept, &place) in self.kept.iter_mut().zip(&places) {
            kept.start(bracket(&self.sample, span, counts[place], row.candidates));
        }
        // Both in one pass over the row.
        collect(row.number, row.scores, &mut self.kept)?;
        let found: Vec<_> =
            self.kept.iter().zip(&places).map(|(kept, &at)| self.cut_kept(row, counts[at], kept)).collect();
        let mut cuts = [None; 2];
        for (&place, found) in places.iter().zip(found) {
            cuts[place] = Some(match found {
                Ok(cut) => cut,
                Err(bound) => self.search(row, counts[place], bound)?,
            });
        }
        Ok(cuts)
    }

    /// Finds the cut after `count` candidates among collected keys; otherwise returns the bound it lies
    /// beyond.
    fn cut_kept(&self, row: Row<'_>, count: usize, kept: &Kept) -> std::result::Result<Cut, f32> {
        let Kept { bracket, .. } = *kept;
        let excluded = self.excluded.iter().map(|&id| row.scores[id as usize]);
        let above = kept.above - excluded.clone().filter(|&score| score >= bracket.high).count();
        let without: Vec<u32> = excluded.filter(|&score| bracket.holds(score)).map(score_key).collect();
        let inside = kept.found - without.len();
        if count < above {
            return Err(bracket.high);
        }
        if count == above {
            return Ok(Cut::after(bracket.high));
        }
        if count > above + inside {
            return Err(bracket.low);
        }
        let sought = count - above;
        let keys = &kept.keys[..kept.found];
        let span = Span { up_to: inside, ..simd::span(keys) };
        let found = simd::narrowed(keys, &without, sought..=sought, span);
        let score = key_score(found.most);
        if found.up_to == sought {
            return Ok(Cut::after(score));
        }
        Ok(Cut { score, taken: sought - found.before, ties: found.up_to - found.before })
    }

    /// Finds the cut after `count` candidates if it lies beyond a `bound` of its bracket.
    fn search(&mut self, row: Row<'_>, count: usize, mut bound: f32) -> Result<Cut> {
        loop {
            // With many ties, a sampled bound is often exactly the score of the cut.
            let Split { above: greater, inside: ties } =
                self.split(row, Bracket { low: just_below(bound), high: just_above(bound) });
            let bracket = match count {
                count if count < greater => Bracket { low: bound, high: UNBOUNDED },
                count if count > greater + ties => Bracket { low: UNBOUNDED, high: bound },
                count => return Ok(Cut { score: bound, taken: count - greater, ties }),
            };
            self.kept.truncate(1);
            self.kept[0].start(bracket);
            collect(row.number, row.scores, &mut self.kept)?;
            match self.cut_kept(row, count, &self.kept[0]) {
                Ok(cut) => return Ok(cut),
                Err(beyond) => bound = beyond,
            }
        }
    }

    /// Marks the candidates inside a bracket.
    fn split(&mut self, row: Row<'_>, bracket: Bracket) -> Split {
        let found = simd::split(row.scores, bracket, &mut self.marked);
        let above = self.excluded.iter().filter(|&&id| row.scores[id as usize] >= bracket.high).count();
        Split {
            above: found.above - above,
            inside: found.inside - bits::remove(&mut self.marked, &self.excluded),
        }
    }

    /// Unmarks some of the candidates that tie at a cut: those with these numbers in the order of ids.
    fn unmark_ties(&mut self, row: Row<'_>, score: f32, numbers: Range<usize>) {
        std::mem::swap(&mut self.marked, &mut self.tied);
        self.marked.resize(self.tied.len(), 0);
        self.split(row, Bracket { low: just_below(score), high: just_above(score) });
        bits::keep(&mut self.marked, &numbers);
        std::mem::swap(&mut self.marked, &mut self.tied);
        bits::subtract(&mut self.marked, &self.tied);
    }
}

impl Scratch {
    /// Marks a superset of the `k` highest-ranked items; returns whether it is small enough to use.
    ///
    /// It takes one pass, [`Scratch::mark`] two. All items above some score are marked, including every NaN
    /// of the row and excluded items.
    fn mark_around(&mut self, sample: &Sample, scores: &[f32], k: usize) -> bool {
        sample.take(scores, &mut self.sample);
        let span = simd::span(&self.sample);
        let low = bracket(&self.sample, span, k + self.excluded.len(), scores.len()).low;
        self.marked.resize(bits::words_for(scores.len()), 0);
        let Split { inside, .. } = simd::split(scores, Bracket { low, high: UNBOUNDED }, &mut self.marked);
        (k + self.excluded.len()..=8 * k + 512).contains(&inside)
    }
}

/// Writes the ids of the `k` highest-ranked candidates of each row, in rank order, to `ids`.
///
/// # Errors
/// `Value` for what [`check_call`] refuses, a NaN, too few candidates, and 0 threads.
///
/// # Panics
/// If `ids` does not hold `rows * k` values.
pub fn top_ranked(
    scores: Matrix<'_, f32>,
    k: usize,
    exclude: Matrix<'_, i64>,
    threads: Option<usize>,
    ids: &mut [i64],
) -> Result<()> {
    check_call(&scores, &exclude, ("k", k))?;
    let sample = Sample::new(scores.columns);
    fill_rows(ids, scores.rows, k, threads, |scratch: &mut (Scratch, Vec<i64>, Vec<u64>), number, out| {
        let ((scratch, found, keys), row) = (scratch, scores.row(number));
        excluded_ids(number, exclude.row(number), row.len(), &mut scratch.excluded)?;
        if !scratch.mark_around(&sample, row, k) {
            scratch.mark(&sample, (number, row, exclude.row(number)), &(0..k), "k")?;
        }
        found.resize(scratch.marked.iter().map(|word| word.count_ones() as usize).sum(), 0);
        simd::expand(&scratch.marked, found);
        if found.iter().any(|&id| row[id as usize].is_nan()) {
            return Err(not_a_number("scores", number, row));
        }
        found.retain(|&id| scratch.excluded.binary_search(&(id as u32)).is_err());
        keys.clear();
        keys.extend(found.iter().map(|&id| u64::from(score_key(row[id as usize])) << 32 | id as u64));
        keys.sort_unstable();
        for (id, key) in out.iter_mut().zip(keys) {
            *id = i64::from(*key as u32);
        }
        Ok(())
    })
}
