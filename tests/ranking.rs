//! Windows, top ranks, counts and draws against a full sort of each row.

mod twin;

use alterrec_core::cuts::{BINS, Cuts, key_counts, window_bits, window_members};
use alterrec_core::draws::{self, Draw};
use alterrec_core::error::{Error, Result};
use alterrec_core::matrix::Matrix;
use alterrec_core::ranks::{ExcludedTarget, fused_target_counts, seen_target_counts, target_counts};
use alterrec_core::repeats::{Repeats, log_normaliser, repeat_scores};
use proptest::prelude::*;
use twin::{Case, on_each_set, rank_window, rank_window_mask, top_ranked, window_positions};

const RULES: [ExcludedTarget; 2] = [ExcludedTarget::Missed, ExcludedTarget::Ranked];

fn score() -> impl Strategy<Value = f32> {
    let tied = prop::sample::select(vec![f32::NEG_INFINITY, -1.0, -0.0, 0.0, 0.5, f32::INFINITY]);
    prop_oneof![3 => tied, 1 => -10.0_f32..10.0]
}

/// Short rows, and rows long enough to be sampled and to fill words and blocks.
fn case() -> impl Strategy<Value = Case> {
    let columns = prop_oneof![3 => 1_usize..40, 1 => 500_usize..1500];
    (0_usize..5, columns, 0_usize..5).prop_flat_map(|(rows, columns, excluded_columns)| {
        let scores = prop::collection::vec(score(), rows * columns);
        let exclude = prop::collection::vec(-1..columns as i64, rows * excluded_columns);
        let targets = prop::collection::vec(0..columns as i64, rows);
        (scores, exclude, targets).prop_map(move |(scores, exclude, targets)| Case {
            columns,
            scores,
            excluded_columns,
            exclude,
            targets,
        })
    })
}

fn windowed() -> impl Strategy<Value = (Case, usize, usize)> {
    case().prop_flat_map(|case| {
        let most = case.fewest_candidates();
        (Just(case), 0..=most, 0..=most).prop_map(|(case, a, b)| (case, a.min(b), a.max(b)))
    })
}

proptest! {
    #[test]
    fn windows_masks_and_tops_are_slices_of_the_sorted_row(
        (case, start, stop) in windowed(),
        threads in prop::option::of(1_usize..4),
    ) {
        on_each_set(|| {
            let (scores, exclude) = (case.scores(), case.exclude());
            let ids = rank_window(scores, start..stop, exclude, None, threads).unwrap();
            prop_assert_eq!(&ids, &case.windows(start, stop));

            let mask = rank_window_mask(scores, start..stop, exclude, threads).unwrap();
            let columns = case.columns;
            let marked: Vec<i64> = (0..mask.len()).filter(|&at| mask[at]).map(|at| (at % columns) as i64).collect();
            prop_assert_eq!(&marked, &ids);

            let top = top_ranked(scores, stop, exclude, threads).unwrap();
            let heads: Vec<i64> = (0..case.rows()).flat_map(|row| case.ranking(row)[..stop].to_vec()).collect();
            prop_assert_eq!(top, heads);
            Ok(())
        })?;
    }

    #[test]
    fn windows_between_cuts_found_by_counting_are_slices_of_the_sorted_row(
        (case, start, stop) in windowed(),
        threads in prop::option::of(1_usize..4),
    ) {
        on_each_set(|| {
            let (scores, exclude) = (case.scores(), case.exclude());
            let (rows, width) = (case.rows(), stop - start);
            let (mut keys, mut ties) = (vec![0; 2 * rows], vec![0; 2 * rows]);
            // The key of a cut is that of the last candidate before it, and of the first one for an empty cut.
            let mut taken: Vec<i64> = [start, stop].map(|count| count.max(1) as i64).repeat(rows);
            for known in [0, 8, 16, 24] {
                let mut counts = vec![-7; 2 * rows * BINS];
                let prefixes = Matrix::new(&keys, rows, 2).unwrap();
                key_counts(scores, prefixes, known, exclude, threads, &mut counts).unwrap();
                for (at, bins) in counts.chunks(BINS).enumerate() {
                    let mut bin = 0;
                    while bin < BINS - 1 && bins[bin] < taken[at] {
                        taken[at] -= bins[bin];
                        bin += 1;
                    }
                    (keys[at], ties[at]) = (BINS as i64 * keys[at] + bin as i64, bins[bin]);
                }
            }
            for (at, taken) in taken.iter_mut().enumerate() {
                *taken = if [start, stop][at % 2] == 0 { 0 } else { *taken };
                // Rows without candidates.
                keys[at] = keys[at].min(0xff80_0000);
            }
            let [keys, taken, ties] = [&keys, &taken, &ties].map(|each| Matrix::new(each, rows, 2).unwrap());
            let cuts = Cuts { keys, taken, ties };
            let expected = case.windows(start, stop);

            let mut bytes = vec![7; rows * case.columns.div_ceil(8)];
            window_bits(scores, &cuts, exclude, threads, &mut bytes).unwrap();
            let padded = 8 * case.columns.div_ceil(8);
            let marked: Vec<i64> = (0..8 * bytes.len())
                .filter(|bit| bytes[bit / 8] >> (bit % 8) & 1 == 1)
                .map(|bit| (bit % padded) as i64)
                .collect();
            prop_assert_eq!(&marked, &expected);

            let places: Vec<i64> = (0..width as i64).collect::<Vec<_>>().repeat(rows);
            let mut ids = vec![-7; places.len()];
            let places = Matrix::new(&places, rows, width).unwrap();
            window_members(scores, &cuts, exclude, places, threads, &mut ids).unwrap();
            prop_assert_eq!(ids, expected);
            Ok(())
        })?;
    }

    #[test]
    fn counts_are_those_of_a_loop(case in case(), threads in prop::option::of(1_usize..4)) {
        on_each_set(|| {
            for rule in RULES {
                let exclude = case.exclude();
                let counts = target_counts(case.scores(), &case.targets, exclude, rule, threads).unwrap();
                prop_assert_eq!(counts, case.counts(&case.scores, rule));
            }
            Ok(())
        })?;
    }

    #[test]
    fn fused_counts_are_those_of_the_parts_and_the_sum(case in case(), weights in [-2.0_f32..2.0, -2.0_f32..2.0]) {
        on_each_set(|| {
            let finite = |shift: f32| -> Vec<f32> { case.scores.iter().map(|s| s.clamp(-3.0, 3.0) + shift).collect() };
            let (one, two) = (finite(0.0), finite(0.1).into_iter().rev().collect::<Vec<_>>());
            let sum: Vec<f32> = one.iter().zip(&two).map(|(a, b)| weights[0] * a + weights[1] * b).collect();
            let views = [&one, &two].map(|view| Matrix::new(view, case.rows(), case.columns).unwrap());
            for rule in RULES {
                let exclude = case.exclude();
                let counts = fused_target_counts(&views, &weights, &case.targets, exclude, rule, None).unwrap();
                for (place, scores) in [one.as_slice(), &two, &sum].into_iter().enumerate() {
                    let part: Vec<[i64; 2]> = counts.iter().skip(place).step_by(3).copied().collect();
                    prop_assert_eq!(part, case.counts(scores, rule));
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn repeats_are_the_counts_of_replaced_scores(
        case in case(),
        odds in prop::collection::vec(-20.0_f32..20.0, 4),
        temperature in 0.1_f64..5.0,
        threads in prop::option::of(1_usize..4),
    ) {
        on_each_set(|| {
            let (scores, seen) = (case.scores(), case.exclude());
            let odds: Vec<f32> = (0..seen.data.len()).map(|at| odds[at % 4]).collect();
            let log_odds = Matrix::new(&odds, seen.rows, seen.columns).unwrap();
            let own = repeat_scores(scores, seen, log_odds, temperature, threads).unwrap();
            let mut replaced = case.scores.clone();
            for (at, (&id, &score)) in seen.data.iter().zip(&own).enumerate().filter(|(_, (id, _))| **id >= 0) {
                replaced[at / seen.columns * case.columns + id as usize] = score;
            }
            let everything = Case { exclude: vec![-1; case.exclude.len()], ..case.clone() };
            let temperatures = [temperature; 2];
            let repeats = Repeats { log_odds: &[log_odds], temperatures: &temperatures };
            let counts =
                seen_target_counts(&[scores], &[1.0], &case.targets, seen, Some(&repeats), threads).unwrap();
            let rule = |place: usize| -> Vec<[i64; 2]> { counts.iter().skip(place).step_by(6).copied().collect() };
            for view in 0..2 {
                prop_assert_eq!(rule(view), everything.counts(&case.scores, ExcludedTarget::Missed));
                prop_assert_eq!(rule(2 + view), case.counts(&case.scores, ExcludedTarget::Missed));
                prop_assert_eq!(rule(4 + view), everything.counts(&replaced, ExcludedTarget::Missed));
            }
            Ok(())
        })?;
    }

    #[test]
    fn draws_are_positions_in_the_window(
        (case, start, stop) in windowed(),
        seed: u64,
        first: u64,
        share in 0.0_f64..=1.0,
    ) {
        on_each_set(|| {
            let rows: Vec<u64> = (0..case.rows() as u64).map(|row| first.wrapping_add(row)).collect();
            let draw = Draw { count: ((stop - start) as f64 * share) as usize, seed, rows: &rows };
            let ids = rank_window(case.scores(), start..stop, case.exclude(), Some(&draw), None).unwrap();
            let windows = case.windows(start, stop);
            let positions = window_positions(&draw, stop - start, Some(2)).unwrap();
            for (at, (id, &position)) in ids.iter().zip(&positions).enumerate() {
                let row = at / draw.count;
                prop_assert_eq!(*id, windows[row * (stop - start) + position as usize]);
            }
            prop_assert_eq!(ids.len(), positions.len());
            for drawn in positions.chunks(draw.count.max(1)) {
                prop_assert!(drawn.windows(2).all(|pair| pair[0] < pair[1]));
            }
            Ok(())
        })?;
    }
}

#[test]
fn normalisers_are_those_of_a_loop() {
    let scores: Vec<f32> = (0..3000).map(|item| ((item * 37) % 101) as f32 / 7.0).collect();
    let seen = [5_i64, 2999, -1, 1024, 5];
    let of = |temperature: f64| {
        let others = (0..3000).filter(|item| !seen.contains(&(*item as i64)));
        others.map(|item| (f64::from(scores[item]) / temperature).exp()).sum::<f64>().ln()
    };
    let (matrix, ids) = (Matrix::new(&scores, 1, 3000).unwrap(), Matrix::new(&seen, 1, 5).unwrap());
    on_each_set::<()>(|| {
        let found = log_normaliser(matrix, ids, &[1.0, 0.5, 20.0], None).unwrap();
        for (found, temperature) in found.into_iter().zip([1.0, 0.5, 20.0]) {
            assert!((found - of(temperature)).abs() < 1e-6, "{found} {}", of(temperature));
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn wrong_shapes_are_refused() {
    let scores = Matrix::new(&[0.0, 1.0], 1, 2).unwrap();
    let (none, two_rows) = (Matrix::new(&[], 1, 0).unwrap(), Matrix::new(&[], 2, 0).unwrap());
    let value = |result: Result<Vec<i64>>| match result {
        Err(Error::Value(message)) => message,
        other => panic!("{other:?}"),
    };
    assert!(Matrix::new(&[0.0], 1, 2).is_err());
    assert!(Matrix::new(&[0.0], usize::MAX, 2).is_err());
    assert!(value(top_ranked(scores, 1, two_rows, None)).contains("exclude has 2 rows and scores has 1"));
    assert!(value(top_ranked(scores, 3, none, None)).contains("k is 3"));
    assert!(target_counts(scores, &[], none, ExcludedTarget::Missed, None).is_err());
    assert!(fused_target_counts(&[], &[], &[], none, ExcludedTarget::Missed, None).is_err());
    assert!(fused_target_counts(&[scores], &[f32::NAN], &[0], none, ExcludedTarget::Missed, None).is_err());
    let log_odds = Matrix::new(&[], 1, 0).unwrap();
    for temperatures in [&[1.0][..], &[1.0, 0.0], &[1.0, f64::NAN]] {
        let repeats = Repeats { log_odds: &[log_odds], temperatures };
        assert!(seen_target_counts(&[scores], &[1.0], &[0], none, Some(&repeats), None).is_err());
    }
    assert!(repeat_scores(scores, none, Matrix::new(&[0.0], 1, 1).unwrap(), 1.0, None).is_err());
    assert!(log_normaliser(scores, two_rows, &[1.0], None).is_err());
    let draw = Draw { count: 1, seed: 0, rows: &[] };
    assert!(value(rank_window(scores, 0..1, none, Some(&draw), None)).contains("rows has 0 entries"));
    assert!(
        draws::uniform_items(&draw, 0, None, &mut []).unwrap_err().to_string().contains("num_items is 0")
    );
}
