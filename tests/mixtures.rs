//! Softmaxes, their mixtures and the loss of mixtures against their definitions in float64.

use alterrec_core::matrix::Matrix;
use alterrec_core::mixture_losses::{Mixtures, mixture_cross_entropy};
use alterrec_core::mixtures::{mark, mixture_scores, softmax};
use proptest::prelude::*;

/// The probabilities of a row and their logsumexp.
fn slow_softmax(scores: &[f32], candidate: impl Fn(usize) -> bool) -> (Vec<f64>, f64) {
    let score = |item: usize| if candidate(item) { f64::from(scores[item]) } else { f64::NEG_INFINITY };
    let most = (0..scores.len()).map(score).fold(f64::NEG_INFINITY, f64::max);
    if most == f64::NEG_INFINITY {
        return (vec![0.0; scores.len()], most);
    }
    let sum: f64 = (0..scores.len()).map(|item| (score(item) - most).exp()).sum();
    ((0..scores.len()).map(|item| (score(item) - most).exp() / sum).collect(), most + sum.ln())
}

fn near(found: f64, wanted: f64) -> bool {
    found == wanted || (found - wanted).abs() <= 1e-5 * wanted.abs().max(1.0)
}

#[derive(Debug)]
struct Case {
    columns: usize,
    scores: Vec<f32>,
    exclude: Vec<i64>,
    bits: Vec<u8>,
    rows: Vec<i64>,
    weights: Vec<f32>,
    positives: Vec<i64>,
}

const ROWS: usize = 4;
const SAMPLES: usize = 3;
const ENTRIES: usize = 5;

fn cases() -> impl Strategy<Value = Case> {
    (1_usize..200).prop_flat_map(|columns| {
        let score = prop_oneof![Just(0.0_f32), Just(-300.0), Just(f32::NEG_INFINITY), -9.0_f32..9.0];
        (
            prop::collection::vec(score, ROWS * columns),
            prop::collection::vec(-1..columns as i64, ROWS * 2),
            prop::collection::vec(any::<u8>(), ROWS * columns.div_ceil(8)),
            prop::collection::vec(-1..ROWS as i64, SAMPLES * ENTRIES),
            prop::collection::vec(prop_oneof![Just(0.0_f32), 0.0_f32..1.0], SAMPLES * ENTRIES),
            prop::collection::vec(0..columns as i64, SAMPLES),
        )
            .prop_map(move |(scores, exclude, bits, rows, weights, positives)| Case {
                columns,
                scores,
                exclude,
                bits,
                rows,
                weights,
                positives,
            })
    })
}

impl Case {
    fn exclude(&self) -> Matrix<'_, i64> {
        Matrix::new(&self.exclude, ROWS, 2).unwrap()
    }

    fn bits(&self) -> Matrix<'_, u8> {
        Matrix::new(&self.bits, ROWS, self.columns.div_ceil(8)).unwrap()
    }

    fn rows(&self) -> Matrix<'_, i64> {
        Matrix::new(&self.rows, SAMPLES, ENTRIES).unwrap()
    }

    /// Probabilities and logsumexp of a row; candidates are those of `bits`, of which the excluded are not.
    fn slow(&self, row: usize, bits: Option<&[u8]>) -> (Vec<f64>, f64) {
        let excluded = |item| self.exclude().row(row).contains(&(item as i64));
        let marked = |item: usize| bits.is_none_or(|bits| bits[item / 8] >> (item % 8) & 1 == 1);
        slow_softmax(&self.scores[row * self.columns..][..self.columns], |item| {
            marked(item) && !excluded(item)
        })
    }
}

proptest! {
    #[test]
    fn softmaxes_and_mixtures_are_those_of_the_definition(case in cases(), marked in any::<bool>()) {
        let mut found = case.scores.clone();
        let mut log_sums = [0.0; ROWS];
        let bits = marked.then(|| case.bits());
        softmax(&mut found, case.columns, case.exclude(), bits, Some(1), &mut log_sums).unwrap();
        for row in 0..ROWS {
            let (wanted, log_sum) = case.slow(row, bits.map(|bits| bits.row(row)));
            prop_assert!(near(log_sums[row], log_sum), "{} {}", log_sums[row], log_sum);
            for (&found, wanted) in found[row * case.columns..].iter().zip(wanted) {
                prop_assert!((f64::from(found) - wanted).abs() <= 1e-5 * wanted + 1e-30, "{found} {wanted}");
            }
        }

        let probabilities = Matrix::new(&found, ROWS, case.columns).unwrap();
        let weights = Matrix::new(&case.weights, SAMPLES, ENTRIES).unwrap();
        let mut scores = vec![0.0; SAMPLES * case.columns];
        mixture_scores(probabilities, case.rows(), weights, Some(1), &mut scores).unwrap();
        for sample in 0..SAMPLES {
            for item in 0..case.columns {
                let entries = case.rows().row(sample).iter().zip(weights.row(sample)).filter(|(row, _)| **row >= 0);
                let sum: f64 = entries
                    .map(|(&row, &weight)| f64::from(weight) * f64::from(probabilities.row(row as usize)[item]))
                    .sum();
                let wanted = sum.max(f64::from(f32::MIN_POSITIVE)).ln();
                prop_assert!(near(f64::from(scores[sample * case.columns + item]), wanted));
            }
        }
    }

    #[test]
    fn losses_and_gradients_of_mixtures_are_those_of_the_definition(case in cases(), marked in any::<bool>()) {
        let log_weights: Vec<f32> = case.weights.iter().map(|weight| weight.ln()).collect();
        let mixtures = Mixtures {
            rows: case.rows(),
            log_weights: Matrix::new(&log_weights, SAMPLES, ENTRIES).unwrap(),
            positives: Matrix::new(&case.positives, SAMPLES, 1).unwrap(),
            weights: &[0.5],
            exclude: case.exclude(),
            candidates: marked.then(|| case.bits()),
        };
        let mut found = case.scores.clone();
        let size = (ROWS, case.columns);
        let losses = mixture_cross_entropy(&mut found, size, &mixtures, 2.0, Some(1)).unwrap();

        let mut bits = case.bits.clone();
        let met: Vec<i64> = (0..SAMPLES * ENTRIES).map(|place| case.positives[place / ENTRIES]).collect();
        mark(&mut bits, case.columns.div_ceil(8), &case.rows, &met).unwrap();
        let rows_of_bits: Vec<&[u8]> = bits.chunks(case.columns.div_ceil(8)).collect();
        let softmaxes: Vec<Vec<f64>> = (0..ROWS).map(|row| case.slow(row, marked.then(|| rows_of_bits[row])).0).collect();
        let mut gradient = vec![0.0; ROWS * case.columns];
        let mut known = [true; ROWS];
        for sample in 0..SAMPLES {
            let item = case.positives[sample] as usize;
            let places = (sample * ENTRIES..(sample + 1) * ENTRIES).filter(|&place| case.rows[place] >= 0);
            let part = |place: usize| f64::from(log_weights[place]).exp() * softmaxes[case.rows[place] as usize][item];
            let total: f64 = places.clone().map(part).sum();
            prop_assert!(near(losses.losses[sample], -0.5 * total.ln()), "{} {total}", losses.losses[sample]);
            for place in places {
                let (row, share) = (case.rows[place] as usize, part(place) / total);
                prop_assert!(share.is_nan() || near(losses.shares[place], share));
                known[row] &= !share.is_nan();
                for (gradient, p) in gradient[row * case.columns..].iter_mut().zip(&softmaxes[row]) {
                    *gradient += share * p;
                }
                gradient[row * case.columns + item] -= share;
            }
        }
        for row in (0..ROWS).filter(|&row| known[row]) {
            let places = row * case.columns..(row + 1) * case.columns;
            for (&found, &wanted) in found[places.clone()].iter().zip(&gradient[places]) {
                prop_assert!(near(f64::from(found) * losses.row_shares[row], wanted), "{found} {wanted}");
            }
        }
    }
}
