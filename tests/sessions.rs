//! Properties of the session store and of the plans of its batches.

use alterrec_core::batches::{Choice, Layout, Plan, Sample};
use alterrec_core::sessions::{SessionStore, Targets};
use proptest::prelude::*;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

fn stores() -> impl Strategy<Value = SessionStore> {
    // Some sessions of more than eight items, which are copied another way.
    let interaction = (prop_oneof![2 => -3_i64..6, 1 => 6_i64..7], 0_i64..7, -4_i64..4);
    (proptest::collection::vec(interaction, 0..60), any::<bool>(), any::<bool>()).prop_map(
        |(rows, timed, with_users)| {
            let sessions: Vec<_> = rows.iter().map(|row| row.0).collect();
            let items: Vec<_> = rows.iter().map(|row| row.1).collect();
            let times: Vec<_> = rows.iter().map(|row| row.2).collect();
            let users: Vec<_> = sessions.iter().map(|session| session / 2).collect();
            let (times, users) = (timed.then_some(&times[..]), with_users.then_some(&users[..]));
            SessionStore::from_arrays(&sessions, &items, times, users, Some(7)).unwrap()
        },
    )
}

fn layouts() -> impl Strategy<Value = Layout> {
    (1..5_usize, 1..12_usize, any::<(bool, bool, bool, u64, u64)>(), 1..6_usize).prop_map(
        |(batch_size, max_len, (shuffle, bucket, by_session, seed, epoch), world)| Layout {
            batch_size,
            max_len,
            shuffle,
            bucket,
            by_session,
            seed,
            epoch,
            shard: (0, world),
        },
    )
}

fn sorted(samples: impl IntoIterator<Item = Sample>) -> Vec<(u32, u32)> {
    let mut pairs: Vec<_> = samples.into_iter().map(|sample| (sample.session, sample.end)).collect();
    pairs.sort_unstable();
    pairs
}

fn fresh_path() -> PathBuf {
    static FILES: AtomicU32 = AtomicU32::new(0);
    let count = FILES.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("alterrec-sessions-{}-{count}", std::process::id()))
}

proptest! {
    #[test]
    fn shards_together_are_a_permutation_of_the_prefixes(store in stores(), layout in layouts()) {
        let world = layout.shard.1;
        let mut dealt = Vec::new();
        for rank in 0..world {
            let layout = Layout { shard: (rank, world), ..layout };
            let plan = Plan::new(&store, Choice::All(Targets::Every), &layout).unwrap();
            let batches: Vec<_> = (0..plan.num_batches()).map(|batch| plan.batch(batch).unwrap()).collect();
            prop_assert!(batches.iter().all(|batch| batch.len() <= layout.batch_size));
            prop_assert_eq!(batches.concat(), plan.samples());
            dealt.extend_from_slice(plan.samples());
        }
        prop_assert_eq!(sorted(dealt), store.prefixes(Targets::Every));
    }

    #[test]
    fn a_plan_is_a_function_of_its_layout(store in stores(), layout in layouts()) {
        let plan = || Plan::new(&store, Choice::PerSession(2), &layout).unwrap().samples().to_vec();
        prop_assert_eq!(plan(), plan());
    }

    #[test]
    fn batches_hold_the_end_of_each_prefix(store in stores(), layout in layouts()) {
        let plan = Plan::new(&store, Choice::All(Targets::Every), &layout).unwrap();
        let columns = if store.columns().users.is_some() { 5 } else { 4 };
        for index in 0..plan.num_batches() {
            let batch = plan.batch(index).unwrap();
            let (samples, width, total) = plan.size(index).unwrap();
            let (mut rows, mut padded) = (vec![-1; columns * samples], vec![-1; samples * width]);
            plan.fill_padded(&store, index, -7, &mut rows, &mut padded).unwrap();
            let (mut rows_again, mut packed) = (vec![-2; columns * samples], vec![-1; total]);
            let (mut positions, mut starts) = (vec![-1; total], vec![-1; samples + 1]);
            plan.fill_packed(&store, index, &mut rows_again, &mut packed, &mut positions, &mut starts).unwrap();
            prop_assert_eq!(&rows, &rows_again);
            for (row, sample) in batch.iter().enumerate() {
                let session = store.session(sample.session as usize).unwrap();
                let prefix = &session[..sample.end as usize];
                let kept = &prefix[prefix.len().saturating_sub(layout.max_len)..];
                let mut expected: Vec<i64> = kept.iter().map(|&item| i64::from(item)).collect();
                let bounds = starts[row] as usize..starts[row + 1] as usize;
                prop_assert_eq!(&packed[bounds.clone()], &expected);
                prop_assert_eq!(&positions[bounds], &(0..kept.len() as i64).collect::<Vec<_>>());
                prop_assert_eq!(rows[row], kept.len() as i64);
                prop_assert_eq!(rows[samples + row], i64::from(session[sample.end as usize]));
                expected.resize(width, -7);
                prop_assert_eq!(&padded[row * width..][..width], &expected);
            }
            let (shared, width) = plan.session_size(index).unwrap();
            prop_assert!(shared <= samples);
            let (mut own, mut items) = (vec![-1; samples], vec![-1; shared * width]);
            plan.fill_sessions(&store, index, -7, &mut rows_again, &mut own, &mut items).unwrap();
            prop_assert_eq!(&rows, &rows_again);
            for (sample, &row) in own.iter().enumerate() {
                let length = rows[sample] as usize;
                let bounds = starts[sample] as usize..starts[sample + 1] as usize;
                prop_assert_eq!(&items[row as usize * width..][..length], &packed[bounds]);
            }
        }
    }

    #[test]
    fn by_session_a_session_is_read_once(store in stores(), seed in any::<u64>(), bucket in any::<bool>()) {
        let layout = Layout {
            batch_size: usize::MAX, max_len: 99, shuffle: true, bucket, by_session: true, seed, epoch: 0,
            shard: (0, 1),
        };
        let plan = Plan::new(&store, Choice::All(Targets::Every), &layout).unwrap();
        if plan.num_batches() > 0 {
            let sessions = store.iter().filter(|items| items.len() > 1).count();
            prop_assert_eq!(plan.session_size(0).unwrap().0, sessions);
        }
    }

    #[test]
    fn a_saved_store_opens_as_it_was(store in stores()) {
        let path = fresh_path();
        store.save(&path).unwrap();
        let opened = SessionStore::open(&path);
        std::fs::remove_file(&path).unwrap();
        prop_assert_eq!(opened.unwrap(), store);
    }

    #[test]
    fn any_bytes_open_as_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let path = fresh_path();
        let magic = [&b"alterses\x01\0\0\0\0\0\0\0"[..], &bytes].concat();
        for content in [&bytes, &magic] {
            std::fs::write(&path, content).unwrap();
            prop_assert!(SessionStore::open(&path).is_err());
        }
        std::fs::remove_file(&path).unwrap();
    }
}
