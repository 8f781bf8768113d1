//! The kernels alone, one thread: `cargo bench`. Results are checked once before they are timed.
//!
//! Throughput is in scores, samples or draws a second. `select_nth twice` is what one would write with the
//! standard library.

use alterrec_core::batches::{Choice, Layout, Plan};
use alterrec_core::draws::{Draw, window_positions};
use alterrec_core::graphs::{session_graphs, transition_graph};
use alterrec_core::keys::score_key;
use alterrec_core::matrix::Matrix;
use alterrec_core::prefixes::Prefixes;
use alterrec_core::random::Stream;
use alterrec_core::ranks::{ExcludedTarget, fused_target_counts, target_counts};
use alterrec_core::select::top_ranked;
use alterrec_core::sessions::{SessionStore, Targets};
use alterrec_core::windows::rank_window;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::ops::Range;
use std::time::Duration;

const ITEMS: usize = 40_258;
const ROWS: usize = 32;

/// Nearly Gaussian numbers: sums of eight uniform ones.
fn gaussian(count: usize, seed: u64) -> Vec<f32> {
    let mut stream = Stream::new(seed, 0);
    let mut uniform = || f64::from(stream.next_u32()) / f64::from(u32::MAX) - 0.5;
    (0..count).map(|_| ((0..8).map(|_| uniform()).sum::<f64>() * 1.22) as f32).collect()
}

fn by_select_nth(scores: &[f32], window: &Range<usize>, keys: &mut Vec<u64>, ids: &mut Vec<i64>) {
    let key = |score: f32, id: usize| u64::from(score_key(score)) << 32 | id as u64;
    keys.clear();
    keys.extend(scores.iter().enumerate().map(|(id, &score)| key(score, id)));
    let (above, &mut last, _) = keys.select_nth_unstable(window.end - 1);
    let first = *above.select_nth_unstable(window.start).1;
    ids.clear();
    ids.extend(
        (0..scores.len()).filter(|&id| (first..=last).contains(&key(scores[id], id))).map(|id| id as i64),
    );
}

fn windows(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("windows");
    for (rows, items, window) in
        [(ROWS, ITEMS, 20..20_000), (ROWS, ITEMS, 6..2_000), (2, 1_000_000, 20..20_000)]
    {
        let scores = gaussian(rows * items, 1);
        let matrix = Matrix::new(&scores, rows, items).unwrap();
        let nothing = Matrix::new(&[], rows, 0).unwrap();
        let mut ids = vec![0; rows * window.len()];
        rank_window(matrix, window.clone(), nothing, None, Some(1), &mut ids).unwrap();
        let (mut keys, mut selected) = (Vec::new(), Vec::new());
        for row in 0..rows {
            by_select_nth(matrix.row(row), &window, &mut keys, &mut selected);
            assert_eq!(ids[row * window.len()..][..window.len()], selected);
        }
        group.throughput(Throughput::Elements((rows * items) as u64));
        let name = format!("{window:?} of {items}");
        group.bench_function(BenchmarkId::new("ours", &name), |bencher| {
            bencher.iter(|| rank_window(matrix, window.clone(), nothing, None, Some(1), &mut ids).unwrap());
        });
        group.bench_function(BenchmarkId::new("select_nth twice", &name), |bencher| {
            bencher.iter(|| {
                for row in 0..rows {
                    by_select_nth(black_box(matrix.row(row)), &window, &mut keys, &mut selected);
                }
            });
        });
    }
    group.finish();
}

/// Rows that mislead a sample, a histogram or a pivot.
fn hard_rows() -> Vec<(&'static str, Vec<f32>)> {
    let normal = gaussian(ROWS * ITEMS, 2);
    let mut sorted = normal.clone();
    for row in sorted.chunks_mut(ITEMS) {
        row.sort_by(|a, b| b.total_cmp(a));
    }
    let holes = |(place, &score)| if place % 10 == 0 { score } else { f32::NEG_INFINITY };
    let clusters = |(place, &score)| if place % 2 == 0 { 5.0 + score / 1e3 } else { score / 1e3 - 5.0 };
    let blocks = |(place, &score): (usize, &f32)| normal[place / 64 * 64] + score / 10.0;
    vec![
        ("constant", vec![0.5; normal.len()]),
        ("90 % -inf", normal.iter().enumerate().map(holes).collect()),
        ("tie-rich", normal.iter().map(|score| (score * 40.0).round() / 40.0).collect()),
        ("sorted", sorted),
        ("two clusters", normal.iter().enumerate().map(clusters).collect()),
        ("heavy tail", normal.iter().map(|score| (2.0 * score).exp()).collect()),
        ("block-correlated", normal.iter().enumerate().map(blocks).collect()),
    ]
}

fn hard(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hard rows, 20..20000");
    group.throughput(Throughput::Elements((ROWS * ITEMS) as u64));
    let nothing = Matrix::new(&[], ROWS, 0).unwrap();
    let mut ids = vec![0; ROWS * 19_980];
    for (name, scores) in hard_rows() {
        let matrix = Matrix::new(&scores, ROWS, ITEMS).unwrap();
        rank_window(matrix, 20..20_000, nothing, None, Some(1), &mut ids).unwrap();
        let (mut keys, mut selected) = (Vec::new(), Vec::new());
        by_select_nth(matrix.row(0), &(20..20_000), &mut keys, &mut selected);
        assert_eq!(ids[..19_980], selected);
        group.bench_function(name, |bencher| {
            bencher.iter(|| rank_window(matrix, 20..20_000, nothing, None, Some(1), &mut ids).unwrap());
        });
    }
    group.finish();
}

fn tops_and_ranks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rows");
    group.throughput(Throughput::Elements((ROWS * ITEMS) as u64));
    let (one, other) = (gaussian(ROWS * ITEMS, 3), gaussian(ROWS * ITEMS, 4));
    let views = [&one, &other].map(|view| Matrix::new(view, ROWS, ITEMS).unwrap());
    let nothing = Matrix::new(&[], ROWS, 0).unwrap();
    let mut ids = vec![0; ROWS * 20];
    top_ranked(views[0], 20, nothing, Some(1), &mut ids).unwrap();
    let targets: Vec<i64> = ids.chunks(20).map(|best| best[19]).collect();
    let counts = target_counts(views[0], &targets, nothing, ExcludedTarget::Missed, Some(1)).unwrap();
    assert_eq!(counts, vec![[19, 1]; ROWS]);
    group.bench_function("top 20", |bencher| {
        bencher.iter(|| top_ranked(views[0], 20, nothing, Some(1), &mut ids).unwrap());
    });
    group.bench_function("counts", |bencher| {
        bencher.iter(|| target_counts(views[0], &targets, nothing, ExcludedTarget::Missed, Some(1)).unwrap());
    });
    let fused = || {
        fused_target_counts(&views, &[0.5, 0.5], &targets, nothing, ExcludedTarget::Missed, Some(1)).unwrap()
    };
    assert!(fused().iter().step_by(3).eq(&counts));
    group.bench_function("counts by two views and their sum", |bencher| bencher.iter(fused));
    group.finish();
}

fn draws(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("draws");
    let rows: Vec<u64> = (0..ROWS as u64).collect();
    let draw = Draw { count: 1024, seed: 1, rows: &rows };
    let mut positions = vec![0; ROWS * 1024];
    window_positions(&draw, 19_980, Some(1), &mut positions).unwrap();
    assert!(positions.chunks(1024).all(|row| row.is_sorted_by(|a, b| a < b) && row[1023] < 19_980));
    group.throughput(Throughput::Elements((ROWS * 1024) as u64));
    group.bench_function("1024 of 19980 positions", |bencher| {
        bencher.iter(|| window_positions(&draw, 19_980, Some(1), &mut positions).unwrap());
    });
    group.finish();
}

/// 100,000 sessions of 1 to 9 items, each of one of 1000 users.
fn many_sessions() -> SessionStore {
    let mut stream = Stream::new(5, 0);
    let (mut sessions, mut items) = (Vec::new(), Vec::new());
    for session in 0..100_000 {
        for _ in 0..1 + stream.below_u32(9) {
            sessions.push(session);
            items.push(i64::from(stream.below_u32(40_000)));
        }
    }
    let users: Vec<_> = sessions.iter().map(|session| session % 1000).collect();
    SessionStore::from_arrays(&sessions, &items, None, Some(&users), Some(40_000)).unwrap()
}

fn batches(criterion: &mut Criterion) {
    let store = many_sessions();
    let layout = Layout {
        batch_size: 512,
        max_len: 50,
        shuffle: true,
        bucket: true,
        by_session: false,
        seed: 1,
        epoch: 0,
        shard: (0, 1),
    };
    let plan = || Plan::new(&store, Choice::All(Targets::Every), &layout).unwrap();
    let ready = plan();
    assert_eq!(ready.samples().len(), store.columns().items.len() - store.num_sessions());
    let (mut rows, mut padded) = (vec![0; 5 * 512], vec![0; 50 * 512]);
    let (mut packed, mut positions, mut starts) = (vec![0; 50 * 512], vec![0; 50 * 512], vec![0; 513]);
    let mut group = criterion.benchmark_group("an epoch");
    group.throughput(Throughput::Elements(ready.samples().len() as u64));
    group.bench_function("plan", |bencher| bencher.iter(plan));
    group.bench_function("padded", |bencher| {
        bencher.iter(|| {
            for batch in 0..ready.num_batches() {
                let (n, width, _) = ready.size(batch).unwrap();
                ready.fill_padded(&store, batch, 0, &mut rows[..5 * n], &mut padded[..n * width]).unwrap();
            }
        });
    });
    group.bench_function("packed", |bencher| {
        bencher.iter(|| {
            for batch in 0..ready.num_batches() {
                let (n, _, total) = ready.size(batch).unwrap();
                let (items, places) = (&mut packed[..total], &mut positions[..total]);
                ready
                    .fill_packed(&store, batch, &mut rows[..5 * n], items, places, &mut starts[..=n])
                    .unwrap();
            }
        });
    });
    group.finish();
}

fn graphs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("graphs");
    for width in [10, 50] {
        let mut stream = Stream::new(6, 0);
        let items: Vec<_> = (0..512 * width).map(|_| i64::from(stream.below_u32(40_000))).collect();
        let lengths: Vec<_> = (0..512).map(|_| i64::from(stream.below_u32(width as u32)) + 1).collect();
        let batch = || session_graphs(Prefixes { items: &items, width, lengths: &lengths }, 40_000).unwrap();
        assert_eq!(batch().starts.len(), 513);
        group.throughput(Throughput::Elements(512));
        group.bench_function(BenchmarkId::new("sessions of 1 to", width), |bencher| bencher.iter(batch));
    }
    let store = many_sessions();
    let whole = || transition_graph(&store, 12).unwrap();
    assert_eq!(whole().offsets.len(), 41_001);
    group.throughput(Throughput::Elements(store.columns().items.len() as u64));
    group.bench_function("transitions", |bencher| bencher.iter(whole));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20);
    targets = windows, hard, tops_and_ranks, draws, batches, graphs
}
criterion_main!(benches);
