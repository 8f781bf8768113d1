//! Python classes `SessionStore` and `EpochPlan`.

use super::integers::{int64, integer, positive};
use crate::batches::{Choice, Layout, Plan};
use crate::error::Result;
use crate::random;
use crate::sessions::{self, Columns, Targets};
use crate::storage::{Column, Word};
use numpy::PyUntypedArrayMethods;
use numpy::ndarray::{Array2, Ix1, Ix2};
use numpy::{Element, IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadwriteArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::path::PathBuf;
use std::sync::Arc;

/// An immutable store of sessions: one column of items and the offset of each session in it.
///
/// Sessions are numbered 0..num_sessions-1 in the order in which they first appear, items are 0..num_items-1.
/// Create a store with ``from_arrays`` or ``open``. Stores are equal if their content is equal, and can be
/// pickled.
///
/// Example:
///
/// >>> import numpy as np
/// >>> from alterrec.sessions import SessionStore
/// >>> store = SessionStore.from_arrays(np.array([7, 3, 7, 7]), np.array([2, 0, 1, 2]))
/// >>> store
/// SessionStore(num_sessions=2, num_interactions=4, num_items=3)
/// >>> store.session(0)
/// array([2, 1, 2], dtype=uint32)
/// >>> store.prefixes()
/// array([[0, 1],
///        [0, 2]])
#[pyclass(frozen, eq, module = "alterrec._core")]
#[derive(PartialEq)]
pub(super) struct SessionStore {
    pub(super) store: Arc<sessions::SessionStore>,
}

impl SessionStore {
    fn wrap(store: Result<sessions::SessionStore>) -> PyResult<Self> {
        Ok(Self { store: Arc::new(store?) })
    }

    fn columns(&self) -> &Columns {
        self.store.columns()
    }
}

fn signed(values: &[u64]) -> Vec<i64> {
    values.iter().map(|&value| value as i64).collect()
}

fn optional<'py, T: Word + Element>(
    py: Python<'py>,
    column: Option<&Column<T>>,
) -> Option<Bound<'py, PyArray1<T>>> {
    column.map(|values| PyArray1::from_slice(py, values))
}

fn targets_named(name: &str) -> PyResult<Targets> {
    match name {
        "every" => Ok(Targets::Every),
        "last" => Ok(Targets::Last),
        _ => Err(PyValueError::new_err(format!("targets is {name:?}; expected \"every\" or \"last\""))),
    }
}

#[pymethods]
impl SessionStore {
    /// Group interactions into sessions; the rows of a session need not be adjacent.
    ///
    /// Args:
    ///   session_ids, item_ids: (N,) integers, one per interaction; N = 0 gives an empty store.
    ///   timestamps: (N,) integers in any unit. Items of a session are sorted by them; equal times keep the
    ///     given order. Default: the given order is the order in time.
    ///   user_ids: (N,) integers, the same user for all interactions of a session. Default: no users.
    ///   num_items: size of the catalogue. Default: the largest item + 1.
    ///
    /// Raises:
    ///   ValueError: lengths differ, a dtype is not an integer, an item is outside 0..num_items-1, or a session
    ///     has several users.
    ///
    /// Example:
    ///
    /// >>> from alterrec.sessions import SessionStore
    /// >>> store = SessionStore.from_arrays([5, 5, 5], [0, 1, 2], timestamps=[30, 10, 20], num_items=9)
    /// >>> store.items.tolist(), store.num_items
    /// ([1, 2, 0], 9)
    #[staticmethod]
    #[pyo3(signature = (session_ids, item_ids, *, timestamps=None, user_ids=None, num_items=None))]
    fn from_arrays(
        session_ids: &Bound<'_, PyAny>,
        item_ids: &Bound<'_, PyAny>,
        timestamps: Option<&Bound<'_, PyAny>>,
        user_ids: Option<&Bound<'_, PyAny>>,
        num_items: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let sessions = int64::<Ix1>("session_ids", session_ids)?;
        let items = int64::<Ix1>("item_ids", item_ids)?;
        let times = timestamps.map(|values| int64::<Ix1>("timestamps", values)).transpose()?;
        let users = user_ids.map(|values| int64::<Ix1>("user_ids", values)).transpose()?;
        let (sessions, items) = (sessions.as_slice()?, items.as_slice()?);
        let times = times.as_ref().map(|values| values.as_slice()).transpose()?;
        let users = users.as_ref().map(|values| values.as_slice()).transpose()?;
        let num_items = num_items.map(|value| integer("num_items", value)).transpose()?;
        let py = session_ids.py();
        Self::wrap(
            py.detach(|| sessions::SessionStore::from_arrays(sessions, items, times, users, num_items)),
        )
    }

    /// Rebuild a store from its columns, for pickle.
    #[staticmethod]
    fn _from_columns(
        num_items: u64,
        offsets: PyReadonlyArray1<'_, i64>,
        items: PyReadonlyArray1<'_, u32>,
        session_ids: PyReadonlyArray1<'_, i64>,
        timestamps: Option<PyReadonlyArray1<'_, i64>>,
        users: Option<PyReadonlyArray1<'_, i64>>,
    ) -> PyResult<Self> {
        let optional = |values: Option<PyReadonlyArray1<'_, i64>>| {
            values.map(|array| array.to_vec().map(Column::from)).transpose()
        };
        Self::wrap(sessions::SessionStore::from_columns(Columns {
            num_items,
            offsets: offsets.as_slice()?.iter().map(|&offset| offset as u64).collect::<Vec<_>>().into(),
            items: items.to_vec()?.into(),
            session_ids: session_ids.to_vec()?.into(),
            timestamps: optional(timestamps)?,
            users: optional(users)?,
        }))
    }

    /// Open a file written by ``save``, memory-mapped: processes share it, and it may be larger than memory.
    ///
    /// The file is read once to check it. Raises OSError if it cannot be read, is not a saved store, has
    /// another version, or is truncated or damaged.
    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        Self::wrap(py.detach(|| sessions::SessionStore::open(&path)))
    }

    /// Write the store to a file atomically: on any error an older file is kept.
    ///
    /// Raises OSError with the path if the file cannot be written.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        Ok(py.detach(|| self.store.save(&path))?)
    }

    /// Number of sessions.
    #[getter]
    fn num_sessions(&self) -> usize {
        self.store.num_sessions()
    }

    /// Number of interactions of all sessions.
    #[getter]
    fn num_interactions(&self) -> usize {
        self.columns().items.len()
    }

    /// Size of the catalogue.
    #[getter]
    fn num_items(&self) -> usize {
        self.store.num_items()
    }

    /// Whether interactions have timestamps.
    #[getter]
    fn has_timestamps(&self) -> bool {
        self.columns().timestamps.is_some()
    }

    /// Whether sessions have users.
    #[getter]
    fn has_users(&self) -> bool {
        self.columns().users.is_some()
    }

    /// A copy of the offsets (S+1,) int64: session i is items[offsets[i]:offsets[i + 1]].
    #[getter]
    fn offsets<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        signed(&self.columns().offsets).into_pyarray(py)
    }

    /// A copy of the items (N,) uint32 of all sessions.
    #[getter]
    fn items<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<u32>> {
        PyArray1::from_slice(py, &self.columns().items)
    }

    /// A copy of the ids (S,) int64 that were given to the sessions.
    #[getter]
    fn session_ids<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        PyArray1::from_slice(py, &self.columns().session_ids)
    }

    /// A copy of the timestamps (N,) int64 of the interactions, or None if there are none.
    #[getter]
    fn timestamps<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyArray1<i64>>> {
        optional(py, self.columns().timestamps.as_ref())
    }

    /// A copy of the users (S,) int64 of the sessions, or None if there are none.
    #[getter]
    fn users<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyArray1<i64>>> {
        optional(py, self.columns().users.as_ref())
    }

    /// The number of items of each session, (S,) int64.
    #[getter]
    fn lengths<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        self.store.iter().map(|items| items.len() as i64).collect::<Vec<_>>().into_pyarray(py)
    }

    /// Return the items (n,) uint32 of the session at an index; IndexError outside 0..num_sessions-1.
    fn session<'py>(&self, py: Python<'py>, index: i64) -> PyResult<Bound<'py, PyArray1<u32>>> {
        let session = usize::try_from(index).map_err(|_| {
            pyo3::exceptions::PyIndexError::new_err(format!("session {index}; expected 0 or more"))
        })?;
        Ok(PyArray1::from_slice(py, self.store.session(session)?))
    }

    /// Return how often each item occurs, (V,) int64.
    fn item_counts<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        py.detach(|| self.store.item_counts()).into_pyarray(py)
    }

    /// Return the share, 0..1, of targets (over all prefixes) that occur in their prefix; 0 if there are
    /// none.
    ///
    /// Example:
    ///
    /// >>> from alterrec.sessions import SessionStore
    /// >>> SessionStore.from_arrays([0, 0, 0, 1], [4, 2, 4, 4]).repeat_share()
    /// 0.5
    fn repeat_share(&self, py: Python<'_>) -> f64 {
        py.detach(|| self.store.repeat_share())
    }

    /// Return rows (session index, end), (P, 2) int64: the prefix is items[:end], the target items[end].
    ///
    /// ``targets="every"`` returns each end in 1..len-1, ``"last"`` only len-1; sessions of one item have no
    /// target. ValueError for any other value.
    #[pyo3(signature = (targets="every"))]
    fn prefixes<'py>(&self, py: Python<'py>, targets: &str) -> PyResult<Bound<'py, PyArray2<i64>>> {
        let targets = targets_named(targets)?;
        let pairs = py.detach(|| self.store.prefixes(targets));
        let flat = pairs.iter().flat_map(|&(session, end)| [i64::from(session), i64::from(end)]);
        let rows = Array2::from_shape_vec((pairs.len(), 2), flat.collect());
        Ok(rows.map_err(|e| PyValueError::new_err(e.to_string()))?.into_pyarray(py))
    }

    fn __len__(&self) -> usize {
        self.store.num_sessions()
    }

    fn __repr__(&self) -> String {
        format!(
            "SessionStore(num_sessions={}, num_interactions={}, num_items={})",
            self.num_sessions(),
            self.num_interactions(),
            self.num_items()
        )
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let columns = (
            self.num_items(),
            self.offsets(py),
            self.items(py),
            self.session_ids(py),
            self.timestamps(py),
            self.users(py),
        );
        Ok((py.get_type::<Self>().getattr("_from_columns")?, columns.into_pyobject(py)?))
    }
}

/// The samples of one epoch and shard, in order and divided into batches; fills the arrays of a batch.
#[pyclass(frozen, module = "alterrec._core")]
pub(super) struct EpochPlan {
    store: Arc<sessions::SessionStore>,
    plan: Plan,
}

#[pymethods]
impl EpochPlan {
    #[new]
    #[pyo3(signature = (store, batch_size, max_len, *, shuffle, bucket, by_session, seed, epoch, shard, targets, per_session, samples))]
    #[expect(clippy::too_many_arguments, reason = "the keywords of PrefixBatches, handed on")]
    fn new(
        py: Python<'_>,
        store: &SessionStore,
        batch_size: &Bound<'_, PyAny>,
        max_len: &Bound<'_, PyAny>,
        shuffle: bool,
        bucket: bool,
        by_session: bool,
        seed: u64,
        epoch: u64,
        shard: (usize, usize),
        targets: &str,
        per_session: Option<&Bound<'_, PyAny>>,
        samples: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let count = |name, value| positive(name, integer(name, value)?);
        let (batch_size, max_len) = (count("batch_size", batch_size)?, count("max_len", max_len)?);
        let layout = Layout { batch_size, max_len, shuffle, bucket, by_session, seed, epoch, shard };
        let all = Choice::All(targets_named(targets)?);
        let per_session = per_session.map(|most| count("per_session", most)).transpose()?;
        let given = samples.map(|values| int64::<Ix2>("samples", values)).transpose()?;
        let given = given.as_ref().map(|rows| pairs(rows.shape(), rows.as_slice()?)).transpose()?;
        let choice = given.map_or(per_session.map_or(all, Choice::PerSession), Choice::Given);
        let store = Arc::clone(&store.store);
        let plan = py.detach(|| Plan::new(&store, choice, &layout))?;
        Ok(Self { store, plan })
    }

    /// Number of batches, the same in every shard.
    #[getter]
    fn num_batches(&self) -> usize {
        self.plan.num_batches()
    }

    /// Number of samples of this shard.
    #[getter]
    fn num_samples(&self) -> usize {
        self.plan.samples().len()
    }

    /// Return for each batch the numbers of rows, of items of the longest prefix, and of items of all
    /// prefixes.
    fn sizes(&self) -> PyResult<Vec<(usize, usize, usize)>> {
        Ok((0..self.plan.num_batches()).map(|batch| self.plan.size(batch)).collect::<Result<_>>()?)
    }

    /// Fill ``rows`` with lengths, targets, samples, sessions and, if there are any, users, one after the
    /// other, and ``items`` with the prefixes, padded by ``pad``.
    fn fill_padded(
        &self,
        py: Python<'_>,
        batch: usize,
        pad: i64,
        mut rows: PyReadwriteArray1<'_, i64>,
        mut items: PyReadwriteArray1<'_, i64>,
    ) -> PyResult<()> {
        let (rows, items) = (rows.as_slice_mut()?, items.as_slice_mut()?);
        Ok(py.detach(|| self.plan.fill_padded(&self.store, batch, pad, rows, items))?)
    }

    /// Return for each batch the numbers of samples, of rows by session, and of items of the longest row.
    fn session_sizes(&self) -> PyResult<Vec<(usize, usize, usize)>> {
        let size = |batch| {
            let (rows, width) = self.plan.session_size(batch)?;
            Ok((self.plan.batch(batch)?.len(), rows, width))
        };
        Ok((0..self.plan.num_batches()).map(size).collect::<Result<_>>()?)
    }

    /// Fill ``rows`` as ``fill_padded`` does, ``row_of`` with the row of each sample, and ``items`` with one
    /// row per session.
    fn fill_sessions(
        &self,
        py: Python<'_>,
        batch: usize,
        pad: i64,
        mut rows: PyReadwriteArray1<'_, i64>,
        mut row_of: PyReadwriteArray1<'_, i64>,
        mut items: PyReadwriteArray1<'_, i64>,
    ) -> PyResult<()> {
        let (rows, row_of, items) = (rows.as_slice_mut()?, row_of.as_slice_mut()?, items.as_slice_mut()?);
        Ok(py.detach(|| self.plan.fill_sessions(&self.store, batch, pad, rows, row_of, items))?)
    }

    /// Fill ``rows`` as ``fill_padded`` does, and the items of all prefixes, their positions and the offsets.
    fn fill_packed(
        &self,
        py: Python<'_>,
        batch: usize,
        mut rows: PyReadwriteArray1<'_, i64>,
        mut items: PyReadwriteArray1<'_, i64>,
        mut positions: PyReadwriteArray1<'_, i64>,
        mut offsets: PyReadwriteArray1<'_, i64>,
    ) -> PyResult<()> {
        let (rows, items) = (rows.as_slice_mut()?, items.as_slice_mut()?);
        let (positions, offsets) = (positions.as_slice_mut()?, offsets.as_slice_mut()?);
        Ok(py.detach(|| self.plan.fill_packed(&self.store, batch, rows, items, positions, offsets))?)
    }
}

fn pairs<'a>(shape: &[usize], values: &'a [i64]) -> PyResult<&'a [[i64; 2]]> {
    if shape[1] != 2 {
        let found = format!("samples has shape ({}, {})", shape[0], shape[1]);
        return Err(PyValueError::new_err(format!("{found}; expected (P, 2), rows (session index, end)")));
    }
    Ok(values.as_chunks::<2>().0)
}

/// Derive a seed from a seed and words that identify its purpose.
#[pyfunction]
#[pyo3(signature = (seed, words))]
fn derive_seed(seed: u64, words: Vec<u64>) -> u64 {
    random::derive_seed(seed, &words)
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<SessionStore>()?;
    m.add_class::<EpochPlan>()?;
    m.add_function(wrap_pyfunction!(derive_seed, m)?)
}
