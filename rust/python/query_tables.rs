//! Python class `QueryTable`.

use crate::query_tables::{self, SessionQueries, SessionVector};
use numpy::ndarray::Array2;
use numpy::{IntoPyArray, PyArray2, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Item vectors that are scored and the query of each item, for mixtures of the queries of sessions.
///
/// Args:
///   table: (V, D) float32 item vectors in C order, which are copied.
///   queries: (V, D) float32 query of each item, divided by the temperature.
///   excludes_seen: whether an item is no candidate of its own query, nor of the vector of its session.
///
/// Raises:
///   ValueError: the arrays have different shapes or no columns.
///
/// Example:
///
/// >>> import numpy as np
/// >>> from alterrec._core import QueryTable
/// >>> table = np.zeros((3, 1), np.float32)
/// >>> halves = np.full(2, 0.5, np.float32)
/// >>> ask = QueryTable(table, table, True).log_mixtures
/// >>> mixed = ask(np.array([0, 2]), np.array([0, 2]), halves, None, halves[:1], False, 1)
/// >>> np.exp(mixed).round(2)
/// array([[0.25, 0.5 , 0.25]], dtype=float32)
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
        queries: PyReadonlyArray2<'_, f32>,
        excludes_seen: bool,
    ) -> PyResult<Self> {
        if table.shape() != queries.shape() {
            return Err(PyValueError::new_err(format!(
                "table has shape {:?} and queries {:?}; both must be equal",
                table.shape(),
                queries.shape()
            )));
        }
        let (dim, table, queries) = (table.shape()[1], table.as_slice()?, queries.as_slice()?);
        let table = py.detach(|| query_tables::QueryTable::new(table, queries, dim, excludes_seen))?;
        Ok(Self { table })
    }

    /// Return the log probabilities (N, V) of all items under the mixtures of the queries of sessions.
    ///
    /// Args:
    ///   offsets: (N+1,) int64: session n has the items ``offsets[n]`` to ``offsets[n + 1] - 1``.
    ///   items: (T,) int64 items, each of which is a query.
    ///   weights: (T,) float32 weight of each query.
    ///   vectors: float32 vectors of the sessions, if they are queries: their values (N, D), or if ``mean``, the
    ///     weights (1, T) of the queries of items of which they are sums.
    ///   vector_weights: (N,) float32 weights of these queries.
    ///   mean: what ``vectors`` contains.
    ///   threads: number of threads; None uses all cores. It does not change results.
    ///
    /// Raises:
    ///   ValueError: an item is not in the table, a session has none, or a shape is wrong.
    #[pyo3(signature = (offsets, items, weights, vectors, vector_weights, mean, threads))]
    #[expect(clippy::too_many_arguments, reason = "the arguments of the function in Python")]
    fn log_mixtures<'py>(
        &self,
        py: Python<'py>,
        offsets: PyReadonlyArray1<'py, i64>,
        items: PyReadonlyArray1<'py, i64>,
        weights: PyReadonlyArray1<'py, f32>,
        vectors: Option<PyReadonlyArray2<'py, f32>>,
        vector_weights: PyReadonlyArray1<'py, f32>,
        mean: bool,
        threads: Option<usize>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let (offsets, items, weights) = (offsets.as_slice()?, items.as_slice()?, weights.as_slice()?);
        let values = vectors.as_ref().map(PyReadonlyArray2::as_slice).transpose()?;
        let wrong = || PyValueError::new_err("offsets, weights or vectors do not fit to the items");
        let mut sessions = Vec::new();
        for (row, bounds) in offsets.windows(2).enumerate() {
            let range = bounds[0] as usize..bounds[1] as usize;
            let vector = match values {
                None => None,
                Some(values) => {
                    let weight = *vector_weights.as_slice()?.get(row).ok_or_else(wrong)?;
                    let dim = self.table.dim();
                    let vector = if mean {
                        SessionVector::Mean(values.get(range.clone()).ok_or_else(wrong)?)
                    } else {
                        SessionVector::Values(values.get(row * dim..(row + 1) * dim).ok_or_else(wrong)?)
                    };
                    Some((vector, weight))
                }
            };
            sessions.push(SessionQueries {
                items: items.get(range.clone()).ok_or_else(wrong)?,
                weights: weights.get(range).ok_or_else(wrong)?,
                vector,
            });
        }
        let mut scores = vec![0.0; sessions.len() * self.table.num_items()];
        py.detach(|| self.table.log_mixtures(&sessions, threads, &mut scores))?;
        let scores = Array2::from_shape_vec((sessions.len(), self.table.num_items()), scores);
        Ok(scores.map_err(|e| PyValueError::new_err(e.to_string()))?.into_pyarray(py))
    }
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<QueryTable>()
}
