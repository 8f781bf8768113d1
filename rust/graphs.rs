//! Graphs of sessions: one for each prefix, or one of all transitions of a store.
//!
//! Edges are compressed rows by target node, so that a mean over incoming edges is one pass over the ids.

use crate::error::{Error, Result};
use crate::prefixes::Prefixes;
use crate::sessions::SessionStore;
use std::cmp::Reverse;
use std::ops::Range;

/// Incoming edges: `ids[offsets[node]..offsets[node + 1]]` are the neighbours of a node, ascending.
#[derive(Debug, PartialEq)]
pub struct Adjacency {
    /// Start of the neighbours of each node, and the end of the last.
    pub offsets: Vec<i64>,
    /// Neighbours, node after node.
    pub ids: Vec<i64>,
}

/// The graphs of several prefixes; their nodes are numbered consecutively.
#[derive(Debug, PartialEq)]
pub struct SessionGraphs {
    /// The distinct items of each prefix, ascending, prefix after prefix.
    pub nodes: Vec<i64>,
    /// Start of the nodes of each prefix, and the end of the last.
    pub starts: Vec<i64>,
    /// The node of each position, row after row; 0 at padding.
    pub node_of_place: Vec<i64>,
    /// For each node, the distinct nodes directly before it.
    pub predecessors: Adjacency,
    /// For each node, the distinct nodes directly after it.
    pub successors: Adjacency,
}

/// Builds one graph per prefix: nodes are its distinct items, edges its distinct pairs of consecutive items.
///
/// # Errors
/// `Value` for an empty prefix, or an item outside the catalogue.
///
/// ```
/// use alterrec_core::graphs::session_graphs;
/// use alterrec_core::prefixes::Prefixes;
/// let graphs = session_graphs(Prefixes { items: &[7, 2, 7], width: 3, lengths: &[3] }, 8)?;
/// assert_eq!((graphs.nodes, graphs.node_of_place), (vec![2, 7], vec![1, 0, 1]));
/// # Ok::<(), alterrec_core::error::Error>(())
/// ```
pub fn session_graphs(prefixes: Prefixes<'_>, num_items: usize) -> Result<SessionGraphs> {
    let (rows, width) = (prefixes.rows()?, prefixes.width);
    let mut graphs = SessionGraphs {
        nodes: Vec::new(),
        starts: vec![0],
        node_of_place: vec![0; rows * width],
        predecessors: Adjacency { offsets: vec![0], ids: Vec::new() },
        successors: Adjacency { offsets: vec![0], ids: Vec::new() },
    };
    let (mut distinct, mut pairs) = (Vec::new(), Vec::new());
    for row in 0..rows {
        let prefix = prefixes.row(row, num_items)?;
        if prefix.is_empty() {
            return Err(Error::Value(format!("lengths[{row}] is 0; expected 1 to {width}")));
        }
        distinct.clear();
        distinct.extend_from_slice(prefix);
        distinct.sort_unstable();
        distinct.dedup();
        let start = graphs.nodes.len();
        let places = &mut graphs.node_of_place[row * width..][..prefix.len()];
        for (place, item) in places.iter_mut().zip(prefix) {
            *place = (start + distinct.partition_point(|other| other < item)) as i64;
        }
        graphs.nodes.extend_from_slice(&distinct);
        let nodes = start..graphs.nodes.len();
        graphs.starts.push(nodes.end as i64);
        pairs.clear();
        pairs.extend(places.windows(2).map(|pair| (pair[1], pair[0])));
        graphs.predecessors.extend(nodes.clone(), &mut pairs);
        pairs.clear();
        pairs.extend(places.windows(2).map(|pair| (pair[0], pair[1])));
        graphs.successors.extend(nodes, &mut pairs);
    }
    Ok(graphs)
}

impl Adjacency {
    /// Appends the rows of `nodes`, filled with the distinct `pairs` (node, id).
    fn extend(&mut self, nodes: Range<usize>, pairs: &mut Vec<(i64, i64)>) {
        pairs.sort_unstable();
        pairs.dedup();
        let before = self.ids.len();
        self.ids.extend(pairs.iter().map(|&(_, id)| id));
        self.offsets.extend(
            nodes.map(|node| (before + pairs.partition_point(|&(other, _)| other <= node as i64)) as i64),
        );
    }
}

/// Builds one graph of the transitions of all sessions: nodes are items `0..V`, then users `V + user`.
///
/// Its edges, in both directions and with parallel edges kept: each item and its `predecessors` most frequent
/// direct predecessors (ties: the one seen first), each pair of consecutive items, and the user and the item
/// of each interaction; and one edge from each node to itself. The graph is its own transpose. The user -1 is
/// unknown and has no node.
///
/// # Errors
/// `Value` for a user below -1, or more than 2^32 - 1 items and users.
pub fn transition_graph(store: &SessionStore, predecessors: usize) -> Result<Adjacency> {
    let num_items = store.num_items();
    let users = store.columns().users.as_deref();
    let num_nodes = num_items + count_users(users.unwrap_or_default(), num_items)?;
    let kept = frequent_predecessors(store, predecessors);
    let each_edge = |edge: &mut dyn FnMut(usize, usize)| {
        for node in 0..num_nodes {
            edge(node, node);
        }
        let mut both = |one: usize, other: usize| {
            edge(one, other);
            edge(other, one);
        };
        for &(item, before) in &kept {
            both(item as usize, before as usize);
        }
        for (session, items) in store.iter().enumerate() {
            for pair in items.windows(2) {
                both(pair[0] as usize, pair[1] as usize);
            }
            if let Some(user) = users.and_then(|users| usize::try_from(users[session]).ok()) {
                items.iter().for_each(|&item| both(num_items + user, item as usize));
            }
        }
    };
    let mut offsets = vec![0; num_nodes + 1];
    each_edge(&mut |_, target| offsets[target + 1] += 1);
    for node in 0..num_nodes {
        offsets[node + 1] += offsets[node];
    }
    let mut next = offsets.clone();
    let mut ids = vec![0; offsets[num_nodes] as usize];
    each_edge(&mut |source, target| {
        ids[next[target] as usize] = source as i64;
        next[target] += 1;
    });
    for row in offsets.windows(2) {
        ids[row[0] as usize..row[1] as usize].sort_unstable();
    }
    Ok(Adjacency { offsets, ids })
}

/// The highest user plus one.
fn count_users(users: &[i64], num_items: usize) -> Result<usize> {
    let most = i64::from(u32::MAX) - num_items as i64;
    if let Some(session) = users.iter().position(|user| !(-1..most).contains(user)) {
        let found = users[session];
        return Err(Error::Value(format!(
            "user {found} of session {session}; expected 0 to {} (numbers from 0, without gaps), or -1 for an \
             unknown user",
            most - 1
        )));
    }
    Ok(users.iter().max().map_or(0, |&highest| (highest + 1) as usize))
}

/// Pairs (item, direct predecessor): for each item the `most` most frequent ones, ties by first occurrence.
fn frequent_predecessors(store: &SessionStore, most: usize) -> Vec<(u32, u32)> {
    let pairs = store.iter().flat_map(|items| items.windows(2).map(|pair| (pair[1], pair[0])));
    let mut pairs: Vec<_> = pairs.enumerate().map(|(place, pair)| (pair, place)).collect();
    pairs.sort_unstable();
    let mut ranked: Vec<_> = pairs
        .chunk_by(|one, next| one.0 == next.0)
        .map(|same| {
            let ((item, before), first) = same[0];
            (item, Reverse(same.len()), first, before)
        })
        .collect();
    ranked.sort_unstable();
    let items = ranked.chunk_by(|one, next| one.0 == next.0);
    items.flat_map(|item| item.iter().take(most)).map(|&(item, _, _, before)| (item, before)).collect()
}
