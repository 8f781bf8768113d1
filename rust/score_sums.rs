//! The score of a system for a service: the weighted sum of its parts, the repeat component, filters, and the best
//! items, for one session or many.
//!
//! Scores of all items come from whole numbers (see [`crate::query_tables`]) and show which items can be among the
//! best. The scores of these are computed from floats, and no others are returned.

use crate::error::{Error, Result};
use crate::matrix::Matrix;
use crate::query_tables::{self, Asked, SHARE, check_items};
use crate::repeats::{self, Own, own_items};
use crate::score_parts::{ColdItems, Request, Rules, ScoreSum};
use crate::select::top_ranked;
use crate::simd;
use crate::threads::with_threads;
use rayon::prelude::*;
use std::cell::RefCell;

/// Most sessions, and queries, that go through the tables together; their scores stay in the cache.
const SESSIONS: usize = 4;
const QUERIES: usize = 32;

/// Scores of mixtures below this one come from powers that are rounded to 0, so they can have larger errors.
const LEAST: f32 = -60.0;

/// Memory of one thread.
#[derive(Debug, Default)]
struct Memory {
    tables: query_tables::Scratch,
    /// For each network, a row of scores for each session.
    parts: Vec<Vec<f32>>,
    /// Sums of neighbours.
    near: Vec<f32>,
    rows: Rows,
}

/// Rows of one session.
#[derive(Debug, Default)]
struct Rows {
    /// The scores of all items from whole numbers; -inf: not a candidate.
    total: Vec<f32>,
    /// For passes that need another row.
    other: Vec<f32>,
    /// Items whose parts can have larger errors.
    unsure: Vec<u32>,
    found: Vec<u32>,
}

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
}

/// One session, ready to score single items.
struct Session<'a> {
    sum: &'a ScoreSum<'a>,
    asked: Vec<&'a Asked>,
    /// What is added to the score of a cold item.
    shift: f32,
    near: &'a [f32],
}

impl Session<'_> {
    /// The score of an item without the repeat component, from floats.
    fn score(&self, item: usize) -> f32 {
        let part = |network: usize| self.sum.networks[network].0.score(self.asked[network], item);
        let cold = self.sum.cold.filter(|cold| cold.items.binary_search(&(item as u32)).is_ok());
        let mut total = 0.0;
        for (network, &(_, weight)) in self.sum.networks.iter().enumerate() {
            if weight != 0.0 {
                total += weight
                    * match cold.filter(|cold| cold.of == network) {
                        Some(cold) => part(cold.by) + self.shift,
                        None => part(network),
                    };
            }
        }
        if let Some(neighbours) = &self.sum.neighbours {
            total += neighbours.weight * self.near[item];
        }
        self.sum.fixed.map_or(total, |(scores, weight)| total + weight * scores[item])
    }

    /// How far the score of an item from whole numbers can be from the one from floats.
    fn error(&self) -> f32 {
        let networks = self.sum.networks.iter().zip(&self.asked);
        let errors = networks.map(|((_, weight), asked)| weight.abs() * asked.error);
        // A cold item has the error of another network.
        let cold =
            self.sum.cold.map_or(0.0, |cold| self.sum.networks[cold.of].1.abs() * self.asked[cold.by].error);
        errors.sum::<f32>() + cold
    }
}

impl ScoreSum<'_> {
    /// Returns the `k` best items of each session with their scores, best first; ties in the order of ids.
    ///
    /// Where fewer candidates are left, there are fewer items. No result depends on the other sessions.
    ///
    /// # Errors
    /// `Value` for an item outside the catalogue, arguments that do not fit together, and 0 threads.
    pub fn best(
        &self,
        requests: &[Request<'_>],
        k: usize,
        rules: &Rules,
        threads: Option<usize>,
    ) -> Result<Vec<Vec<(i64, f32)>>> {
        self.each(requests, threads, &|row, session, rows| {
            self.best_of(session, &requests[row], k, rules, rows)
        })
    }

    /// Returns the scores of some items in each session, also of those that are never recommended.
    ///
    /// # Errors
    /// As [`ScoreSum::best`].
    pub fn scores(
        &self,
        requests: &[Request<'_>],
        items: &[&[i64]],
        rules: &Rules,
        threads: Option<usize>,
    ) -> Result<Vec<Vec<f32>>> {
        if items.len() != requests.len() {
            return Err(Error::Value(format!(
                "there are items for {} sessions; expected {}",
                items.len(),
                requests.len()
            )));
        }
        for items in items {
            check_items("items", items, self.num_items())?;
        }
        self.each(requests, threads, &|row, session, rows| {
            let own = self.repeated(session, &requests[row], rules, rows)?;
            let repeated =
                |item: i64| own.iter().find(|(own, _)| i64::from(*own) == item).map(|(_, score)| *score);
            let score = |&item: &i64| repeated(item).unwrap_or_else(|| session.score(item as usize));
            Ok(items[row].iter().map(score).collect())
        })
    }

    /// Calls `work` with the number of each session and its scores; returns the results in the order of sessions.
    fn each<T: Send>(
        &self,
        requests: &[Request<'_>],
        threads: Option<usize>,
        work: &(dyn Fn(usize, &Session<'_>, &mut Rows) -> Result<T> + Sync),
    ) -> Result<Vec<T>> {
        self.check()?;
        for request in requests {
            self.check_request(request)?;
        }
        let mut groups = Vec::new();
        let mut first = 0;
        while first < requests.len() {
            let count = group(&requests[first..]);
            groups.push((first, &requests[first..first + count]));
            first += count;
        }
        let of_group = |(first, requests): (usize, &[Request<'_>])| {
            MEMORY.with_borrow_mut(|memory| self.of_group(first, requests, memory, work))
        };
        let found: Result<Vec<Vec<T>>> = if groups.len() < 2 || threads == Some(1) {
            groups.into_iter().map(of_group).collect()
        } else {
            with_threads(threads, || groups.into_par_iter().map(of_group).collect())?
        };
        Ok(found?.into_iter().flatten().collect())
    }

    fn of_group<T>(
        &self,
        first: usize,
        requests: &[Request<'_>],
        memory: &mut Memory,
        work: &(dyn Fn(usize, &Session<'_>, &mut Rows) -> Result<T> + Sync),
    ) -> Result<Vec<T>> {
        let Memory { tables, parts, near, rows } = memory;
        let num_items = self.num_items();
        parts.resize_with(self.networks.len(), Vec::new);
        let mut asked = Vec::new();
        for (network, ((table, _), part)) in self.networks.iter().zip(&mut *parts).enumerate() {
            part.resize(requests.len() * num_items, 0.0);
            let queries: Vec<_> = requests.iter().map(|request| request.queries[network]).collect();
            asked.push(table.rows(&queries, tables, part));
        }
        let mut results = Vec::new();
        for (place, request) in requests.iter().enumerate() {
            let mut own: Vec<&mut [f32]> =
                parts.iter_mut().map(|part| &mut part[place * num_items..(place + 1) * num_items]).collect();
            if let Some(part) = &self.neighbours {
                part.fill(request.read, num_items, near);
            }
            let asked: Vec<&Asked> = asked.iter().map(|asked| &asked[place]).collect();
            let mut session = Session { sum: self, asked, shift: 0.0, near };
            rows.note_unsure(self, &own);
            if let Some(cold) = &self.cold {
                session.shift = self.shift(cold, &session, &own, rows);
                // Copied, because both are rows of one list.
                rows.other.clear();
                rows.other.extend_from_slice(own[cold.by]);
                simd::fill_absent(own[cold.of], &rows.other, cold.absent, session.shift);
            }
            let mut views: Vec<&[f32]> = own.iter().map(|part| &**part).collect();
            let mut weights: Vec<f32> = self.networks.iter().map(|&(_, weight)| weight).collect();
            if let Some(part) = &self.neighbours {
                views.push(session.near);
                weights.push(part.weight);
            }
            if let Some((scores, weight)) = self.fixed {
                views.push(scores);
                weights.push(weight);
            }
            rows.total.resize(num_items, 0.0);
            simd::weighted_sum(&views, &weights, &mut rows.total);
            for &item in self.removed {
                rows.total[item as usize] = f32::NEG_INFINITY;
            }
            results.push(work(first + place, &session, rows)?);
        }
        Ok(results)
    }

    /// What cold items add to the scores of another network; `parts` are the scores of all networks.
    fn shift(
        &self,
        cold: &ColdItems<'_>,
        session: &Session<'_>,
        parts: &[&mut [f32]],
        rows: &mut Rows,
    ) -> f32 {
        let exact =
            |network: usize, item: usize| self.networks[network].0.score(session.asked[network], item);
        rows.other.resize(self.num_items(), 0.0);
        simd::weighted_sum(&[&*parts[cold.of], cold.absent], &[1.0, 1.0], &mut rows.other);
        let known = log_sum(&rows.other, &[], 1.0, &mut rows.found, |item| exact(cold.of, item));
        let scored = if self.networks[cold.by].0.is_mixture() {
            // Probabilities add up to the sum of the weights.
            let gone = self.removed.iter().map(|&item| f64::from(exact(cold.by, item as usize)).exp());
            (f64::from(session.asked[cold.by].total) - gone.sum::<f64>())
                .max(f64::from(f32::MIN_POSITIVE))
                .ln()
        } else {
            log_sum(parts[cold.by], self.removed, 1.0, &mut rows.found, |item| exact(cold.by, item))
        };
        (known - scored) as f32
    }

    /// The items of the session that can be repeated, with their scores.
    fn repeated(
        &self,
        session: &Session<'_>,
        request: &Request<'_>,
        rules: &Rules,
        rows: &mut Rows,
    ) -> Result<Vec<(u32, f32)>> {
        let Some((log_rate, log_weights)) = request.repeats else { return Ok(Vec::new()) };
        let is_removed = |item: i64| self.removed.binary_search(&(item as u32)).is_ok();
        let mut weights = log_weights.to_vec();
        if rules.affinity != 0.0 {
            let tilts: Vec<f64> = request
                .seen
                .iter()
                .zip(log_weights)
                .map(|(&item, &weight)| match (weight == f64::NEG_INFINITY, is_removed(item)) {
                    (true, _) => 0.0,
                    (false, true) => f64::NEG_INFINITY,
                    _ => {
                        rules.affinity
                            * f64::from((f64::from(session.score(item as usize)) / rules.temperature) as f32)
                    }
                })
                .collect();
            if tilts.iter().all(|tilt| tilt.is_finite()) {
                weights.iter_mut().zip(tilts).for_each(|(weight, tilt)| *weight += tilt);
            }
        }
        let most = weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum = weights.iter().map(|weight| (weight - most).exp()).sum::<f64>().ln();
        let odds: Vec<f32> =
            weights
                .iter()
                .zip(request.seen)
                .map(|(weight, &item)| {
                    if is_removed(item) { f32::NEG_INFINITY } else { (log_rate + weight - most - sum) as f32 }
                })
                .collect();
        let mut own: Vec<Own> = Vec::new();
        own_items(0, request.seen, &odds, &mut own)?;
        let ids: Vec<u32> = own.iter().map(|own| own.id).collect();
        let sum = log_sum(&rows.total, &ids, rules.temperature, &mut rows.found, |item| session.score(item));
        Ok(own.iter().map(|own| (own.id, own.score(sum, rules.temperature))).collect())
    }

    fn best_of(
        &self,
        session: &Session<'_>,
        request: &Request<'_>,
        k: usize,
        rules: &Rules,
        rows: &mut Rows,
    ) -> Result<Vec<(i64, f32)>> {
        let mut repeated = self.repeated(session, request, rules, rows)?;
        let Rows { total, other, unsure, found } = rows;
        if rules.exclude_seen || request.repeats.is_some() {
            for &item in request.seen {
                total[item as usize] = f32::NEG_INFINITY;
            }
        }
        for &item in request.exclude {
            total[item as usize] = f32::NEG_INFINITY;
        }
        repeated.retain(|(item, _)| !request.exclude.contains(&i64::from(*item)));
        if let Some(only) = request.only {
            other.clear();
            other.resize(total.len(), f32::NEG_INFINITY);
            for &item in only {
                other[item as usize] = total[item as usize];
            }
            std::mem::swap(total, other);
            repeated.retain(|(item, _)| only.contains(&i64::from(*item)));
        }
        let mut ids = vec![0; k.min(total.len())];
        let none = Matrix::new(&[], 1, 0)?;
        top_ranked(Matrix::new(&total[..], 1, total.len())?, ids.len(), none, Some(1), &mut ids)?;
        let last = ids.last().map_or(f32::NEG_INFINITY, |&item| total[item as usize]);
        let error = session.error();
        found.clear();
        // Twice: for the last of these items and for one that overtakes it.
        simd::outside(total, f32::NEG_INFINITY, (last - 2.0 * error).next_down(), found);
        found.extend(unsure.iter().filter(|&&item| total[item as usize] > f32::NEG_INFINITY));
        found.sort_unstable();
        found.dedup();
        let mut best: Vec<(u32, f32)> =
            found.iter().map(|&item| (item, session.score(item as usize))).collect();
        best.extend(repeated.into_iter().filter(|(_, score)| *score > f32::NEG_INFINITY));
        best.sort_unstable_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
        best.truncate(k);
        Ok(best.into_iter().map(|(item, score)| (i64::from(item), score)).collect())
    }
}

impl Rows {
    /// Notes the items of whose probabilities a power was rounded to 0, or nearly.
    fn note_unsure(&mut self, sum: &ScoreSum<'_>, parts: &[&mut [f32]]) {
        self.unsure.clear();
        for ((table, _), part) in sum.networks.iter().zip(parts) {
            if table.is_mixture() {
                simd::outside(part, LEAST, f32::INFINITY, &mut self.unsure);
            }
        }
    }
}

/// The number of sessions that go through the tables together, 1 or more.
fn group(requests: &[Request<'_>]) -> usize {
    let mut queries = 0;
    let fits = |request: &&Request<'_>| {
        queries += request.queries.iter().map(|queries| queries.items.len() + 1).max().unwrap_or(0);
        queries <= QUERIES
    };
    requests.iter().take(SESSIONS).take_while(fits).count().max(1)
}

/// The logsumexp of `score / temperature` over the items not in `without`, ascending ids; `scores` come from whole
/// numbers, and `exact` gives those from floats.
fn log_sum(
    scores: &[f32],
    without: &[u32],
    temperature: f64,
    found: &mut Vec<u32>,
    exact: impl Fn(usize) -> f32,
) -> f64 {
    let sum = repeats::log_sum(scores, without, temperature);
    if !sum.is_finite() {
        return sum;
    }
    found.clear();
    simd::outside(scores, f32::NEG_INFINITY, (temperature * (sum + SHARE.ln())) as f32, found);
    let share = |score: f32| (f64::from(score) / temperature - sum).exp();
    let ids = found.iter().filter(|id| without.binary_search(id).is_err()).map(|&id| id as usize);
    sum + ids.fold(1.0, |total, id| total + share(exact(id)) - share(scores[id])).ln()
}
