//! Python classes `ItemNeighbours` and `SessionNeighbours`.

use super::integers::positive;
use super::prefixes::PrefixArrays;
use super::sessions::SessionStore;
use crate::error::Result;
use crate::neighbours;
use crate::prefixes::Prefixes;
use numpy::ndarray::Array2;
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Offsets, ids and similarities of neighbour lists.
type Arrays<'py> = (Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<u32>>, Bound<'py, PyArray1<f32>>);

/// Item-kNN: the k most similar items of each item, measured by the sessions they share.
///
/// ``covisited`` measures them by their distance in these sessions instead. The similarity is c_ij / (sqrt(c_i * c_j) + shrinkage), where c counts sessions (an item counts once per
/// session). Ties go to the smaller id. An item is not a neighbour of itself.
///
/// Args:
///   store: the training sessions.
///   k: number of neighbours per item, 1 or more.
///   shrinkage: 0 or more; larger values reduce the similarity of rare items.
///   threads: number of threads for building and scoring; None uses all cores. It does not change results.
///
/// Raises:
///   ValueError: an argument is outside its range.
///
/// Example:
///
/// >>> from alterrec._core import ItemNeighbours
/// >>> from alterrec.sessions import SessionStore
/// >>> store = SessionStore.from_arrays([0, 0, 1, 1], [0, 1, 1, 2])
/// >>> ItemNeighbours(store, 10).scores([[1]], [1], 1.0).round(2)
/// array([[0.71, 0.  , 0.71]], dtype=float32)
#[pyclass(frozen, module = "alterrec._core")]
pub(super) struct ItemNeighbours {
    neighbours: neighbours::ItemNeighbours,
    threads: Option<usize>,
}

impl ItemNeighbours {
    pub(super) fn lists(&self) -> &neighbours::ItemNeighbours {
        &self.neighbours
    }
}

#[pymethods]
impl ItemNeighbours {
    #[new]
    #[pyo3(signature = (store, k, shrinkage=0.0, *, threads=None))]
    fn new(
        py: Python<'_>,
        store: &SessionStore,
        k: i64,
        shrinkage: f64,
        threads: Option<i64>,
    ) -> PyResult<Self> {
        let (k, threads) = (positive("k", k)?, threads.map(|n| positive("threads", n)).transpose()?);
        let store = &*store.store;
        let neighbours = py.detach(|| neighbours::ItemNeighbours::new(store, k, shrinkage, threads))?;
        Ok(Self { neighbours, threads })
    }

    /// Return the k most similar items of each item, measured by how near they are visited in a session.
    ///
    /// The similarity of item j to item i is the mean, over the occurrences of i, of the weights of the j
    /// around it: ``after[d - 1]`` for a j that is d places later, ``before[d - 1]`` for one that is d places
    /// earlier, 0 for one that is farther away. An item is not a neighbour of itself. Ties go to the smaller
    /// id.
    ///
    /// Args:
    ///   store: the training sessions.
    ///   k: number of neighbours per item, 1 or more.
    ///   after: weights of the items 1, 2, ... places later, 0 or more.
    ///   before: weights of the items 1, 2, ... places earlier, 0 or more.
    ///   threads: number of threads for building and scoring; None uses all cores. It does not change results.
    ///
    /// Raises:
    ///   ValueError: an argument is outside its range.
    ///
    /// Example:
    ///
    /// >>> from alterrec._core import ItemNeighbours
    /// >>> from alterrec.sessions import SessionStore
    /// >>> store = SessionStore.from_arrays([0, 0, 0, 1, 1], [0, 1, 2, 0, 1])
    /// >>> near = ItemNeighbours.covisited(store, 10, after=[3.0, 0.5], before=[0.25])
    /// >>> near.scores([[0], [1]], [1, 1], 1.0)
    /// array([[0.  , 3.  , 0.25],
    ///        [0.25, 0.  , 1.5 ]], dtype=float32)
    #[staticmethod]
    #[pyo3(signature = (store, k, after, before, *, threads=None))]
    fn covisited(
        py: Python<'_>,
        store: &SessionStore,
        k: i64,
        after: Vec<f64>,
        before: Vec<f64>,
        threads: Option<i64>,
    ) -> PyResult<Self> {
        let (k, threads) = (positive("k", k)?, threads.map(|n| positive("threads", n)).transpose()?);
        let store = &*store.store;
        let build = || neighbours::ItemNeighbours::covisited(store, k, &after, &before, threads);
        let neighbours = py.detach(build)?;
        Ok(Self { neighbours, threads })
    }

    /// Rebuild from ``arrays``; ValueError if they do not fit together.
    #[staticmethod]
    #[pyo3(signature = (num_items, offsets, ids, similarities, *, threads=None))]
    fn from_arrays(
        num_items: usize,
        offsets: PyReadonlyArray1<'_, i64>,
        ids: PyReadonlyArray1<'_, u32>,
        similarities: PyReadonlyArray1<'_, f32>,
        threads: Option<i64>,
    ) -> PyResult<Self> {
        let threads = threads.map(|n| positive("threads", n)).transpose()?;
        let (offsets, ids, similarities) = (offsets.to_vec()?, ids.to_vec()?, similarities.to_vec()?);
        let neighbours = neighbours::ItemNeighbours::from_arrays(num_items, offsets, ids, similarities)?;
        Ok(Self { neighbours, threads })
    }

    /// Return copies of offsets (V+1,) int64, ids uint32 and similarities float32.
    ///
    /// The neighbours of item i, best first, are ids[offsets[i]:offsets[i + 1]].
    fn arrays<'py>(&self, py: Python<'py>) -> Arrays<'py> {
        let (offsets, ids, similarities) = self.neighbours.arrays();
        (
            PyArray1::from_slice(py, offsets),
            PyArray1::from_slice(py, ids),
            PyArray1::from_slice(py, similarities),
        )
    }

    /// Return scores (B, V) float32 of right-padded prefixes, given as integer items (B, L) and lengths (B,).
    ///
    /// The score of an item is the sum, over the items of the prefix, of decay ** (distance from the end)
    /// times the similarity of both; 0 if it is not a neighbour of any. ValueError for a decay outside 0..1,
    /// a length outside 0..L or an item outside the catalogue; padding is not read.
    fn scores<'py>(
        &self,
        items: &Bound<'py, PyAny>,
        lengths: &Bound<'py, PyAny>,
        decay: f64,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let score = |prefixes: Prefixes<'_>| self.neighbours.scores(prefixes, decay, self.threads);
        with_prefixes(items, lengths, self.neighbours.num_items(), score)
    }
}

/// V-SKNN: scores the items of the past sessions that are most similar to the prefix.
///
/// Of the sessions that share an item with the prefix, the ``sample`` latest in the store are compared with
/// it. The similarity is the sum over shared items of position / length; positions are counted from 1 at the
/// oldest item of the prefix, and an item counts at its last position. The k most similar sessions are kept
/// (ties: the later one). The score of an item is the sum, over the kept sessions that contain it, of
/// similarity / steps, where steps counts from 1 from the end of the prefix to the latest shared item.
///
/// Ludewig and Jannach, "Evaluation of session-based recommendation algorithms", UMUAI 2018, with
/// the defaults of their published code (``weighting="div"``, ``weighting_score="div"``, no idf). The
/// constant factor 1 / (distinct items of the prefix) is left out, as it does not change the ranking.
///
/// Args:
///   store: the training sessions, in chronological order.
///   k: number of neighbour sessions, 1 or more.
///   sample: number of latest sessions to compare with, 1 or more.
///   threads: number of threads for scoring; None uses all cores. It does not change results.
///
/// Raises:
///   ValueError: an argument is outside its range.
///
/// Example:
///
/// >>> from alterrec._core import SessionNeighbours
/// >>> from alterrec.sessions import SessionStore
/// >>> store = SessionStore.from_arrays([0, 0, 1, 1], [0, 1, 1, 2])
/// >>> SessionNeighbours(store, k=1).scores([[0, 1]], [2])
/// array([[1.5, 1.5, 0. ]], dtype=float32)
#[pyclass(frozen, module = "alterrec._core")]
pub(super) struct SessionNeighbours {
    neighbours: neighbours::SessionNeighbours,
    threads: Option<usize>,
}

#[pymethods]
impl SessionNeighbours {
    #[new]
    #[pyo3(signature = (store, k=500, sample=5000, *, threads=None))]
    fn new(
        py: Python<'_>,
        store: &SessionStore,
        k: i64,
        sample: i64,
        threads: Option<i64>,
    ) -> PyResult<Self> {
        let (k, sample) = (positive("k", k)?, positive("sample", sample)?);
        let threads = threads.map(|n| positive("threads", n)).transpose()?;
        let store = &*store.store;
        let neighbours = py.detach(|| neighbours::SessionNeighbours::new(store, k, sample))?;
        Ok(Self { neighbours, threads })
    }

    /// Return scores (B, V) float32 of right-padded prefixes, given as integer items (B, L) and lengths (B,).
    ///
    /// Items of no neighbour session score 0. ValueError for a length outside 0..L or an item outside the
    /// catalogue; padding is not read.
    fn scores<'py>(
        &self,
        items: &Bound<'py, PyAny>,
        lengths: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let score = |prefixes: Prefixes<'_>| self.neighbours.scores(prefixes, self.threads);
        with_prefixes(items, lengths, self.neighbours.num_items(), score)
    }
}

fn with_prefixes<'py>(
    items: &Bound<'py, PyAny>,
    lengths: &Bound<'py, PyAny>,
    num_items: usize,
    scores: impl FnOnce(Prefixes<'_>) -> Result<Vec<f32>> + Send,
) -> PyResult<Bound<'py, PyArray2<f32>>> {
    let py = items.py();
    let arrays = PrefixArrays::new(items, lengths)?;
    let prefixes = arrays.prefixes()?;
    let rows = prefixes.lengths.len();
    let flat = py.detach(|| scores(prefixes))?;
    let matrix = Array2::from_shape_vec((rows, num_items), flat);
    Ok(matrix.map_err(|e| PyValueError::new_err(e.to_string()))?.into_pyarray(py))
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<ItemNeighbours>()?;
    m.add_class::<SessionNeighbours>()
}
