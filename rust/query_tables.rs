//! The products of a few queries with a table of items that stays the same, and mixtures of their softmaxes.
//!
//! A service answers one session at a time, so its products wait for memory. The table is therefore stored in
//! whole numbers of 16 bits beside its floats: half the bytes, and exact sums that need no order. Scores of all
//! items come from them, with a bound of their error; scores of the few items that can matter are then computed
//! from the floats, as are the largest terms of each normaliser. No score depends on the other sessions of a call.
//!
//! The normaliser of the query of an item does not depend on the session, so it is computed once, when the item
//! first occurs.

use crate::error::{Error, Result};
use crate::mixture_passes::{log, power};
use crate::query_passes::{ITEMS, Pair, STEP};
use crate::simd;
use crate::storage::Column;
use std::f32::consts::LOG2_E;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Items whose scores are computed before they are used: nearly 8 KiB for each query. Rows that are a power of 2
/// apart would share the places of the cache.
const PART: usize = 31 * ITEMS;

/// The length of vectors in whole numbers. The sums of the products of two of them are below 2^30.
const LENGTH: f64 = 32_767.0;

/// Longest vectors whose products are ordinary float32 numbers.
const LONGEST: f64 = 1e18;

/// Items with at least this share of a sum are computed from floats. The others have independent errors, which
/// together change the logarithm of the sum by less than 1 / 22 of the error of one score.
pub(crate) const SHARE: f64 = 1.0 / 512.0;

/// A normaliser that is not computed yet: the bits of no two floats that are one.
const UNKNOWN: u64 = u64::MAX;

/// Item vectors that are scored, and the queries of items if sessions ask with each of their items.
#[derive(Debug)]
pub struct QueryTable {
    num_items: usize,
    dim: usize,
    /// The vectors.
    table: Column<f32>,
    /// Blocks of [`ITEMS`] items in whole numbers: two columns of each of them, then the next two, and so on.
    packed: Column<i16>,
    /// What the whole numbers of an item are multiplied by.
    scales: Vec<f32>,
    /// Length of the longest vector.
    longest: f32,
    queries: Option<ItemQueries>,
}

#[derive(Debug)]
struct ItemQueries {
    /// The query of each item.
    vectors: Column<f32>,
    /// Whether an item is no candidate of its own query, nor of the vector of a session that contains it.
    excludes_seen: bool,
    /// For the query of each item, the largest score and the inverse sum of powers, as the bits of two floats.
    normalisers: Vec<AtomicU64>,
}

/// What one session asks a table with.
#[derive(Debug, Clone, Copy)]
pub struct SessionQueries<'a> {
    /// Items, each of which is a query; an item that occurs twice asks twice. None if items are no queries.
    pub items: &'a [i64],
    /// The weights of their queries.
    pub weights: &'a [f32],
    /// The vector of the session and its weight, if it is a query.
    pub vector: Option<(&'a [f32], f32)>,
}

/// The queries of one session, ready to score single items.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    items: Vec<ItemQuery>,
    vector: Vec<f32>,
    vector_most: f32,
    vector_weight: f32,
    /// The sum of the weights of the queries that have a candidate: the sum of all probabilities.
    pub(crate) total: f32,
    /// How far a score from whole numbers can be from the one from floats.
    pub(crate) error: f32,
}

#[derive(Debug)]
struct ItemQuery {
    item: usize,
    most: f32,
    /// The weight of the query over its normaliser.
    weight: f32,
}

/// Memory of one thread.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    queries: Vec<Pair>,
    factors: Vec<f32>,
    products: Vec<i32>,
    /// Rows of scores of all items.
    rows: Vec<f32>,
    row: Vec<f32>,
    found: Vec<u32>,
}

impl QueryTable {
    /// Stores a table of `dim` values for each item; and the query of each item, with whether an item is no
    /// candidate of its own query, nor of the vector of a session that contains it.
    ///
    /// With queries, the score of an item is the logarithm of its probability under the mixture of the softmaxes
    /// of the queries of a session. Without them, it is its product with the vector of the session.
    ///
    /// # Errors
    /// `Value` if `dim` is 0, table and queries have other sizes, or a vector is not finite or longer than 1e18.
    pub fn new(table: &[f32], queries: Option<(&[f32], bool)>, dim: usize) -> Result<Self> {
        let other = queries.is_some_and(|(queries, _)| queries.len() != table.len());
        if dim == 0 || other || !table.len().is_multiple_of(dim) {
            return Err(Error::Value(format!(
                "table has {} values, queries {}; expected rows of the same number of values, 1 or more",
                table.len(),
                queries.map_or(0, |(queries, _)| queries.len())
            )));
        }
        for (name, values) in [("table", table), ("queries", queries.map_or(&[][..], |(queries, _)| queries))]
        {
            if let Some(row) = values.chunks_exact(dim).position(is_too_long) {
                return Err(Error::Value(format!(
                    "row {row} of {name} has the length {}; expected a number up to {LONGEST:e}",
                    length(&values[row * dim..(row + 1) * dim])
                )));
            }
        }
        let (num_items, pairs) = (table.len() / dim, dim.div_ceil(2));
        let mut packed = vec![0; num_items.next_multiple_of(ITEMS) * 2 * pairs];
        let mut scales = vec![0.0; num_items.next_multiple_of(ITEMS)];
        let mut whole = Vec::new();
        for (item, row) in table.chunks_exact(dim).enumerate() {
            whole.clear();
            scales[item] = push_whole(row, &mut whole);
            let block = &mut packed[item / ITEMS * pairs * STEP..];
            for (pair, values) in whole.iter().enumerate() {
                block[pair * STEP + item % ITEMS * 2..][..2].copy_from_slice(values);
            }
        }
        let longest = table.chunks_exact(dim).map(length).fold(0.0, f64::max) as f32;
        let queries = queries.map(|(vectors, excludes_seen)| ItemQueries {
            vectors: Column::in_large_pages(vectors),
            excludes_seen,
            normalisers: (0..num_items).map(|_| AtomicU64::new(UNKNOWN)).collect(),
        });
        let (table, packed) = (Column::in_large_pages(table), Column::in_large_pages(&packed));
        Ok(Self { num_items, dim, table, packed, scales, longest, queries })
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

    /// Whether the items of a session are queries, so that scores are logarithms of probabilities.
    #[must_use]
    pub fn is_mixture(&self) -> bool {
        self.queries.is_some()
    }

    pub(crate) fn check(&self, session: &SessionQueries<'_>) -> Result<()> {
        let SessionQueries { items, weights, vector } = *session;
        let asks = if self.is_mixture() { !items.is_empty() } else { items.is_empty() && vector.is_some() };
        let found = vector.map_or(self.dim, |(values, _)| values.len());
        if !asks || items.len() != weights.len() || found != self.dim {
            return Err(Error::Value(format!(
                "a session asks with {} items, {} weights and {found} numbers; expected {}, and a session vector of \
                 {} numbers",
                items.len(),
                weights.len(),
                if self.is_mixture() { "1 item or more with a weight for each" } else { "no items" },
                self.dim
            )));
        }
        check_items("items", items, self.num_items)?;
        match vector.filter(|(values, _)| is_too_long(values)) {
            None => Ok(()),
            Some((values, _)) => Err(Error::Value(format!(
                "the vector of a session has the length {}; expected a number up to {LONGEST:e}",
                length(values)
            ))),
        }
    }

    fn vector(&self, item: usize) -> &[f32] {
        &self.table[item * self.dim..(item + 1) * self.dim]
    }

    /// How far scores of a query from whole numbers can be from those from floats: both vectors are rounded by
    /// half a unit in each column, and sums of float32 numbers have errors of their own.
    fn error(&self, query: &[f32]) -> f32 {
        let (columns, product) = (2.0 * self.dim as f64, length(query) * f64::from(self.longest));
        (product * (1.01 * columns.sqrt() / LENGTH + 1e-6)) as f32
    }

    /// The largest score and the inverse sum of powers of the query of an item, if they are known.
    fn normaliser(queries: &ItemQueries, item: usize) -> Option<(f32, f32)> {
        let bits = queries.normalisers[item].load(Ordering::Relaxed);
        (bits != UNKNOWN).then(|| (f32::from_bits((bits >> 32) as u32), f32::from_bits(bits as u32)))
    }

    /// Computes the normalisers of the queries of the items of sessions.
    fn normalise(&self, queries: &ItemQueries, sessions: &[SessionQueries<'_>], scratch: &mut Scratch) {
        let items = sessions.iter().flat_map(|session| session.items).map(|&item| item as usize);
        let mut missing: Vec<usize> =
            items.filter(|&item| Self::normaliser(queries, item).is_none()).collect();
        missing.sort_unstable();
        missing.dedup();
        for some in missing.chunks(4) {
            scratch.ask(some.iter().map(|&item| query(queries, item, self.dim)));
            scratch.rows.resize(some.len() * self.num_items, 0.0);
            let Scratch { queries: asked, factors, products, rows, found, .. } = scratch;
            self.by_parts(asked, products, |part, products| {
                for ((row, products), factor) in
                    rows.chunks_exact_mut(self.num_items).zip(products).zip(&*factors)
                {
                    simd::scaled(products, &self.scales[part.clone()], *factor, &mut row[part.clone()]);
                }
            });
            for (&item, row) in some.iter().zip(rows.chunks_exact_mut(self.num_items)) {
                if queries.excludes_seen {
                    row[item] = f32::NEG_INFINITY;
                }
                let (most, inverse) = self.normalised(row, query(queries, item, self.dim), found);
                // Every thread computes the same bits, so that it does not matter which of them is kept.
                let bits = u64::from(most.to_bits()) << 32 | u64::from(inverse.to_bits());
                queries.normalisers[item].store(bits, Ordering::Relaxed);
            }
        }
    }

    /// Replaces scores by their powers; returns what is subtracted from scores and the inverse of the sum, 0 if no
    /// item is left.
    fn normalised(&self, row: &mut [f32], query: &[f32], found: &mut Vec<u32>) -> (f32, f32) {
        let most = simd::peak(row);
        let most = if most == f32::NEG_INFINITY { 0.0 } else { most + self.error(query) };
        let mut sum = simd::powers(row, most);
        found.clear();
        simd::outside(row, f32::NEG_INFINITY, (sum * SHARE) as f32, found);
        for &item in &*found {
            let exact = power((dot(self.vector(item as usize), query) - most) * LOG2_E);
            sum += f64::from(exact) - f64::from(row[item as usize]);
        }
        (most, if sum > 0.0 { (1.0 / sum) as f32 } else { 0.0 })
    }

    /// Calls `take(part, products)` for each part of the items with the products of each query.
    fn by_parts(
        &self,
        queries: &[Pair],
        products: &mut Vec<i32>,
        mut take: impl FnMut(Range<usize>, std::slice::ChunksExact<'_, i32>),
    ) {
        let pairs = self.dim.div_ceil(2);
        products.resize(queries.len() / pairs * PART, 0);
        for first in (0..self.num_items).step_by(PART) {
            let width = PART.min(self.num_items - first);
            let padded = width.next_multiple_of(ITEMS);
            let packed = &self.packed[first * 2 * pairs..(first + padded) * 2 * pairs];
            let products = &mut products[..queries.len() / pairs * padded];
            simd::whole_products(packed, pairs, queries, products);
            take(first..first + width, products.chunks_exact(padded));
        }
    }

    /// Fills a row of `out` for each session with the scores of all items from whole numbers.
    pub(crate) fn rows(
        &self,
        sessions: &[SessionQueries<'_>],
        scratch: &mut Scratch,
        out: &mut [f32],
    ) -> Vec<Asked> {
        if let Some(queries) = &self.queries {
            self.normalise(queries, sessions, scratch);
        }
        let of_item = |item: &i64| {
            self.queries.as_ref().map_or(&[][..], |queries| query(queries, *item as usize, self.dim))
        };
        scratch.ask(sessions.iter().flat_map(|session| {
            session.items.iter().map(of_item).chain(session.vector.map(|(values, _)| values))
        }));
        let mut asked: Vec<Asked> = sessions.iter().map(|session| self.asked(session)).collect();
        let Scratch { queries, factors, products, rows, row: of_items, found } = scratch;
        rows.resize(sessions.len() * self.num_items, 0.0);
        self.by_parts(queries, products, |part, mut products| {
            let scales = &self.scales[part.clone()];
            let mut factors = factors.iter();
            let both = out.chunks_exact_mut(self.num_items).zip(rows.chunks_exact_mut(self.num_items));
            for ((session, asked), (sums, of_vector)) in sessions.iter().zip(&asked).zip(both) {
                let sums = &mut sums[part.clone()];
                if self.is_mixture() {
                    sums.fill(0.0);
                }
                for own in &asked.items {
                    let (Some(products), Some(factor)) = (products.next(), factors.next()) else { break };
                    let place = own.item.wrapping_sub(part.start);
                    let before = sums.get(place).copied();
                    simd::add_powers(products, scales, (*factor, own.most, own.weight), sums);
                    if let Some(before) = before.filter(|_| self.excludes_seen()) {
                        sums[place] = before;
                    }
                }
                if session.vector.is_some()
                    && let (Some(products), Some(factor)) = (products.next(), factors.next())
                {
                    let scores = if self.is_mixture() { &mut of_vector[part.clone()] } else { sums };
                    simd::scaled(products, scales, *factor, scores);
                }
            }
        });
        if !self.is_mixture() {
            return asked;
        }
        let both = out.chunks_exact_mut(self.num_items).zip(rows.chunks_exact_mut(self.num_items));
        for ((session, asked), (out, of_vector)) in sessions.iter().zip(&mut asked).zip(both) {
            of_items.clear();
            of_items.extend_from_slice(out);
            let Some((vector, weight)) = session.vector else {
                simd::log_mixture(&[of_items], &[1.0], out);
                continue;
            };
            if self.excludes_seen() {
                for &item in session.items {
                    of_vector[item as usize] = f32::NEG_INFINITY;
                }
            }
            let (most, inverse) = self.normalised(of_vector, vector, found);
            asked.vector_most = most;
            asked.vector_weight = inverse * weight;
            asked.total += if inverse > 0.0 { weight } else { 0.0 };
            simd::log_mixture(&[of_items, of_vector], &[1.0, asked.vector_weight], out);
        }
        asked
    }

    /// The queries of a session but for what the vector of a mixture is divided by.
    fn asked(&self, session: &SessionQueries<'_>) -> Asked {
        let vector = session.vector.map_or(&[][..], |(values, _)| values);
        let mut asked = Asked { vector: vector.to_vec(), error: self.error(vector), ..Asked::default() };
        if let Some(queries) = &self.queries {
            for (&item, &weight) in session.items.iter().zip(session.weights) {
                let item = item as usize;
                let (most, inverse) = Self::normaliser(queries, item).unwrap_or_default();
                asked.items.push(ItemQuery { item, most, weight: inverse * weight });
                asked.total += if inverse > 0.0 { weight } else { 0.0 };
                asked.error = asked.error.max(self.error(query(queries, item, self.dim)));
            }
        }
        asked
    }

    fn excludes_seen(&self) -> bool {
        self.queries.as_ref().is_some_and(|queries| queries.excludes_seen)
    }

    /// The score of an item from floats.
    pub(crate) fn score(&self, asked: &Asked, item: usize) -> f32 {
        let vector = self.vector(item);
        let Some(queries) = &self.queries else {
            return dot(vector, &asked.vector);
        };
        let (mut sum, mut seen) = (0.0, false);
        for own in &asked.items {
            if own.item == item {
                seen = true;
                if queries.excludes_seen {
                    continue;
                }
            }
            let score = dot(vector, query(queries, own.item, self.dim));
            sum += own.weight * power((score - own.most) * LOG2_E);
        }
        if asked.vector_weight > 0.0 && !(seen && queries.excludes_seen) {
            sum += asked.vector_weight * power((dot(vector, &asked.vector) - asked.vector_most) * LOG2_E);
        }
        log(sum)
    }
}

impl Scratch {
    /// Replaces the queries.
    fn ask<'a>(&mut self, queries: impl Iterator<Item = &'a [f32]>) {
        self.queries.clear();
        self.factors.clear();
        for query in queries {
            let factor = push_whole(query, &mut self.queries);
            self.factors.push(factor);
        }
    }
}

fn query(queries: &ItemQueries, item: usize, dim: usize) -> &[f32] {
    &queries.vectors[item * dim..(item + 1) * dim]
}

/// Refuses items outside of a catalogue; `name` is that of the argument.
pub(crate) fn check_items(name: &str, items: &[i64], num_items: usize) -> Result<()> {
    match items.iter().position(|item| !(0..num_items as i64).contains(item)) {
        None => Ok(()),
        Some(place) => Err(Error::Value(format!(
            "{name}[{place}] is {}; expected 0 to {}",
            items[place],
            num_items as i64 - 1
        ))),
    }
}

fn length(vector: &[f32]) -> f64 {
    vector.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt()
}

/// Whether products of a vector are no ordinary numbers.
fn is_too_long(vector: &[f32]) -> bool {
    let length = length(vector);
    length > LONGEST || length.is_nan()
}

/// Appends a vector in whole numbers; returns what they are multiplied by.
fn push_whole(vector: &[f32], whole: &mut Vec<Pair>) -> f32 {
    let scale = (length(vector) / LENGTH) as f32;
    // Of a vector that short, every product is 0 in float32, too.
    let inverse = if scale.is_normal() { 1.0 / f64::from(scale) } else { 0.0 };
    let rounded = |value: &f32| (f64::from(*value) * inverse).round() as i16;
    whole.extend(vector.chunks(2).map(|pair| [rounded(&pair[0]), pair.get(1).map_or(0, rounded)]));
    scale
}

/// The sum of products, in an order that every instruction set keeps.
fn dot(vector: &[f32], other: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0; LANES];
    for (some, others) in vector.chunks(LANES).zip(other.chunks(LANES)) {
        for ((sum, value), factor) in sums.iter_mut().zip(some).zip(others) {
            *sum += value * factor;
        }
    }
    sums.iter().sum()
}
