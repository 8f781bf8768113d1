//! The loss and its gradient against the definition in float64.

use alterrec_core::losses::{Candidates, Supervision, cross_entropy};
use alterrec_core::matrix::Matrix;
use proptest::prelude::*;

/// The negatives of one row, as often as they count; None is the whole catalogue.
type Negatives = Option<Vec<usize>>;

/// Loss and gradient of one row.
fn slow(
    scores: &[f32],
    positives: &[(usize, f32)],
    negatives: &Negatives,
    excluded: &[i64],
) -> (f64, Vec<f64>) {
    let score = |item: usize| f64::from(scores[item]);
    let own: Vec<usize> = positives.iter().map(|positive| positive.0).collect();
    let out = |item: usize| excluded.contains(&(item as i64)) && !own.contains(&item);
    let (mut loss, mut gradient) = (0.0, vec![0.0; scores.len()]);
    for &(positive, weight) in positives {
        let beside: Vec<usize> = match negatives {
            None => (0..scores.len()).filter(|&item| !out(item)).collect(),
            Some(ids) => {
                let kept = ids.iter().copied().filter(|&item| !out(item) && !own.contains(&item));
                [positive].into_iter().chain(kept).collect()
            }
        };
        let most = beside.iter().map(|&item| score(item)).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = beside.iter().map(|&item| (score(item) - most).exp()).sum();
        loss += f64::from(weight) * (sum.ln() + most - score(positive));
        for item in beside {
            gradient[item] += f64::from(weight) * (score(item) - most).exp() / sum;
        }
        gradient[positive] -= f64::from(weight);
    }
    (loss, gradient)
}

proptest! {
    #[test]
    fn loss_and_gradient_are_those_of_the_definition(
        (scores, rest) in (1_usize..200).prop_flat_map(|columns| {
            let item = -1..columns as i64;
            (
                prop::collection::vec(prop_oneof![Just(0.0_f32), Just(-70.0), -9.0_f32..9.0], columns),
                (
                    prop::collection::vec(0..columns as i64, 1..3),
                    prop::collection::vec(item.clone(), 0..20),
                    prop::collection::vec(item, 0..5),
                    prop::collection::vec(any::<u8>(), columns.div_ceil(8)),
                ),
            )
        }),
        kind in 0..3,
    ) {
        let (mut positives, ids, exclude, bits) = rest;
        positives.dedup();
        let weights = &[1.0, 0.25][..positives.len()];
        let columns = scores.len();
        let candidates = match kind {
            0 => Candidates::All,
            1 => Candidates::Ids(Matrix::new(&ids, 1, ids.len()).unwrap()),
            _ => Candidates::Marked(Matrix::new(&bits, 1, bits.len()).unwrap()),
        };
        let negatives = match kind {
            0 => None,
            1 => Some(ids.iter().filter(|&&id| id >= 0).map(|&id| id as usize).collect()),
            _ => Some((0..columns).filter(|item| bits[item / 8] >> (item % 8) & 1 == 1).collect()),
        };
        let supervision = Supervision {
            positives: Matrix::new(&positives, 1, positives.len()).unwrap(),
            weights,
            candidates,
            exclude: Matrix::new(&exclude, 1, exclude.len()).unwrap(),
            each: 1.0,
        };
        let (mut found, mut losses) = (scores.clone(), [0.0]);
        cross_entropy(&mut found, columns, &supervision, 0.5, Some(1), &mut losses).unwrap();
        let pairs: Vec<_> = positives.iter().map(|&id| id as usize).zip(weights.iter().copied()).collect();
        let (loss, gradient) = slow(&scores, &pairs, &negatives, &exclude);
        prop_assert!((losses[0] - loss).abs() <= 1e-5 * loss.abs().max(1.0), "{} {}", losses[0], loss);
        for (ours, exact) in found.iter().zip(gradient) {
            prop_assert!((f64::from(*ours) - 0.5 * exact).abs() <= 1e-5, "{ours} {exact}");
        }
    }
}
