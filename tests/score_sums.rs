//! Scores of a service against a slow version in float64 that computes every score of every item.

use alterrec_core::instructions::{Instructions, use_only};
use alterrec_core::neighbours::ItemNeighbours;
use alterrec_core::query_tables::{QueryTable, SessionQueries};
use alterrec_core::score_parts::{ColdItems, NeighbourPart, Request, Rules, ScoreSum};
use proptest::prelude::*;

const K: usize = 5;

#[derive(Debug, Clone)]
struct Net {
    dim: usize,
    table: Vec<f32>,
    /// The query of each item and whether an item is no candidate of its own; `None`: the product alone.
    queries: Option<(Vec<f32>, bool)>,
    weight: f32,
    /// Weights of the items and of the vector of the session, if it is a query.
    weights: Vec<f32>,
    vector: Option<Vec<f32>>,
}

#[derive(Debug, Clone)]
struct Case {
    num_items: usize,
    nets: [Net; 2],
    cold: Vec<u32>,
    removed: Vec<u32>,
    similarities: Vec<f32>,
    offset: Option<f64>,
    trend: Vec<f32>,
    read: Vec<i64>,
    repeats: Option<f64>,
    rules: Rules,
    exclude: Vec<i64>,
    only: Option<Vec<i64>>,
}

/// Ordinary numbers, ties, zeros, and scores far apart, of which some probabilities are 0 in float32.
fn net(num_items: usize, length: usize) -> impl Strategy<Value = Net> {
    let number = || prop_oneof![6 => -1.5_f32..1.5, 1 => Just(0.0_f32), 1 => Just(1.0_f32)];
    (
        1_usize..7,
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        prop_oneof![4 => Just(1.0_f32), 1 => Just(12.0_f32)],
    )
        .prop_flat_map(move |(dim, mixed, excludes, asks, factor)| {
            (
                prop::collection::vec(number(), dim * num_items),
                prop::collection::vec(number(), dim * num_items),
                prop::collection::vec(0.1_f32..1.0, length + 1),
                prop::collection::vec(number(), dim),
                0.1_f32..1.0,
            )
                .prop_map(move |(table, queries, weights, vector, weight)| Net {
                    dim,
                    table,
                    queries: mixed.then(|| (queries.iter().map(|value| value * factor).collect(), excludes)),
                    weight,
                    weights,
                    vector: (asks || !mixed).then_some(vector),
                })
        })
}

fn cases() -> impl Strategy<Value = Case> {
    (prop_oneof![8 => 2_usize..9, 8 => 60_usize..140, 1 => 2040_usize..2060], 1_usize..7).prop_flat_map(
        |(num_items, length)| {
            let item = 0..num_items as i64;
            let some = prop::collection::btree_set(0..num_items as u32, 0..num_items / 2);
            (
                (net(num_items, length), net(num_items, length)),
                (some.clone(), prop::collection::btree_set(0..num_items as u32, 0..2)),
                prop::collection::vec(0.0_f32..2.0, num_items),
                prop::option::of(0.01_f64..1.0),
                prop::collection::vec(-1.0_f32..1.0, num_items),
                prop::collection::vec(item.clone(), length),
                (prop::option::of(-3.0_f64..3.0), any::<bool>(), prop_oneof![Just(1.0), Just(0.7)]),
                prop_oneof![Just(0.0), Just(0.5)],
                prop::collection::vec(item.clone(), 0..4),
                prop::option::of(prop::collection::vec(item, 0..12)),
            )
                .prop_map(
                    move |(
                        nets,
                        (cold, removed),
                        similarities,
                        offset,
                        trend,
                        read,
                        repeats,
                        affinity,
                        exclude,
                        only,
                    )| {
                        Case {
                            num_items,
                            nets: [nets.0, nets.1],
                            cold: cold.into_iter().collect(),
                            removed: removed.into_iter().collect(),
                            similarities,
                            offset,
                            trend,
                            read,
                            repeats: repeats.0,
                            rules: Rules {
                                exclude_seen: repeats.1 && repeats.0.is_none(),
                                temperature: repeats.2,
                                affinity,
                            },
                            exclude,
                            only,
                        }
                    },
                )
        },
    )
}

fn log_sum(scores: impl Iterator<Item = f64>) -> f64 {
    let scores: Vec<f64> = scores.collect();
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if most == f64::NEG_INFINITY {
        return most;
    }
    most + scores.iter().map(|score| (score - most).exp()).sum::<f64>().ln()
}

impl Net {
    fn product(&self, item: usize, query: &[f32]) -> f64 {
        let row = &self.table[item * self.dim..(item + 1) * self.dim];
        row.iter().zip(query).map(|(value, factor)| f64::from(*value) * f64::from(*factor)).sum()
    }

    /// The scores of all items.
    fn slow(&self, read: &[i64]) -> Vec<f64> {
        let num_items = self.table.len() / self.dim;
        let vector = self.vector.as_deref().unwrap_or_default();
        let Some((queries, excludes)) = &self.queries else {
            return (0..num_items).map(|item| self.product(item, vector)).collect();
        };
        let mut asked: Vec<(&[f32], &[i64], f64)> = Vec::new();
        for (place, &item) in read.iter().enumerate() {
            let query = &queries[item as usize * self.dim..][..self.dim];
            asked.push((query, &read[place..=place], f64::from(self.weights[place])));
        }
        if self.vector.is_some() {
            asked.push((vector, read, f64::from(self.weights[read.len()])));
        }
        let mut sums = vec![0.0; num_items];
        for (query, gone, weight) in asked {
            let gone = |item: usize| *excludes && gone.contains(&(item as i64));
            let sum =
                log_sum((0..num_items).filter(|&item| !gone(item)).map(|item| self.product(item, query)));
            for item in (0..num_items).filter(|&item| !gone(item)) {
                sums[item] += weight * (self.product(item, query) - sum).exp();
            }
        }
        // Probabilities below 2^-100 are 0, and that has a logarithm, too.
        sums.into_iter().map(|sum| sum.max(f64::from(f32::MIN_POSITIVE)).ln()).collect()
    }
}

impl Case {
    /// The scores of all items without repeats, and with them; candidates; items whose scores are not precise,
    /// because float32 has no such small probabilities.
    fn slow(&self) -> (Vec<f64>, Vec<f64>, Vec<bool>, Vec<bool>) {
        let [mut of, by] = self.nets.each_ref().map(|net| net.slow(&self.read));
        let vague = of.iter().zip(&by).map(|(of, by)| of.min(*by) < -60.0).collect();
        let is_removed = |item: usize| self.removed.contains(&(item as u32));
        let is_cold = |item: usize| self.cold.contains(&(item as u32));
        if !self.cold.is_empty() {
            let known = (0..self.num_items).filter(|&item| !is_cold(item) && !is_removed(item));
            let scored = (0..self.num_items).filter(|&item| !is_removed(item));
            let least = f64::from(f32::MIN_POSITIVE).ln();
            let shift = log_sum(known.map(|item| of[item])) - log_sum(scored.map(|item| by[item])).max(least);
            for item in (0..self.num_items).filter(|&item| is_cold(item)) {
                of[item] = by[item] + shift;
            }
        }
        let mut near = vec![0.0; self.num_items];
        for (distance, &item) in self.read.iter().rev().enumerate() {
            // The only neighbour of an item is the next one.
            let next = (item as usize + 1) % self.num_items;
            near[next] += 0.5_f64.powi(distance as i32) * f64::from(self.similarities[item as usize]);
        }
        let total: Vec<f64> = (0..self.num_items)
            .map(|item| {
                let near = self.offset.map_or(near[item], |offset| (near[item] + offset).ln());
                f64::from(self.nets[0].weight) * of[item]
                    + f64::from(self.nets[1].weight) * by[item]
                    + 2.0 * near
                    + 0.5 * f64::from(self.trend[item])
            })
            .collect();
        let mut candidates: Vec<bool> = (0..self.num_items).map(|item| !is_removed(item)).collect();
        let mut repeated = total.clone();
        if let Some(rate) = self.repeats {
            let temperature = self.rules.temperature;
            let unseen = (0..self.num_items).filter(|&item| candidates[item] && !self.seen(item));
            let sum = log_sum(unseen.map(|item| total[item] / temperature));
            let gone = self.read.iter().any(|&item| is_removed(item as usize) && self.affinity() != 0.0);
            let weight = |(place, &item): (usize, &i64)| {
                let tilt = if gone { 0.0 } else { self.affinity() * total[item as usize] / temperature };
                self.log_weights()[place] + tilt
            };
            let weights: Vec<f64> = self.read.iter().enumerate().map(weight).collect();
            let all = log_sum(weights.iter().copied());
            for (place, &item) in self.read.iter().enumerate() {
                let sum = if sum == f64::NEG_INFINITY { 0.0 } else { sum };
                if self.log_weights()[place] > f64::NEG_INFINITY {
                    repeated[item as usize] = temperature * (rate + weights[place] - all + sum);
                }
            }
        }
        for (item, candidate) in candidates.iter_mut().enumerate() {
            let listed = |items: &[i64]| items.contains(&(item as i64));
            let barred = listed(&self.exclude) || self.rules.exclude_seen && self.seen(item);
            *candidate &= !barred && self.only.as_ref().is_none_or(|only| listed(only));
        }
        (total, repeated, candidates, vague)
    }

    fn affinity(&self) -> f64 {
        self.rules.affinity
    }

    fn seen(&self, item: usize) -> bool {
        self.read.contains(&(item as i64))
    }

    /// One over the distance from the end for the last occurrence of an item.
    fn log_weights(&self) -> Vec<f64> {
        let last = |place: usize| !self.read[place + 1..].contains(&self.read[place]);
        (0..self.read.len())
            .map(
                |place| {
                    if last(place) { -((self.read.len() - place) as f64).ln() } else { f64::NEG_INFINITY }
                },
            )
            .collect()
    }

    /// The best items, and the scores of all, alone and in a batch.
    fn quick(&self) -> (Vec<(i64, f32)>, Vec<f32>) {
        let tables = self.nets.each_ref().map(|net| {
            let queries = net.queries.as_ref().map(|(queries, excludes)| (&queries[..], *excludes));
            QueryTable::new(&net.table, queries, net.dim).unwrap()
        });
        let next: Vec<u32> = (1..=self.num_items).map(|item| (item % self.num_items) as u32).collect();
        let offsets = (0..=self.num_items as i64).collect();
        let lists =
            ItemNeighbours::from_arrays(self.num_items, offsets, next, self.similarities.clone()).unwrap();
        let gone = |item: usize| self.cold.contains(&(item as u32)) || self.removed.contains(&(item as u32));
        let absent: Vec<f32> =
            (0..self.num_items).map(|item| if gone(item) { f32::NEG_INFINITY } else { 0.0 }).collect();
        let sum = ScoreSum {
            networks: tables.iter().zip(&self.nets).map(|(table, net)| (table, net.weight)).collect(),
            cold: (!self.cold.is_empty()).then_some(ColdItems {
                items: &self.cold,
                absent: &absent,
                of: 0,
                by: 1,
            }),
            removed: &self.removed,
            neighbours: Some(NeighbourPart { lists: &lists, decay: 0.5, offset: self.offset, weight: 2.0 }),
            fixed: Some((&self.trend, 0.5)),
        };
        let log_weights = self.log_weights();
        let request = |read: std::ops::Range<usize>| {
            let queries = self.nets.iter().map(|net| {
                let items = if net.queries.is_some() { read.clone() } else { 0..0 };
                let vector = net.vector.as_ref().map(|vector| (&vector[..], net.weights[self.read.len()]));
                SessionQueries { items: &self.read[items.clone()], weights: &net.weights[items], vector }
            });
            Request {
                queries: queries.collect(),
                read: &self.read[read.clone()],
                seen: &self.read[read.clone()],
                repeats: self.repeats.map(|rate| (rate, &log_weights[read])),
                exclude: &self.exclude,
                only: self.only.as_deref(),
            }
        };
        let whole = request(0..self.read.len());
        let all: Vec<i64> = (0..self.num_items as i64).collect();
        let alone = std::slice::from_ref(&whole);
        let best = sum.best(alone, K, &self.rules, Some(1)).unwrap().remove(0);
        let scores = sum.scores(alone, &[&all], &self.rules, Some(1)).unwrap().remove(0);
        // Between other sessions.
        let last = self.read.len() - 1;
        let one = || request(last..last + 1);
        let many = [one(), one(), whole.clone(), one()];
        for threads in [1, 3] {
            let again = sum.best(&many, K, &self.rules, Some(threads)).unwrap();
            let scored = sum.scores(&many, &[&all[..]; 4], &self.rules, Some(threads)).unwrap();
            assert_eq!((&best, &scores), (&again[2], &scored[2]));
        }
        (best, scores)
    }
}

/// Whether a score is that of float64 up to the rounding of float32.
fn near(found: f32, wanted: f64) -> bool {
    (f64::from(found) - wanted).abs() <= 2e-5 * wanted.abs().max(1.0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_best_items_are_those_of_all_scores(case in cases()) {
        let (total, repeated, candidates, vague) = case.slow();
        let mut on_each = Vec::new();
        for set in Instructions::available() {
            use_only(Some(set)).unwrap();
            on_each.push(case.quick());
        }
        use_only(None).unwrap();
        prop_assert!(on_each.iter().all(|found| found == &on_each[0]));
        let (best, scores) = &on_each[0];
        let is_removed = |item: usize| case.removed.contains(&(item as u32));
        for (item, &score) in scores.iter().enumerate() {
                let seen = case.seen(item) && case.repeats.is_some();
            // The repeat component does not score a removed item, and scores others by all of them.
            if vague[item] || seen && (is_removed(item) || vague.contains(&true)) {
                continue;
            }
            let wanted = if seen { repeated[item] } else { total[item] };
            prop_assert!(near(score, wanted), "item {item}: {score} {wanted}");
        }
        // They are the best by the scores that are given for single items.
        let mut wanted: Vec<(i64, f32)> =
            (0..case.num_items).filter(|&item| candidates[item]).map(|item| (item as i64, scores[item])).collect();
        wanted.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
        wanted.truncate(K);
        prop_assert_eq!(best, &wanted);
    }
}

#[test]
fn wrong_sizes_and_items_are_errors() {
    assert!(QueryTable::new(&[], None, 0).is_err());
    assert!(QueryTable::new(&[1.0; 6], Some((&[1.0; 4], true)), 2).is_err());
    assert!(QueryTable::new(&[1.0; 5], None, 2).is_err());
    assert!(QueryTable::new(&[f32::NAN; 2], None, 2).is_err());
    assert!(QueryTable::new(&[1.0; 2], Some((&[f32::INFINITY; 2], true)), 2).is_err());
    assert!(QueryTable::new(&[1e19; 2], None, 2).is_err());
    let mixed = QueryTable::new(&[1.0; 6], Some((&[1.0; 6], true)), 2).unwrap();
    let plain = QueryTable::new(&[1.0; 6], None, 2).unwrap();
    let short = QueryTable::new(&[1.0; 4], None, 2).unwrap();
    assert_eq!((mixed.num_items(), mixed.dim(), mixed.is_mixture(), plain.is_mixture()), (3, 2, true, false));
    let rules = Rules { exclude_seen: true, temperature: 1.0, affinity: 0.0 };
    let sum = |table| ScoreSum {
        networks: vec![(table, 1.0)],
        cold: None,
        removed: &[],
        neighbours: None,
        fixed: None,
    };
    let ask = |sum: &ScoreSum<'_>, items: &[i64], weights: &[f32], vector: Option<&[f32]>| {
        let vector = vector.map(|vector| (vector, 0.5));
        let request = Request {
            queries: vec![SessionQueries { items, weights, vector }],
            read: items,
            seen: items,
            repeats: None,
            exclude: &[],
            only: None,
        };
        sum.best(std::slice::from_ref(&request), 2, &rules, Some(1)).map(|mut best| best.remove(0))
    };
    assert_eq!(ask(&sum(&mixed), &[2], &[1.0], None).unwrap().len(), 2);
    assert_eq!(ask(&sum(&plain), &[], &[], Some(&[1.0, 0.0])).unwrap(), [(0, 1.0), (1, 1.0)]);
    for error in [
        ask(&sum(&mixed), &[], &[], None),
        ask(&sum(&mixed), &[3], &[1.0], None),
        ask(&sum(&mixed), &[-1], &[1.0], None),
        ask(&sum(&mixed), &[2], &[1.0, 1.0], None),
        ask(&sum(&mixed), &[2], &[1.0], Some(&[1.0])),
        ask(&sum(&mixed), &[2], &[1.0], Some(&[f32::NAN, 1.0])),
        ask(&sum(&plain), &[2], &[1.0], Some(&[1.0, 1.0])),
        ask(&sum(&plain), &[], &[], None),
        ask(&ScoreSum { networks: vec![], ..sum(&plain) }, &[], &[], None),
        ask(&ScoreSum { networks: vec![(&plain, 1.0), (&short, 1.0)], ..sum(&plain) }, &[], &[], None),
        ask(&ScoreSum { removed: &[3], ..sum(&plain) }, &[], &[], Some(&[1.0, 0.0])),
        ask(&ScoreSum { fixed: Some((&[1.0; 2], 1.0)), ..sum(&plain) }, &[], &[], Some(&[1.0, 0.0])),
    ] {
        assert!(error.is_err());
    }
}
