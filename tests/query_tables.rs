//! The mixtures of the queries of sessions against the kernels for batches, which are tested themselves.

use alterrec_core::instructions::{Instructions, use_only};
use alterrec_core::matrix::Matrix;
use alterrec_core::mixtures::{mixture_scores, softmax};
use alterrec_core::query_tables::{QueryTable, SessionQueries, SessionVector};
use proptest::prelude::*;

#[derive(Debug)]
struct Case {
    dim: usize,
    table: Vec<f32>,
    queries: Vec<f32>,
    items: Vec<i64>,
    weights: Vec<f32>,
    vector: Vec<f32>,
    excludes_seen: bool,
}

fn cases() -> impl Strategy<Value = Case> {
    let number = || prop_oneof![4 => -3.0_f32..3.0, 1 => Just(0.0_f32), 1 => Just(40.0_f32)];
    (1_usize..7, prop_oneof![1_usize..200, 2000_usize..2200], 1_usize..11, any::<bool>()).prop_flat_map(
        move |(dim, num_items, length, excludes_seen)| {
            (
                prop::collection::vec(number(), dim * num_items),
                prop::collection::vec(number(), dim * num_items),
                prop::collection::vec(0..num_items as i64, length),
                prop::collection::vec(0.0_f32..1.0, length + 1),
                prop::collection::vec(number(), dim),
            )
                .prop_map(move |(table, queries, items, weights, vector)| Case {
                    dim,
                    table,
                    queries,
                    items,
                    weights,
                    vector,
                    excludes_seen,
                })
        },
    )
}

impl Case {
    /// The mixture of the items' queries and, with the last weight, of the vector, by the kernels for batches.
    fn slow(&self, vector: Option<&[f32]>) -> Vec<f32> {
        let (dim, num_items) = (self.dim, self.table.len() / self.dim);
        let mut queries: Vec<&[f32]> =
            self.items.iter().map(|&item| &self.queries[item as usize * dim..][..dim]).collect();
        queries.extend(vector);
        let mut scores = Vec::new();
        for query in &queries {
            for row in self.table.chunks(dim) {
                scores.push(row.iter().zip(*query).fold(0.0, |sum, (value, factor)| sum + factor * value));
            }
        }
        let rows = queries.len();
        let mut exclude = vec![-1; rows * self.items.len()];
        if self.excludes_seen {
            for (row, &item) in self.items.iter().enumerate() {
                exclude[row * self.items.len()] = item;
            }
            exclude[self.items.len() * self.items.len()..].copy_from_slice(if vector.is_some() {
                &self.items
            } else {
                &[]
            });
        }
        let exclude = Matrix::new(&exclude, rows, self.items.len()).unwrap();
        softmax(&mut scores, num_items, exclude, None, Some(1), &mut vec![0.0; rows]).unwrap();
        let numbers: Vec<i64> = (0..rows as i64).collect();
        let mut found = vec![0.0; num_items];
        mixture_scores(
            Matrix::new(&scores, rows, num_items).unwrap(),
            Matrix::new(&numbers, 1, rows).unwrap(),
            Matrix::new(&self.weights[..rows], 1, rows).unwrap(),
            Some(1),
            &mut found,
        )
        .unwrap();
        found
    }

    /// The same by a table, alone and in a batch.
    fn quick(&self, table: &QueryTable, vector: Option<SessionVector<'_>>) -> Vec<f32> {
        let (weights, last) = self.weights.split_at(self.items.len());
        let session =
            SessionQueries { items: &self.items, weights, vector: vector.map(|vector| (vector, last[0])) };
        let num_items = table.num_items();
        let [mut first, mut again] = [1, 12].map(|count| vec![0.0; count * num_items]);
        table.log_mixtures(&[session], Some(1), &mut first).unwrap();
        // In a batch, between other sessions.
        let one = SessionQueries { items: &session.items[..1], weights: &session.weights[..1], vector: None };
        let many: Vec<_> = (0..12).map(|place| if place % 3 == 2 { session } else { one }).collect();
        for threads in [1, 3] {
            table.log_mixtures(&many, Some(threads), &mut again).unwrap();
            for place in (2..12).step_by(3) {
                assert_eq!(first, again[place * num_items..(place + 1) * num_items]);
            }
        }
        first
    }
}

fn near(found: &[f32], wanted: &[f32]) -> bool {
    found.iter().zip(wanted).all(|(found, wanted)| (found - wanted).abs() <= 1e-5 * wanted.abs().max(1.0))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn mixtures_are_those_of_the_kernels_for_matrices(case in cases()) {
        let mut on_each = Vec::new();
        for set in Instructions::available() {
            use_only(Some(set)).unwrap();
            let table = QueryTable::new(&case.table, &case.queries, case.dim, case.excludes_seen).unwrap();
            let found = case.quick(&table, None);
            prop_assert!(near(&found, &case.slow(None)));
            let vector = SessionVector::Values(&case.vector);
            let found = case.quick(&table, Some(vector));
            prop_assert!(near(&found, &case.slow(Some(&case.vector))));
            on_each.push(found);
        }
        use_only(None).unwrap();
        prop_assert!(on_each.iter().all(|found| found == &on_each[0]));
    }
}

#[test]
fn a_sum_of_queries_is_one_query() {
    let table: Vec<f32> = (0..300).map(|place| (place % 7) as f32 / 7.0 - 0.4).collect();
    let case = Case {
        dim: 3,
        queries: table.iter().map(|value| value * 2.0).collect(),
        items: vec![5, 70, 5],
        weights: vec![0.2, 0.3, 0.1, 0.4],
        vector: (0..3).map(|place| 2.0 * (0.75 * table[15 + place] + 0.25 * table[210 + place])).collect(),
        table,
        excludes_seen: true,
    };
    let table = QueryTable::new(&case.table, &case.queries, 3, true).unwrap();
    let found = case.quick(&table, Some(SessionVector::Mean(&[0.5, 0.25, 0.25])));
    assert!(near(&found, &case.slow(Some(&case.vector))));
}

#[test]
fn wrong_sizes_and_items_are_errors() {
    assert!(QueryTable::new(&[], &[], 0, true).is_err());
    assert!(QueryTable::new(&[1.0; 6], &[1.0; 4], 2, true).is_err());
    assert!(QueryTable::new(&[1.0; 5], &[1.0; 5], 2, true).is_err());
    let table = QueryTable::new(&[1.0; 6], &[1.0; 6], 2, true).unwrap();
    assert_eq!((table.num_items(), table.dim()), (3, 2));
    let ask = |items: &[i64], weights: &[f32], vector: Option<SessionVector<'_>>, places: usize| {
        let vector = vector.map(|vector| (vector, 0.5));
        table.log_mixtures(&[SessionQueries { items, weights, vector }], Some(1), &mut vec![0.0; places])
    };
    assert!(ask(&[2], &[1.0], None, 3).is_ok());
    for error in [
        ask(&[], &[], None, 3),
        ask(&[3], &[1.0], None, 3),
        ask(&[-1], &[1.0], None, 3),
        ask(&[2], &[1.0, 1.0], None, 3),
        ask(&[2], &[1.0], None, 2),
        ask(&[2], &[1.0], Some(SessionVector::Values(&[1.0])), 3),
        ask(&[2], &[1.0], Some(SessionVector::Mean(&[1.0, 1.0])), 3),
    ] {
        assert!(error.is_err());
    }
}
