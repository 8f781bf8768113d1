//! Neighbourhood recommenders: item-kNN, co-visitation and V-SKNN.
//!
//! Each row of scores is summed by one thread in a fixed order, so results do not depend on threads.

use crate::error::{Error, Result};
use crate::prefixes::Prefixes;
use crate::sessions::SessionStore;
use crate::threads::{fill_rows, with_threads};
use rayon::prelude::*;
use std::cmp::Reverse;

/// Rows of ids, one after the other.
#[derive(Debug)]
struct IdRows {
    offsets: Vec<usize>,
    ids: Vec<u32>,
}

impl IdRows {
    /// The distinct items of each session, ascending.
    fn of_sessions(store: &SessionStore) -> Self {
        let mut rows = Self { offsets: vec![0], ids: Vec::new() };
        let mut distinct = Vec::new();
        for items in store.iter() {
            distinct.clear();
            distinct.extend_from_slice(items);
            distinct.sort_unstable();
            distinct.dedup();
            rows.ids.extend_from_slice(&distinct);
            rows.offsets.push(rows.ids.len());
        }
        rows
    }

    /// For each id, the rows that contain it, ascending.
    fn transposed(&self, num_ids: usize) -> Self {
        let mut offsets = vec![0; num_ids + 1];
        for &id in &self.ids {
            offsets[id as usize + 1] += 1;
        }
        for id in 0..num_ids {
            offsets[id + 1] += offsets[id];
        }
        let mut next = offsets.clone();
        let mut ids = vec![0; self.ids.len()];
        for row in 0..self.offsets.len() - 1 {
            for &id in self.row(row) {
                ids[next[id as usize]] = row as u32;
                next[id as usize] += 1;
            }
        }
        Self { offsets, ids }
    }

    fn row(&self, row: usize) -> &[u32] {
        &self.ids[self.offsets[row]..self.offsets[row + 1]]
    }
}

impl Prefixes<'_> {
    /// Adds to one row of `num_items` scores per prefix, starting from zeros.
    fn scores<S: Default>(
        &self,
        num_items: usize,
        threads: Option<usize>,
        score: impl Fn(&mut S, &[i64], &mut [f32]) + Sync + Send,
    ) -> Result<Vec<f32>> {
        let rows = self.rows()?;
        let mut scores = vec![0.0; rows * num_items];
        fill_rows(&mut scores, rows, num_items, threads, |scratch, row, out| {
            score(scratch, self.row(row, num_items)?, out);
            Ok(())
        })?;
        Ok(scores)
    }
}

/// Where each item occurs in a store.
struct Occurrences {
    offsets: Vec<usize>,
    /// Session and place in the session of each occurrence, item after item, in the order of the store.
    places: Vec<(u32, u32)>,
}

impl Occurrences {
    fn of(store: &SessionStore) -> Self {
        let mut offsets = vec![0];
        for count in store.item_counts() {
            offsets.push(offsets[offsets.len() - 1] + count as usize);
        }
        let mut next = offsets.clone();
        let mut places = vec![(0, 0); offsets[offsets.len() - 1]];
        for (session, items) in store.iter().enumerate() {
            for (place, &item) in items.iter().enumerate() {
                places[next[item as usize]] = (session as u32, place as u32);
                next[item as usize] += 1;
            }
        }
        Self { offsets, places }
    }

    fn row(&self, item: usize) -> &[(u32, u32)] {
        &self.places[self.offsets[item]..self.offsets[item + 1]]
    }
}

/// The most similar items of each item: by the sessions they share, or by how often one is visited next to
/// the other.
#[derive(Debug, PartialEq)]
pub struct ItemNeighbours {
    offsets: Vec<i64>,
    ids: Vec<u32>,
    similarities: Vec<f32>,
}

impl ItemNeighbours {
    /// Computes the similarities `c_ij / (sqrt(c_i c_j) + shrinkage)`, with counts c of sessions, and keeps
    /// for each item the `k` most similar others that share a session with it, best first, ties by id.
    ///
    /// # Errors
    /// `Value` if `k` or `threads` is 0, or `shrinkage` negative or not finite.
    pub fn new(store: &SessionStore, k: usize, shrinkage: f64, threads: Option<usize>) -> Result<Self> {
        at_least_one("k", k)?;
        if !(shrinkage.is_finite() && shrinkage >= 0.0) {
            return Err(Error::Value(format!("shrinkage is {shrinkage}; expected 0 or more, finite")));
        }
        let sessions = IdRows::of_sessions(store);
        let holders = sessions.transposed(store.num_items());
        let similarity = |i: usize, j: u32, both: u32| {
            let product = holders.row(i).len() as f64 * holders.row(j as usize).len() as f64;
            (f64::from(both) / (product.sqrt() + shrinkage)) as f32
        };
        Self::of_each_item(store.num_items(), k, threads, |(counts, met): &mut (Vec<u32>, Vec<u32>), i| {
            counts.resize(store.num_items(), 0);
            for &session in holders.row(i) {
                for &j in sessions.row(session as usize) {
                    if counts[j as usize] == 0 {
                        met.push(j);
                    }
                    counts[j as usize] += 1;
                }
            }
            let others = met.iter().filter(|&&j| j as usize != i);
            let all = others.map(|&j| (similarity(i, j, counts[j as usize]), j)).collect();
            met.drain(..).for_each(|j| counts[j as usize] = 0);
            all
        })
    }

    /// Counts, for each item, the items that are visited after and before it in a session, with a weight for
    /// each distance: `after[d - 1]` for an item d places later, `before[d - 1]` for one d places earlier.
    /// The similarity of item j to item i is the sum of the weights of j around all occurrences of i, divided
    /// by the number of these occurrences. For each item, the `k` others with the largest similarity above 0
    /// are kept, best first, ties by id.
    ///
    /// # Errors
    /// `Value` if `k` or `threads` is 0, or a weight negative or not finite.
    pub fn covisited(
        store: &SessionStore,
        k: usize,
        after: &[f64],
        before: &[f64],
        threads: Option<usize>,
    ) -> Result<Self> {
        at_least_one("k", k)?;
        for (name, weights) in [("after", after), ("before", before)] {
            if let Some(place) = weights.iter().position(|weight| !(weight.is_finite() && *weight >= 0.0)) {
                let weight = weights[place];
                return Err(Error::Value(format!("{name}[{place}] is {weight}; expected 0 or more, finite")));
            }
        }
        let sessions: Vec<_> = store.iter().collect();
        let occurrences = Occurrences::of(store);
        Self::of_each_item(store.num_items(), k, threads, |(sums, met): &mut (Vec<f64>, Vec<u32>), i| {
            sums.resize(store.num_items(), 0.0);
            for &(session, place) in occurrences.row(i) {
                let (place, items) = (place as usize, sessions[session as usize]);
                let later = items[place + 1..].iter().zip(after);
                let earlier = items[..place].iter().rev().zip(before);
                for (&j, &weight) in
                    later.chain(earlier).filter(|&(&j, &weight)| weight > 0.0 && j as usize != i)
                {
                    if sums[j as usize] == 0.0 {
                        met.push(j);
                    }
                    sums[j as usize] += weight;
                }
            }
            let count = occurrences.row(i).len() as f64;
            met.drain(..).map(|j| ((std::mem::take(&mut sums[j as usize]) / count) as f32, j)).collect()
        })
    }

    /// Keeps the `k` best of the similarities (similarity, id) that `of` returns for each item.
    fn of_each_item<S: Default>(
        num_items: usize,
        k: usize,
        threads: Option<usize>,
        of: impl Fn(&mut S, usize) -> Vec<(f32, u32)> + Sync + Send,
    ) -> Result<Self> {
        let best_of = |scratch: &mut S, item: usize| {
            let mut best = of(scratch, item);
            keep_first(&mut best, k, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            best.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            best
        };
        let items = (0..num_items).into_par_iter();
        let rows: Vec<_> = with_threads(threads, || items.map_init(S::default, best_of).collect())?;
        let mut found = Self { offsets: vec![0], ids: Vec::new(), similarities: Vec::new() };
        for row in rows {
            found.ids.extend(row.iter().map(|&(_, id)| id));
            found.similarities.extend(row.iter().map(|&(similarity, _)| similarity));
            found.offsets.push(found.ids.len() as i64);
        }
        Ok(found)
    }

    /// Builds neighbours from what `arrays` returns.
    ///
    /// # Errors
    /// `Value` if the arrays do not fit together, an id is not an item, or a similarity is not finite.
    pub fn from_arrays(
        num_items: usize,
        offsets: Vec<i64>,
        ids: Vec<u32>,
        similarities: Vec<f32>,
    ) -> Result<Self> {
        let wrong = |message: String| Err(Error::Value(message));
        let (rows, total) = (offsets.len(), ids.len());
        if rows != num_items + 1 {
            return wrong(format!("offsets has {rows} values; expected {} (num_items + 1)", num_items + 1));
        }
        if offsets[0] != 0 || offsets[num_items] != total as i64 || !offsets.is_sorted() {
            return wrong(format!("offsets must rise from 0 to {total}, the number of ids"));
        }
        if similarities.len() != total {
            return wrong(format!(
                "similarities has {} values, ids {total}; both must be equal",
                similarities.len()
            ));
        }
        if let Some(place) = ids.iter().position(|&id| id as usize >= num_items) {
            return wrong(format!("ids[{place}] is {}; expected 0 to {}", ids[place], num_items as i64 - 1));
        }
        if let Some(place) = similarities.iter().position(|similarity| !similarity.is_finite()) {
            return wrong(format!(
                "similarities[{place}] is {}; expected a finite number",
                similarities[place]
            ));
        }
        Ok(Self { offsets, ids, similarities })
    }

    /// Size of the catalogue.
    #[must_use]
    pub fn num_items(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Offsets of the neighbours of each item (V+1 values), their ids and similarities.
    #[must_use]
    pub fn arrays(&self) -> (&[i64], &[u32], &[f32]) {
        (&self.offsets, &self.ids, &self.similarities)
    }

    /// Scores each prefix: the sum over its items of `decay ^ (distance from the end)` times the similarity
    /// of each of their neighbours; V values per row.
    ///
    /// # Errors
    /// `Value` for a decay outside 0..1, or an item outside the catalogue.
    pub fn scores(&self, prefixes: Prefixes<'_>, decay: f64, threads: Option<usize>) -> Result<Vec<f32>> {
        if !(0.0..=1.0).contains(&decay) {
            return Err(Error::Value(format!("decay is {decay}; expected 0 to 1")));
        }
        prefixes.scores(self.num_items(), threads, |_: &mut (), prefix, out| {
            self.add_scores(prefix, decay, out);
        })
    }

    /// Adds the scores of one prefix, as [`ItemNeighbours::scores`] defines them.
    pub(crate) fn add_scores(&self, prefix: &[i64], decay: f64, out: &mut [f32]) {
        for (&item, distance) in prefix.iter().rev().zip(0..) {
            let weight = decay.powi(distance) as f32;
            let (ids, similarities) = self.of_item(item);
            for (&id, &similarity) in ids.iter().zip(similarities) {
                out[id as usize] += weight * similarity;
            }
        }
    }

    /// The neighbours of an item and their similarities.
    pub(crate) fn of_item(&self, item: i64) -> (&[u32], &[f32]) {
        let row = self.offsets[item as usize] as usize..self.offsets[item as usize + 1] as usize;
        (&self.ids[row.clone()], &self.similarities[row])
    }
}

/// V-SKNN: scores the items of the past sessions that are most similar to the prefix.
///
/// Ludewig and Jannach, "Evaluation of session-based recommendation algorithms" (UMUAI 2018), with
/// the defaults of their published code: position weights i/n and score weights 1/steps.
#[derive(Debug)]
pub struct SessionNeighbours {
    sessions: IdRows,
    holders: IdRows,
    k: usize,
    sample: usize,
}

/// A past session that shares items with the prefix.
#[derive(Clone, Copy)]
struct Neighbour {
    session: u32,
    /// Sum of the positions in the prefix, from 1, of the shared items; an integer, so that ties are exact.
    positions: u64,
    /// Steps, from 1, from the end of the prefix to the latest shared item.
    steps: u32,
}

#[derive(Default)]
struct Found {
    positions: Vec<u64>,
    neighbours: Vec<Neighbour>,
}

impl SessionNeighbours {
    /// Indexes a store. Of the sessions that share an item with a prefix, the `sample` latest in the store
    /// are compared with it, and the `k` most similar are its neighbours (ties: the later one).
    ///
    /// # Errors
    /// `Value` if `k` or `sample` is 0.
    pub fn new(store: &SessionStore, k: usize, sample: usize) -> Result<Self> {
        at_least_one("k", k)?;
        at_least_one("sample", sample)?;
        let sessions = IdRows::of_sessions(store);
        let holders = sessions.transposed(store.num_items());
        Ok(Self { sessions, holders, k, sample })
    }

    /// Size of the catalogue.
    #[must_use]
    pub fn num_items(&self) -> usize {
        self.holders.offsets.len() - 1
    }

    /// Scores each prefix: the sum over the neighbours that contain an item of similarity times 1/steps.
    ///
    /// # Errors
    /// `Value` for an item outside the catalogue.
    pub fn scores(&self, prefixes: Prefixes<'_>, threads: Option<usize>) -> Result<Vec<f32>> {
        prefixes.scores(self.num_items(), threads, |found: &mut Found, prefix, out| {
            self.find(prefix, found);
            for neighbour in &found.neighbours {
                let similarity = neighbour.positions as f64 / prefix.len() as f64;
                let score = (similarity / f64::from(neighbour.steps)) as f32;
                for &item in self.sessions.row(neighbour.session as usize) {
                    out[item as usize] += score;
                }
            }
        })
    }

    fn find(&self, prefix: &[i64], found: &mut Found) {
        let Found { positions, neighbours } = found;
        positions.resize(self.sessions.offsets.len() - 1, 0);
        neighbours.clear();
        for (place, &item) in prefix.iter().enumerate().rev() {
            if prefix[place + 1..].contains(&item) {
                continue; // an item counts at its last position
            }
            let steps = (prefix.len() - place) as u32;
            for &session in self.holders.row(item as usize) {
                if positions[session as usize] == 0 {
                    neighbours.push(Neighbour { session, positions: 0, steps });
                }
                positions[session as usize] += place as u64 + 1;
            }
        }
        for neighbour in neighbours.iter_mut() {
            neighbour.positions = std::mem::take(&mut positions[neighbour.session as usize]);
        }
        keep_first(neighbours, self.sample, |a, b| b.session.cmp(&a.session));
        keep_first(neighbours, self.k, |a, b| {
            (Reverse(a.positions), Reverse(a.session)).cmp(&(Reverse(b.positions), Reverse(b.session)))
        });
        // Sums of floats depend on their order.
        neighbours.sort_unstable_by_key(|neighbour| neighbour.session);
    }
}

/// Keeps the first `count` values in the order of `compare`; they are not sorted.
fn keep_first<T>(values: &mut Vec<T>, count: usize, compare: impl Fn(&T, &T) -> std::cmp::Ordering) {
    if values.len() > count {
        values.select_nth_unstable_by(count, compare);
        values.truncate(count);
    }
}

fn at_least_one(name: &str, value: usize) -> Result<()> {
    if value < 1 { Err(Error::Value(format!("{name} is {value}; expected 1 or more"))) } else { Ok(()) }
}
