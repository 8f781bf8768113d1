//! Python classes `QueryTable` and `ScoreSum`.

use super::neighbours::ItemNeighbours;
use crate::error::Error;
use crate::query_tables::{self, SessionQueries};
use crate::score_parts::{self, ColdItems, NeighbourPart, Request, Rules};
use numpy::{PyArray1, PyArray2, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::ops::Range;

/// Item vectors that are scored, and the queries of items, for :class:`ScoreSum`.
///
/// Args:
///   table: (V, D) float32 item vectors in C order, which are copied.
///   queries: (V, D) float32 query of each item, divided by the temperature; the score is then the log probability
///     of the mixture of the softmaxes of the queries of a session. None: it is the product with the vector of
///     the session.
///   excludes_seen: whether an item is no candidate of its own query, nor of the vector of its session.
///
/// Raises:
///   ValueError: the arrays have different shapes or no columns, or a vector is not finite.
///
/// Example:
///
/// >>> import numpy as np
/// >>> from alterrec._core import QueryTable
/// >>> QueryTable(np.zeros((3, 2), np.float32), None, False).num_items
/// 3
#[pyclass(frozen, module = "alterrec._core")]
pub(super) struct QueryTable {
    table: query_tables::QueryTable,
}

#[pymethods]
impl QueryTable {
    #[new]
    #[pyo3(signature = (table, queries, excludes_seen))]
    fn new(
        py: Python<'_>,
        table: PyReadonlyArray2<'_, f32>,
        queries: Option<PyReadonlyArray2<'_, f32>>,
        excludes_seen: bool,
    ) -> PyResult<Self> {
        if let Some(queries) = &queries
            && table.shape() != queries.shape()
        {
            return Err(PyValueError::new_err(format!(
                "table has shape {:?} and queries {:?}; both must be equal",
                table.shape(),
                queries.shape()
            )));
        }
        let dim = table.shape()[1];
        let table = table.as_slice()?;
        let queries = queries.as_ref().map(PyReadonlyArray2::as_slice).transpose()?;
        let queries = queries.map(|queries| (queries, excludes_seen));
        let table = py.detach(|| query_tables::QueryTable::new(table, queries, dim))?;
        Ok(Self { table })
    }

    /// Number of items.
    #[getter]
    fn num_items(&self) -> usize {
        self.table.num_items()
    }
}

/// Item numbers for each session, or for all of them if there is one list.
type Filter<'py> = Option<Vec<Option<PyReadonlyArray1<'py, i64>>>>;

/// Sessions and what is asked for them, read from the attributes of a Python object.
#[derive(FromPyObject)]
struct Sessions<'py> {
    read_offsets: PyReadonlyArray1<'py, i64>,
    read: PyReadonlyArray1<'py, i64>,
    seen_offsets: PyReadonlyArray1<'py, i64>,
    seen: PyReadonlyArray1<'py, i64>,
    weights: Vec<Option<PyReadonlyArray1<'py, f32>>>,
    vectors: Vec<Option<PyReadonlyArray2<'py, f32>>>,
    vector_weights: Vec<Option<PyReadonlyArray1<'py, f32>>>,
    repeats: Option<Repeats<'py>>,
    exclude_seen: bool,
    exclude: Filter<'py>,
    only: Filter<'py>,
}

#[derive(FromPyObject)]
struct Repeats<'py> {
    log_rates: PyReadonlyArray1<'py, f64>,
    log_weights: PyReadonlyArray1<'py, f64>,
    temperature: f64,
    affinity: f64,
}

impl Sessions<'_> {
    fn rules(&self) -> Rules {
        let (temperature, affinity) =
            self.repeats.as_ref().map_or((1.0, 0.0), |repeats| (repeats.temperature, repeats.affinity));
        Rules { exclude_seen: self.exclude_seen, temperature, affinity }
    }

    fn requests(&self) -> PyResult<Vec<Request<'_>>> {
        let (reads, seen) = (self.read_offsets.as_slice()?, self.seen_offsets.as_slice()?);
        (0..reads.len().saturating_sub(1)).map(|row| self.request(row, reads, seen)).collect()
    }

    fn request(&self, row: usize, reads: &[i64], seen: &[i64]) -> PyResult<Request<'_>> {
        let (read_range, seen_range) = (range(reads, row)?, range(seen, row)?);
        let read = part(self.read.as_slice()?, &read_range)?;
        let mut queries = Vec::new();
        for ((weights, vectors), vector_weights) in
            self.weights.iter().zip(&self.vectors).zip(&self.vector_weights)
        {
            let weights =
                weights.as_ref().map(|weights| part(weights.as_slice()?, &read_range)).transpose()?;
            let vector = match vectors {
                None => None,
                Some(vectors) => {
                    let columns = vectors.shape()[1];
                    let values = part(vectors.as_slice()?, &(row * columns..(row + 1) * columns))?;
                    let weight = match vector_weights {
                        None => 1.0,
                        Some(weights) => *weights.as_slice()?.get(row).ok_or_else(wrong)?,
                    };
                    Some((values, weight))
                }
            };
            let items = if weights.is_some() { read } else { &[] };
            queries.push(SessionQueries { items, weights: weights.unwrap_or_default(), vector });
        }
        let repeats = match &self.repeats {
            None => None,
            Some(repeats) => {
                let rate = *repeats.log_rates.as_slice()?.get(row).ok_or_else(wrong)?;
                Some((rate, part(repeats.log_weights.as_slice()?, &seen_range)?))
            }
        };
        Ok(Request {
            queries,
            read,
            seen: part(self.seen.as_slice()?, &seen_range)?,
            repeats,
            exclude: filter(&self.exclude, row)?.unwrap_or_default(),
            only: filter(&self.only, row)?,
        })
    }
}

fn wrong() -> PyErr {
    PyValueError::new_err("the arrays of the sessions do not fit together")
}

fn range(offsets: &[i64], row: usize) -> PyResult<Range<usize>> {
    match offsets.get(row..row + 2) {
        Some(&[first, end]) if 0 <= first && first <= end => Ok(first as usize..end as usize),
        _ => Err(wrong()),
    }
}

fn part<'a, T>(values: &'a [T], range: &Range<usize>) -> PyResult<&'a [T]> {
    values.get(range.clone()).ok_or_else(wrong)
}

/// The filter of one row: None for no filter, one for all rows if there is a single one.
fn filter<'a>(lists: &'a Filter<'_>, row: usize) -> PyResult<Option<&'a [i64]>> {
    let Some(lists) = lists else { return Ok(None) };
    let list = if lists.len() == 1 { &lists[0] } else { lists.get(row).ok_or_else(wrong)? };
    Ok(list.as_ref().map(PyReadonlyArray1::as_slice).transpose()?)
}

/// The score of a system for a service: a weighted sum of tables, neighbour lists and fixed scores.
///
/// Args:
///   tables: the item tables of networks.
///   weights: the weight of each.
///   cold: (ids, of, by): items that network number ``of`` does not know; network number ``by`` scores them, shifted
///     so that the logsumexp of both networks over the items that they score is the same. None: no such items.
///   removed: int64 ids of items that are never recommended, ascending.
///   neighbours: (lists, decay, offset, weight): neighbour lists as a part, whose score is the log of the sums plus
///     the offset, or the sums if that is None. None: no such part.
///   fixed: ((V,) float32 scores, weight): a part that does not depend on the session. None: no such part.
///
/// Example:
///
/// >>> import numpy as np
/// >>> from types import SimpleNamespace
/// >>> from alterrec._core import QueryTable, ScoreSum
/// >>> table = np.array([[0.0], [1.0], [2.0]], np.float32)
/// >>> one = np.array([0, 1])
/// >>> session = SimpleNamespace(read_offsets=one, read=one[:1], seen_offsets=one, seen=one[:1], weights=[None],
/// ...     vectors=[np.ones((1, 1), np.float32)], vector_weights=[None], repeats=None, exclude_seen=True,
/// ...     exclude=None, only=None)
/// >>> ScoreSum([QueryTable(table, None, False)], [1.0], None, one[:0], None, None).best(session, 2, 1)
/// (array([[2, 1]]), array([[2., 1.]], dtype=float32))
#[pyclass(frozen, module = "alterrec._core")]
pub(super) struct ScoreSum {
    tables: Vec<(Py<QueryTable>, f32)>,
    cold: Option<Cold>,
    removed: Vec<u32>,
    neighbours: Option<(Py<ItemNeighbours>, f64, Option<f64>, f32)>,
    fixed: Option<(Vec<f32>, f32)>,
}

/// Ids and scores.
type Best<'py> = (Bound<'py, PyArray2<i64>>, Bound<'py, PyArray2<f32>>);

struct Cold {
    items: Vec<u32>,
    absent: Vec<f32>,
    of: usize,
    by: usize,
}

#[pymethods]
impl ScoreSum {
    #[new]
    #[pyo3(signature = (tables, weights, cold, removed, neighbours, fixed))]
    fn new(
        tables: Vec<Py<QueryTable>>,
        weights: Vec<f32>,
        cold: Option<(PyReadonlyArray1<'_, i64>, usize, usize)>,
        removed: PyReadonlyArray1<'_, i64>,
        neighbours: Option<(Py<ItemNeighbours>, f64, Option<f64>, f32)>,
        fixed: Option<(PyReadonlyArray1<'_, f32>, f32)>,
    ) -> PyResult<Self> {
        if tables.len() != weights.len() {
            return Err(PyValueError::new_err(format!(
                "there are {} tables and {} weights; both must be equal",
                tables.len(),
                weights.len()
            )));
        }
        let removed = ascending(&removed)?;
        let num_items = tables.first().map_or(0, |table| table.get().table.num_items());
        let cold = match cold {
            None => None,
            Some((items, of, by)) => {
                let items = ascending(&items)?;
                let mut absent = vec![0.0; num_items];
                for &item in items.iter().chain(&removed) {
                    let Some(place) = absent.get_mut(item as usize) else {
                        return Err(PyValueError::new_err(format!(
                            "item {item} is not in a catalogue of {num_items} items"
                        )));
                    };
                    *place = f32::NEG_INFINITY;
                }
                Some(Cold { items, absent, of, by })
            }
        };
        let fixed = fixed
            .map(|(scores, weight)| Ok::<_, PyErr>((scores.as_slice()?.to_vec(), weight)))
            .transpose()?;
        let tables = tables.into_iter().zip(weights).collect();
        Ok(Self { tables, cold, removed, neighbours, fixed })
    }

    /// Return the ``k`` best items of each session, best first: ids (N, k) and scores (N, k).
    ///
    /// Where fewer candidates are left, the last ids are -1 and their scores -inf.
    ///
    /// Args:
    ///   sessions: an object like :class:`alterrec.models.service_scores.AskedSessions`.
    ///   k: number of items, 1 or more.
    ///   threads: number of threads; None uses all cores. It does not change results.
    ///
    /// Raises:
    ///   ValueError: an item is not in the catalogue, a session has none, or arrays do not fit together.
    fn best<'py>(
        &self,
        py: Python<'py>,
        sessions: Sessions<'py>,
        k: usize,
        threads: Option<usize>,
    ) -> PyResult<Best<'py>> {
        let (requests, rules) = (sessions.requests()?, sessions.rules());
        let rows = requests.len();
        let ((ids, scores), sum) = ((vec![-1; rows * k], vec![f32::NEG_INFINITY; rows * k]), self.sum());
        let (ids, scores) = py.detach(|| {
            let (mut ids, mut scores) = (ids, scores);
            let found = sum.best(&requests, k, &rules, threads)?;
            for ((ids, scores), best) in ids.chunks_mut(k.max(1)).zip(scores.chunks_mut(k.max(1))).zip(found)
            {
                for ((id, score), found) in ids.iter_mut().zip(scores).zip(best) {
                    (*id, *score) = found;
                }
            }
            Ok::<_, Error>((ids, scores))
        })?;
        Ok((matrix(py, ids, rows, k)?, matrix(py, scores, rows, k)?))
    }

    /// Return the scores of some items in each session, also of those that are never recommended.
    ///
    /// Args:
    ///   sessions: as in :meth:`best`.
    ///   items: for each session int64 item numbers.
    ///   threads: as in :meth:`best`.
    ///
    /// Returns:
    ///   For each session a float32 array.
    ///
    /// Raises:
    ///   ValueError: as in :meth:`best`.
    fn scores<'py>(
        &self,
        py: Python<'py>,
        sessions: Sessions<'py>,
        items: Vec<PyReadonlyArray1<'py, i64>>,
        threads: Option<usize>,
    ) -> PyResult<Vec<Bound<'py, PyArray1<f32>>>> {
        let (requests, rules, sum) = (sessions.requests()?, sessions.rules(), self.sum());
        let items = items.iter().map(PyReadonlyArray1::as_slice).collect::<Result<Vec<_>, _>>()?;
        let found = py.detach(|| sum.scores(&requests, &items, &rules, threads))?;
        Ok(found.into_iter().map(|scores| PyArray1::from_vec(py, scores)).collect())
    }
}

impl ScoreSum {
    fn sum(&self) -> score_parts::ScoreSum<'_> {
        score_parts::ScoreSum {
            networks: self.tables.iter().map(|(table, weight)| (&table.get().table, *weight)).collect(),
            cold: self.cold.as_ref().map(|cold| ColdItems {
                items: &cold.items,
                absent: &cold.absent,
                of: cold.of,
                by: cold.by,
            }),
            removed: &self.removed,
            neighbours: self.neighbours.as_ref().map(|(lists, decay, offset, weight)| NeighbourPart {
                lists: lists.get().lists(),
                decay: *decay,
                offset: *offset,
                weight: *weight,
            }),
            fixed: self.fixed.as_ref().map(|(scores, weight)| (&scores[..], *weight)),
        }
    }
}

fn ascending(items: &PyReadonlyArray1<'_, i64>) -> PyResult<Vec<u32>> {
    let items = items.as_slice()?;
    let found: Option<Vec<u32>> = items.iter().map(|&item| u32::try_from(item).ok()).collect();
    found
        .filter(|items| items.is_sorted_by(|one, other| one < other))
        .ok_or_else(|| PyValueError::new_err("item numbers must be ascending and below 2^32"))
}

fn matrix<T: numpy::Element>(
    py: Python<'_>,
    values: Vec<T>,
    rows: usize,
    columns: usize,
) -> PyResult<Bound<'_, PyArray2<T>>> {
    use numpy::PyArrayMethods;
    PyArray1::from_vec(py, values).reshape([rows, columns])
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<QueryTable>()?;
    m.add_class::<ScoreSum>()
}
