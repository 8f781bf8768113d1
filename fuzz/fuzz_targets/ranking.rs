//! Windows, masks, tops, counts and draws of any rows, on each instruction set, against their twins.

#![no_main]

use alterrec_core::draws::Draw;
use alterrec_core::ranks::{ExcludedTarget, fused_target_counts, target_counts};
use arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;

#[path = "../../tests/twin/mod.rs"]
mod twin;
use twin::{Case, on_each_set, rank_window, rank_window_mask, top_ranked, window_positions};

/// A case, a window of it, how much of that is drawn, a seed, and how many threads.
#[derive(Debug)]
struct Input {
    case: Case,
    start: usize,
    stop: usize,
    sample: usize,
    seed: u64,
    threads: Option<usize>,
}

/// Ties, both zeros, subnormals, infinities and NaN.
const LEVELS: [f32; 16] = [
    0.0,
    -0.0,
    1e-45,
    -1e-45,
    0.5,
    0.5,
    -1.0,
    2.0,
    1e38,
    -1e38,
    f32::INFINITY,
    f32::NEG_INFINITY,
    0.25,
    0.125,
    -3.0,
    7.0,
];

impl<'a> Arbitrary<'a> for Input {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let rows = u.int_in_range(0..=2)?;
        // Rows long enough to be sampled are built from the bytes of shorter ones.
        let columns = if u.ratio(1, 3)? { u.int_in_range(512..=1600)? } else { u.int_in_range(1..=90)? };
        let excluded_columns = u.int_in_range(0..=3)?;
        let free = u.ratio(1, 4)?;
        let length = u.int_in_range(1..=200)?;
        let pattern = (0..length)
            .map(|_| match free {
                true => Ok(f32::from_bits(u.arbitrary()?)),
                false => Ok(LEVELS[u.int_in_range(0..=15)?]),
            })
            .collect::<Result<Vec<f32>>>()?;
        let shuffle: u64 = u.arbitrary()?;
        let scores = (0..rows * columns)
            .map(|at| pattern[(at as u64).wrapping_mul(shuffle | 1) as usize % pattern.len()])
            .collect();
        let mut id = |least: i64| u.int_in_range(least..=columns as i64 - 1 + i64::from(least < -1));
        let exclude = (0..rows * excluded_columns).map(|_| id(-1)).collect::<Result<Vec<i64>>>()?;
        let targets = (0..rows).map(|_| id(0)).collect::<Result<Vec<i64>>>()?;
        let mut case = Case { columns, scores, excluded_columns, exclude, targets };
        if u.ratio(1, 20)? && !case.exclude.is_empty() {
            case.exclude[0] = *u.choose(&[-2, columns as i64, i64::MIN, i64::MAX])?;
        }
        let stop = u.int_in_range(0..=columns + 1)?;
        Ok(Self {
            case,
            start: u.int_in_range(0..=stop + 1)?,
            stop,
            sample: u.int_in_range(0..=columns)?,
            seed: u.arbitrary()?,
            threads: *u.choose(&[None, Some(1), Some(2), Some(3)])?,
        })
    }
}

fn check(input: &Input) {
    let Input { case, start, stop, sample, seed, threads } = input;
    let (start, stop, threads) = (*start, *stop, *threads);
    let (scores, exclude) = (case.scores(), case.exclude());
    let ids = rank_window(scores, start..stop, exclude, None, threads);
    let mask = rank_window_mask(scores, start..stop, exclude, threads);
    let top = top_ranked(scores, stop, exclude, threads);
    let valid = case.is_valid() && stop <= case.fewest_candidates();
    assert_eq!(top.is_ok(), valid, "{top:?}");
    assert_eq!(ids.is_ok(), valid && start <= stop, "{ids:?}");
    assert_eq!(mask.is_ok(), ids.is_ok());
    if let (Ok(ids), Ok(mask)) = (&ids, mask) {
        assert_eq!(*ids, case.windows(start, stop));
        let marked: Vec<i64> =
            (0..mask.len()).filter(|&at| mask[at]).map(|at| (at % case.columns) as i64).collect();
        assert_eq!(marked, *ids);
    }
    if let Ok(top) = top {
        let heads: Vec<i64> = (0..case.rows()).flat_map(|row| case.ranking(row)[..stop].to_vec()).collect();
        assert_eq!(top, heads);
    }
    let rule = ExcludedTarget::Missed;
    let counts = target_counts(scores, &case.targets, exclude, rule, threads);
    assert_eq!(counts.is_ok(), case.is_valid(), "{counts:?}");
    if let Ok(counts) = counts {
        assert_eq!(counts, case.counts(&case.scores, rule));
        let finite: Vec<f32> = case.scores.iter().map(|score| score.clamp(-1e18, 1e18)).collect();
        let mirrored: Vec<f32> = finite.iter().rev().copied().collect();
        let sum: Vec<f32> = finite.iter().zip(&mirrored).map(|(a, b)| 0.25 * a + -1.5 * b).collect();
        let views = [&finite, &mirrored].map(|view| {
            alterrec_core::matrix::Matrix::new(view, case.rows(), case.columns)
                .expect("the shape of the case")
        });
        let fused =
            fused_target_counts(&views, &[0.25, -1.5], &case.targets, exclude, rule, threads).unwrap();
        for (place, scores) in [&finite, &mirrored, &sum].into_iter().enumerate() {
            let part: Vec<[i64; 2]> = fused.iter().skip(place).step_by(3).copied().collect();
            assert_eq!(part, case.counts(scores, rule));
        }
    }
    if let Ok(ids) = ids {
        let rows: Vec<u64> = (0..case.rows() as u64).map(|row| row.wrapping_add(*seed)).collect();
        let draw = Draw { count: *sample, seed: *seed, rows: &rows };
        let drawn = rank_window(scores, start..stop, exclude, Some(&draw), threads);
        assert_eq!(drawn.is_ok(), *sample <= stop - start);
        if let Ok(drawn) = drawn {
            let positions = window_positions(&draw, stop - start, Some(1)).unwrap();
            for (at, (id, position)) in drawn.iter().zip(&positions).enumerate() {
                assert_eq!(*id, ids[at / sample * (stop - start) + *position as usize]);
            }
        }
    }
}

fuzz_target!(|input: Input| {
    on_each_set::<()>(|| {
        check(&input);
        Ok(())
    })
    .unwrap();
});
