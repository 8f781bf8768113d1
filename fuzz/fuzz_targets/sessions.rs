//! Stores of any interactions, files of any bytes, and plans of any layout.

#![no_main]

use alterrec_core::batches::{Choice, Layout, Plan};
use alterrec_core::sessions::{SessionStore, Targets};
use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use std::fs;

#[derive(Debug, Arbitrary)]
struct Input {
    rows: Vec<(i8, u8, i8)>,
    num_items: Option<u8>,
    with_times: bool,
    with_users: bool,
    layout: (u8, u8, bool, bool, u64, u64),
    shards: u8,
    damage: Vec<(u16, u8)>,
    file: Vec<u8>,
}

/// Opening these bytes must give a store or an error, and a store only if it can be read through.
fn open(bytes: &[u8]) -> Option<SessionStore> {
    let path = std::env::temp_dir().join(format!("alterrec-fuzz-{}", std::process::id()));
    fs::write(&path, bytes).unwrap();
    let store = SessionStore::open(&path).ok();
    fs::remove_file(&path).unwrap();
    if let Some(store) = &store {
        assert!(store.iter().flatten().all(|&item| (item as usize) < store.num_items()));
    }
    store
}

fn saved(store: &SessionStore) -> Vec<u8> {
    let path = std::env::temp_dir().join(format!("alterrec-fuzz-saved-{}", std::process::id()));
    store.save(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    bytes
}

/// Every sample lies in exactly one batch of one shard.
fn check_plans(store: &SessionStore, input: &Input) {
    let (batch_size, max_len, shuffle, bucket, seed, epoch) = input.layout;
    let by_session = input.shards & 4 != 0;
    let world = usize::from(input.shards % 4) + 1;
    let mut dealt = Vec::new();
    for rank in 0..world {
        let layout = Layout {
            batch_size: usize::from(batch_size) + 1,
            max_len: usize::from(max_len) + 1,
            shuffle,
            bucket,
            by_session,
            seed,
            epoch,
            shard: (rank, world),
        };
        let plan = Plan::new(store, Choice::All(Targets::Every), &layout).unwrap();
        for index in 0..plan.num_batches() {
            let (rows, width, total) = plan.size(index).unwrap();
            let columns = if store.columns().users.is_some() { 5 } else { 4 };
            let (mut values, mut padded) = (vec![0; columns * rows], vec![-1; rows * width]);
            plan.fill_padded(store, index, -1, &mut values, &mut padded).unwrap();
            let (mut packed, mut positions, mut starts) =
                (vec![-1; total], vec![-1; total], vec![-1; rows + 1]);
            plan.fill_packed(store, index, &mut values, &mut packed, &mut positions, &mut starts).unwrap();
            let unpadded: Vec<i64> = padded.into_iter().filter(|&item| item >= 0).collect();
            assert_eq!(unpadded, packed);
            let (shared, width) = plan.session_size(index).unwrap();
            let (mut own, mut items) = (vec![-1; rows], vec![-1; shared * width]);
            plan.fill_sessions(store, index, -1, &mut values, &mut own, &mut items).unwrap();
            for (sample, &row) in own.iter().enumerate() {
                let bounds = starts[sample] as usize..starts[sample + 1] as usize;
                assert_eq!(&items[row as usize * width..][..bounds.len()], &packed[bounds]);
            }
        }
        dealt.extend(plan.samples().iter().map(|sample| (sample.session, sample.end)));
    }
    dealt.sort_unstable();
    assert_eq!(dealt, store.prefixes(Targets::Every));
}

fuzz_target!(|input: Input| {
    open(&input.file);
    let sessions: Vec<i64> = input.rows.iter().map(|row| row.0.into()).collect();
    let items: Vec<i64> = input.rows.iter().map(|row| row.1.into()).collect();
    let times: Vec<i64> = input.rows.iter().map(|row| row.2.into()).collect();
    let users: Vec<i64> = sessions.iter().map(|session| session / 2).collect();
    let store = SessionStore::from_arrays(
        &sessions,
        &items,
        input.with_times.then_some(&times[..]),
        input.with_users.then_some(&users[..]),
        input.num_items.map(i64::from),
    );
    let fits = input.num_items.is_none_or(|count| items.iter().all(|&item| item < i64::from(count)));
    assert_eq!(store.is_ok(), fits);
    let Ok(store) = store else { return };
    let mut bytes = saved(&store);
    assert!(open(&bytes).as_ref() == Some(&store));
    let whole = bytes.clone();
    for (place, change) in &input.damage {
        let place = usize::from(*place) % bytes.len();
        bytes[place] ^= change;
    }
    if bytes != whole {
        assert!(open(&bytes).is_none(), "a damaged file opens");
    }
    check_plans(&store, &input);
});
