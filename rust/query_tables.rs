//! Mixtures of softmaxes over a table of items that stays the same, for one session or many.
//!
//! A service answers one session at a time, so that a product of large matrices is no help. The table is stored
//! in blocks of 64 items whose values lie side by side, and the scores of a part of the items are still in the
//! cache when they become probabilities. Sessions that come together share the reading of the table. The
//! normaliser of the query of an item does not depend on the session, so it is computed once, when the item first
//! occurs.

use crate::error::{Error, Result};
use crate::query_passes::ITEMS;
use crate::simd;
use crate::threads::with_threads;
use rayon::prelude::*;
use std::cell::RefCell;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Items whose scores are computed before they are used: 8 KiB for each query.
const PART: usize = 2048;

/// Most sessions, and queries, that go through the table together; their scores fit into the cache.
const SESSIONS: usize = 8;
const QUERIES: usize = 32;

/// A normaliser that is not computed yet: the bits of no two floats that are one.
const UNKNOWN: u64 = u64::MAX;

/// Item vectors that are scored, and the query of each item.
#[derive(Debug)]
pub struct QueryTable {
    num_items: usize,
    dim: usize,
    /// Blocks of [`ITEMS`] items: the first value of each of them, then the second, and so on.
    packed: Vec<f32>,
    /// The query of each item.
    queries: Vec<f32>,
    /// Whether an item is no candidate of its own query, nor of the vector of a session that contains it.
    excludes_seen: bool,
    /// For the query of each item, the largest score and the inverse sum of powers, as the bits of two floats.
    normalisers: Vec<AtomicU64>,
}

/// The queries of one session.
#[derive(Debug, Clone, Copy)]
pub struct SessionQueries<'a> {
    /// Items, each of which is a query; an item that occurs twice asks twice.
    pub items: &'a [i64],
    /// The weights of their queries.
    pub weights: &'a [f32],
    /// The vector of the session and its weight, if it is a query.
    pub vector: Option<(SessionVector<'a>, f32)>,
}

/// The vector of a session.
#[derive(Debug, Clone, Copy)]
pub enum SessionVector<'a> {
    /// Its values.
    Values(&'a [f32]),
    /// The weight of the query of each item in it; its scores are then sums of theirs.
    Mean(&'a [f32]),
}

/// Memory of one thread.
#[derive(Debug, Default)]
struct Scratch {
    queries: Vec<f32>,
    /// Scores of a part of the items.
    scores: Vec<f32>,
    /// Rows of scores of all items.
    rows: Vec<f32>,
    row: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl QueryTable {
    /// Stores a table of `dim` values for each item, and the query of each item.
    ///
    /// # Errors
    /// `Value` if `dim` is 0, or the table and the queries have other sizes.
    pub fn new(table: &[f32], queries: &[f32], dim: usize, excludes_seen: bool) -> Result<Self> {
        if dim == 0 || table.len() != queries.len() || !table.len().is_multiple_of(dim) {
            return Err(Error::Value(format!(
                "table has {} values, queries {}; expected rows of the same number of values, 1 or more",
                table.len(),
                queries.len()
            )));
        }
        let num_items = table.len() / dim;
        let mut packed = vec![0.0; num_items.next_multiple_of(ITEMS) * dim];
        for (item, row) in table.chunks_exact(dim).enumerate() {
            let block = &mut packed[item / ITEMS * ITEMS * dim..];
            for (column, &value) in row.iter().enumerate() {
                block[column * ITEMS + item % ITEMS] = value;
            }
        }
        let normalisers = (0..num_items).map(|_| AtomicU64::new(UNKNOWN)).collect();
        Ok(Self { num_items, dim, packed, queries: queries.to_vec(), excludes_seen, normalisers })
    }

    /// Number of items.
    #[must_use]
    pub fn num_items(&self) -> usize {
        self.num_items
    }

    /// Number of values of a vector.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Fills rows of `out` with the logarithms of the probabilities of all items under the mixture of the queries
    /// of each session, as [`crate::mixtures`] computes them. A row does not depend on the others.
    ///
    /// # Errors
    /// `Value` for an item outside the table, arguments of other sizes, and 0 threads.
    pub fn log_mixtures(
        &self,
        sessions: &[SessionQueries<'_>],
        threads: Option<usize>,
        out: &mut [f32],
    ) -> Result<()> {
        for session in sessions {
            self.check(session)?;
        }
        if out.len() != sessions.len() * self.num_items {
            return Err(Error::Value(format!(
                "out has {} places; expected {} for each of {} sessions",
                out.len(),
                self.num_items,
                sessions.len()
            )));
        }
        let mut groups = Vec::new();
        let (mut sessions, mut out) = (sessions, out);
        while !sessions.is_empty() {
            let (group, others) = sessions.split_at(first_group(sessions));
            let (own, rest) = out.split_at_mut(group.len() * self.num_items);
            groups.push((group, own));
            (sessions, out) = (others, rest);
        }
        let work = |(group, out): (&[SessionQueries<'_>], &mut [f32])| {
            SCRATCH.with_borrow_mut(|scratch| self.fill(group, scratch, out));
        };
        if groups.len() < 2 || threads == Some(1) {
            groups.into_iter().for_each(work);
            return Ok(());
        }
        with_threads(threads, || groups.into_par_iter().for_each(work))
    }

    fn check(&self, session: &SessionQueries<'_>) -> Result<()> {
        let SessionQueries { items, weights, vector } = *session;
        let (found, expected) = match vector {
            None => (0, 0),
            Some((SessionVector::Values(values), _)) => (values.len(), self.dim),
            Some((SessionVector::Mean(weights), _)) => (weights.len(), items.len()),
        };
        if items.is_empty() || items.len() != weights.len() || found != expected {
            return Err(Error::Value(format!(
                "there are {} items, {} weights and a session vector of {found} numbers; expected 1 item or more, a \
                 weight for each and {expected} numbers",
                items.len(),
                weights.len()
            )));
        }
        match items.iter().position(|item| !(0..self.num_items as i64).contains(item)) {
            None => Ok(()),
            Some(place) => Err(Error::Value(format!(
                "items[{place}] is {}; expected 0 to {}",
                items[place],
                self.num_items as i64 - 1
            ))),
        }
    }

    /// The largest score and the inverse sum of powers of the query of an item, if they are known.
    fn normaliser(&self, item: usize) -> Option<(f32, f32)> {
        let bits = self.normalisers[item].load(Ordering::Relaxed);
        (bits != UNKNOWN).then(|| (f32::from_bits((bits >> 32) as u32), f32::from_bits(bits as u32)))
    }

    /// Computes the normalisers of the queries of items.
    fn normalise(&self, sessions: &[SessionQueries<'_>], scratch: &mut Scratch) {
        let items = sessions.iter().flat_map(|session| session.items).map(|&item| item as usize);
        let mut missing: Vec<usize> = items.filter(|&item| self.normaliser(item).is_none()).collect();
        missing.sort_unstable();
        missing.dedup();
        let Scratch { queries, scores, rows, .. } = scratch;
        for some in missing.chunks(SESSIONS) {
            queries.clear();
            for &item in some {
                queries.extend_from_slice(self.query(item));
            }
            rows.resize(some.len() * self.num_items, 0.0);
            self.by_parts(queries, scores, |part, scores| {
                for (row, scores) in rows.chunks_exact_mut(self.num_items).zip(scores) {
                    row[part.clone()].copy_from_slice(scores);
                }
            });
            for (&item, row) in some.iter().zip(rows.chunks_exact_mut(self.num_items)) {
                if self.excludes_seen {
                    row[item] = f32::NEG_INFINITY;
                }
                let (most, inverse) = normalised(row);
                // Every thread computes the same bits, so that it does not matter which of them is kept.
                let bits = u64::from(most.to_bits()) << 32 | u64::from(inverse.to_bits());
                self.normalisers[item].store(bits, Ordering::Relaxed);
            }
        }
    }

    fn query(&self, item: usize) -> &[f32] {
        &self.queries[item * self.dim..(item + 1) * self.dim]
    }

    /// Calls `take(part, scores)` for each part of the items with the scores of each query.
    fn by_parts(
        &self,
        queries: &[f32],
        scores: &mut Vec<f32>,
        mut take: impl FnMut(Range<usize>, Vec<&mut [f32]>),
    ) {
        scores.resize(queries.len() / self.dim * PART, 0.0);
        for first in (0..self.num_items).step_by(PART) {
            let width = PART.min(self.num_items - first);
            let padded = width.next_multiple_of(ITEMS);
            let packed = &self.packed[first * self.dim..(first + padded) * self.dim];
            let scores = &mut scores[..queries.len() / self.dim * padded];
            simd::products(packed, self.dim, queries, scores);
            take(
                first..first + width,
                scores.chunks_exact_mut(padded).map(|row| &mut row[..width]).collect(),
            );
        }
    }

    /// Fills the rows of some sessions.
    fn fill(&self, sessions: &[SessionQueries<'_>], scratch: &mut Scratch, out: &mut [f32]) {
        self.normalise(sessions, scratch);
        let Scratch { queries, scores, rows: of_sessions, row: of_items } = scratch;
        queries.clear();
        for session in sessions {
            for &item in session.items {
                queries.extend_from_slice(self.query(item as usize));
            }
            if let Some((SessionVector::Values(values), _)) = session.vector {
                queries.extend_from_slice(values);
            }
        }
        of_sessions.resize(sessions.len() * self.num_items, 0.0);
        self.by_parts(queries, scores, |part, scores| {
            let mut scores = scores.into_iter();
            let rows = out.chunks_exact_mut(self.num_items).zip(of_sessions.chunks_exact_mut(self.num_items));
            for (session, (sums, of_session)) in sessions.iter().zip(rows) {
                let mut own: Vec<_> = scores.by_ref().take(session.items.len()).collect();
                match session.vector {
                    Some((SessionVector::Mean(weights), _)) => {
                        let views: Vec<_> = own.iter().map(|row| &**row).collect();
                        simd::weighted_sum(&views, weights, &mut of_session[part.clone()]);
                    }
                    Some((SessionVector::Values(_), _)) => {
                        if let Some(row) = scores.next() {
                            of_session[part.clone()].copy_from_slice(row);
                        }
                    }
                    None => {}
                }
                let mut weights = Vec::with_capacity(own.len());
                for ((&item, weight), row) in session.items.iter().zip(session.weights).zip(&mut own) {
                    let (most, inverse) = self.normaliser(item as usize).unwrap_or_default();
                    if self.excludes_seen && part.contains(&(item as usize)) {
                        row[item as usize - part.start] = f32::NEG_INFINITY;
                    }
                    simd::powers(row, most);
                    weights.push(inverse * weight);
                }
                let views: Vec<_> = own.iter().map(|row| &**row).collect();
                simd::weighted_sum(&views, &weights, &mut sums[part.clone()]);
            }
        });
        let rows = out.chunks_exact_mut(self.num_items).zip(of_sessions.chunks_exact_mut(self.num_items));
        for (session, (out, of_session)) in sessions.iter().zip(rows) {
            of_items.clear();
            of_items.extend_from_slice(out);
            let Some((_, weight)) = session.vector else {
                simd::log_mixture(&[of_items], &[1.0], out);
                continue;
            };
            if self.excludes_seen {
                for &item in session.items {
                    of_session[item as usize] = f32::NEG_INFINITY;
                }
            }
            let (_, inverse) = normalised(of_session);
            simd::log_mixture(&[of_items, of_session], &[1.0, inverse * weight], out);
        }
    }
}

/// The number of sessions that go through the table together, 1 or more.
fn first_group(sessions: &[SessionQueries<'_>]) -> usize {
    let mut queries = 0;
    let fits = |session: &&SessionQueries<'_>| {
        queries += session.items.len() + 1;
        queries <= QUERIES
    };
    sessions.iter().take(SESSIONS).take_while(fits).count().max(1)
}

/// Replaces scores by their powers; returns the largest score and the inverse of the sum, 0 if no item is left.
fn normalised(scores: &mut [f32]) -> (f32, f32) {
    let most = simd::peak(scores);
    let most = if most == f32::NEG_INFINITY { 0.0 } else { most };
    let sum = simd::powers(scores, most);
    (most, if sum == 0.0 { 0.0 } else { (1.0 / sum) as f32 })
}
