//! The parts of the score of a service, and sessions with what they ask, for [`crate::score_sums`].

use crate::error::{Error, Result};
use crate::neighbours::ItemNeighbours;
use crate::query_tables::{QueryTable, SessionQueries, check_items};

/// A weighted sum of parts.
#[derive(Debug, Clone)]
pub struct ScoreSum<'a> {
    /// The tables of networks, with their weights; one or more, over the same items.
    pub networks: Vec<(&'a QueryTable, f32)>,
    /// Items that one network scores by another one.
    pub cold: Option<ColdItems<'a>>,
    /// Ids of items that are never recommended, ascending.
    pub removed: &'a [u32],
    /// Neighbour lists as a part.
    pub neighbours: Option<NeighbourPart<'a>>,
    /// Scores of all items that do not depend on the session, with their weight.
    pub fixed: Option<(&'a [f32], f32)>,
}

/// Items without training.
///
/// Network `by` gives network `of` its scores of these items, shifted so that the logsumexp of both networks over
/// the items that they score is the same.
#[derive(Debug, Clone, Copy)]
pub struct ColdItems<'a> {
    /// Ids, ascending.
    pub items: &'a [u32],
    /// For each item of the catalogue -inf if it is one of these or removed, else 0.
    pub absent: &'a [f32],
    /// Number of the network that does not know them.
    pub of: usize,
    /// Number of the network that scores them.
    pub by: usize,
}

/// Neighbour lists as a part.
#[derive(Debug, Clone, Copy)]
pub struct NeighbourPart<'a> {
    /// The lists.
    pub lists: &'a ItemNeighbours,
    /// Weight of an item by its distance from the end, as a power.
    pub decay: f64,
    /// The part is the logarithm of the sums plus this number. `None`: it is the sums.
    pub offset: Option<f64>,
    /// Weight of the part.
    pub weight: f32,
}

/// A session and the items that are asked for.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// What it asks each network with.
    pub queries: Vec<SessionQueries<'a>>,
    /// The items that are read, oldest first.
    pub read: &'a [i64],
    /// All items of the session.
    pub seen: &'a [i64],
    /// With the repeat component, the log odds of a repeat and the log weight of each of `seen`.
    pub repeats: Option<(f64, &'a [f64])>,
    /// Items that are not recommended, besides those that the rules exclude.
    pub exclude: &'a [i64],
    /// The only items that can be recommended; `None`: all.
    pub only: Option<&'a [i64]>,
}

/// Rules of all sessions of a call.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Whether items of a session are never recommended for it.
    pub exclude_seen: bool,
    /// What scores are divided by in the repeat component.
    pub temperature: f64,
    /// How much scores decide which item is repeated.
    pub affinity: f64,
}

impl ScoreSum<'_> {
    /// Size of the catalogue.
    #[must_use]
    pub fn num_items(&self) -> usize {
        self.networks.first().map_or(0, |(table, _)| table.num_items())
    }

    /// Refuses parts that do not fit together.
    pub(crate) fn check(&self) -> Result<()> {
        let num_items = self.num_items();
        let networks = self.networks.iter().map(|(table, _)| table.num_items());
        let lists = self.neighbours.iter().map(|part| part.lists.num_items());
        let fixed = self.fixed.iter().map(|(scores, _)| scores.len());
        let mut sizes = networks.chain(lists).chain(fixed);
        if num_items == 0 || !sizes.all(|size| size == num_items) {
            return Err(Error::Value(
                "parts of a sum have other items; expected one catalogue, 1 item or more".into(),
            ));
        }
        // Ids ascend, so the last ones tell; this is called for each request.
        let cold = self.cold.and_then(|cold| cold.items.last());
        if let Some(item) =
            cold.into_iter().chain(self.removed.last()).find(|&&item| item as usize >= num_items)
        {
            return Err(Error::Value(format!("item {item} is not in a catalogue of {num_items} items")));
        }
        if self.cold.is_some_and(|cold| cold.absent.len() != num_items) {
            return Err(Error::Value(format!("absent has other items; expected {num_items}")));
        }
        if self.cold.is_some_and(|cold| cold.of.max(cold.by) >= self.networks.len()) {
            return Err(Error::Value(format!("cold items name a network above {}", self.networks.len() - 1)));
        }
        Ok(())
    }

    /// Refuses items outside the catalogue and arguments of other sizes.
    pub(crate) fn check_request(&self, request: &Request<'_>) -> Result<()> {
        if request.queries.len() != self.networks.len() {
            return Err(Error::Value(format!(
                "a session asks {} networks; expected {}",
                request.queries.len(),
                self.networks.len()
            )));
        }
        for (queries, (table, _)) in request.queries.iter().zip(&self.networks) {
            table.check(queries)?;
        }
        let only = request.only.unwrap_or_default();
        for (name, items) in
            [("read", request.read), ("seen", request.seen), ("exclude", request.exclude), ("only", only)]
        {
            check_items(name, items, self.num_items())?;
        }
        match request.repeats {
            Some((_, weights)) if weights.len() != request.seen.len() => Err(Error::Value(format!(
                "a session has {} log weights for {} items; expected one for each",
                weights.len(),
                request.seen.len()
            ))),
            _ => Ok(()),
        }
    }
}

impl NeighbourPart<'_> {
    /// Fills the scores of all items for a session.
    pub(crate) fn fill(&self, read: &[i64], num_items: usize, out: &mut Vec<f32>) {
        let score = |sum: f32| self.offset.map_or(sum, |offset| (sum + offset as f32).ln());
        out.clear();
        out.resize(num_items, 0.0);
        self.lists.add_scores(read, self.decay, out);
        if self.offset.is_none() {
            return;
        }
        // Few items are neighbours, and all others have the same score.
        let ids = read.iter().flat_map(|&item| self.lists.of_item(item).0);
        let mut near: Vec<(u32, f32)> = ids.map(|&id| (id, score(out[id as usize]))).collect();
        near.sort_unstable_by_key(|&(id, _)| id);
        out.fill(score(0.0));
        for (id, score) in near {
            out[id as usize] = score;
        }
    }
}
