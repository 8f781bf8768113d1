//! Properties of the graphs of prefixes and of stores.

use alterrec_core::error::Error;
use alterrec_core::graphs::{Adjacency, SessionGraphs, session_graphs, transition_graph};
use alterrec_core::prefixes::Prefixes;
use alterrec_core::sessions::SessionStore;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const ITEMS: usize = 6;

fn prefixes() -> impl Strategy<Value = Vec<Vec<i64>>> {
    proptest::collection::vec(proptest::collection::vec(0..ITEMS as i64, 1..9), 0..6)
}

/// The graphs of rows padded with what is no item.
fn graphs_of(prefixes: &[Vec<i64>]) -> Result<SessionGraphs, Error> {
    let width = prefixes.iter().map(Vec::len).max().unwrap_or(0);
    let mut items = vec![-9; prefixes.len() * width];
    for (row, prefix) in prefixes.iter().enumerate() {
        items[row * width..][..prefix.len()].copy_from_slice(prefix);
    }
    let lengths: Vec<_> = prefixes.iter().map(|prefix| prefix.len() as i64).collect();
    session_graphs(Prefixes { items: &items, width, lengths: &lengths }, ITEMS)
}

fn stores() -> impl Strategy<Value = SessionStore> {
    let interaction = (0_i64..6, 0..ITEMS as i64);
    (proptest::collection::vec(interaction, 0..40), any::<bool>()).prop_map(|(rows, with_users)| {
        let (sessions, items): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
        let users: Vec<_> = sessions.iter().map(|session| session % 4).collect();
        let users = with_users.then_some(&users[..]);
        SessionStore::from_arrays(&sessions, &items, None, users, Some(ITEMS as i64)).unwrap()
    })
}

/// How often each edge (source, target) occurs; rows must be ascending.
fn edges(graph: &Adjacency) -> BTreeMap<(i64, i64), usize> {
    let mut edges = BTreeMap::new();
    for (target, bounds) in (0..).zip(graph.offsets.windows(2)) {
        let row = &graph.ids[bounds[0] as usize..bounds[1] as usize];
        assert!(row.is_sorted());
        row.iter().for_each(|&source| *edges.entry((source, target)).or_default() += 1);
    }
    assert_eq!(edges.values().sum::<usize>(), graph.ids.len());
    edges
}

proptest! {
    #[test]
    fn nodes_give_the_prefixes_back(prefixes in prefixes()) {
        let graphs = graphs_of(&prefixes).unwrap();
        let width = prefixes.iter().map(Vec::len).max().unwrap_or(0);
        for (row, prefix) in prefixes.iter().enumerate() {
            let nodes = graphs.starts[row]..graphs.starts[row + 1];
            let places = &graphs.node_of_place[row * width..][..prefix.len()];
            prop_assert!(places.iter().all(|node| nodes.contains(node)));
            let items: Vec<_> = places.iter().map(|&node| graphs.nodes[node as usize]).collect();
            prop_assert_eq!(&items, prefix);
            prop_assert!(graphs.nodes[nodes.start as usize..nodes.end as usize].is_sorted_by(|a, b| a < b));
        }
    }

    #[test]
    fn edges_are_the_distinct_steps_of_each_prefix(prefixes in prefixes()) {
        let graphs = graphs_of(&prefixes).unwrap();
        let width = prefixes.iter().map(Vec::len).max().unwrap_or(0);
        let mut steps = BTreeSet::new();
        for (row, prefix) in prefixes.iter().enumerate() {
            let places = &graphs.node_of_place[row * width..][..prefix.len()];
            steps.extend(places.windows(2).map(|pair| (pair[0], pair[1])));
        }
        let before = edges(&graphs.predecessors);
        prop_assert!(before.values().all(|&count| count == 1));
        prop_assert_eq!(before.into_keys().collect::<BTreeSet<_>>(), steps);
        let after = edges(&graphs.successors);
        let turned: BTreeMap<_, _> = after.into_iter().map(|((u, v), count)| ((v, u), count)).collect();
        prop_assert_eq!(turned, edges(&graphs.predecessors));
    }

    #[test]
    fn a_transition_graph_is_its_own_transpose(store in stores(), predecessors in 1..4_usize) {
        let found = edges(&transition_graph(&store, predecessors).unwrap());
        let turned = found.iter().map(|(&(source, target), &count)| ((target, source), count)).collect();
        prop_assert_eq!(&found, &turned);
    }

    #[test]
    fn users_are_linked_once_for_each_interaction(store in stores()) {
        let found = edges(&transition_graph(&store, 2).unwrap());
        let users = store.columns().users.as_deref();
        for (&(source, target), &count) in &found {
            let (low, high) = (source.min(target), source.max(target));
            if high < ITEMS as i64 {
                continue;
            }
            if low == high {
                prop_assert_eq!(count, 1);
                continue;
            }
            prop_assert!(low < ITEMS as i64);
            let own = users.unwrap().iter().zip(store.iter()).filter(|(user, _)| **user == high - ITEMS as i64);
            let clicks = own.flat_map(|(_, items)| items).filter(|&&item| i64::from(item) == low).count();
            prop_assert_eq!(count, clicks);
        }
        let clicks: usize = found.iter().filter(|(edge, _)| edge.0 >= ITEMS as i64 && edge.1 < ITEMS as i64)
            .map(|(_, count)| count).sum();
        prop_assert_eq!(clicks, if users.is_some() { store.iter().map(<[u32]>::len).sum() } else { 0 });
    }

    #[test]
    fn items_are_linked_by_their_steps_and_by_the_kept_ones_again(store in stores()) {
        let found = edges(&transition_graph(&store, usize::MAX).unwrap());
        let mut expected = BTreeMap::new();
        let mut kept = BTreeSet::new();
        for items in store.iter() {
            for pair in items.windows(2) {
                let (u, v) = (i64::from(pair[0]), i64::from(pair[1]));
                for _ in 0..if kept.insert((u, v)) { 2 } else { 1 } {
                    *expected.entry((u, v)).or_default() += 1;
                    *expected.entry((v, u)).or_default() += 1;
                }
            }
        }
        (0..ITEMS as i64).for_each(|item| *expected.entry((item, item)).or_default() += 1);
        let items: BTreeMap<_, _> =
            found.into_iter().filter(|(edge, _)| edge.0.max(edge.1) < ITEMS as i64).collect();
        prop_assert_eq!(items, expected);
    }
}

#[test]
fn an_empty_prefix_is_an_error() {
    let message = "lengths[1] is 0; expected 1 to 2";
    assert_eq!(graphs_of(&[vec![1, 2], vec![]]), Err(Error::Value(message.into())));
}

#[test]
fn an_item_outside_the_catalogue_is_an_error() {
    let message = "items[0, 1] is 6; expected 0 to 5";
    assert_eq!(graphs_of(&[vec![1, 6]]), Err(Error::Value(message.into())));
}

#[test]
fn users_are_numbers_from_0() {
    for user in [-2, 1 << 40] {
        let store = SessionStore::from_arrays(&[0], &[2], None, Some(&[user]), None).unwrap();
        let most = u32::MAX - 4;
        let message = format!(
            "user {user} of session 0; expected 0 to {most} (numbers from 0, without gaps), or -1 for an \
             unknown user"
        );
        assert_eq!(transition_graph(&store, 1), Err(Error::Value(message)));
    }
}
