//! Python wrappers of the graphs of prefixes and of a store.

use super::integers::{integer, positive};
use super::prefixes::PrefixArrays;
use super::sessions::SessionStore;
use crate::graphs::{self, Adjacency};
use numpy::ndarray::Array2;
use numpy::{IntoPyArray, PyArray1, PyArray2};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Offsets and ids.
type Edges<'py> = (Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<i64>>);

/// Nodes, starts, node of each position, predecessors and successors.
type Graphs<'py> =
    (Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<i64>>, Bound<'py, PyArray2<i64>>, Edges<'py>, Edges<'py>);

fn edges(py: Python<'_>, adjacency: Adjacency) -> Edges<'_> {
    (adjacency.offsets.into_pyarray(py), adjacency.ids.into_pyarray(py))
}

/// Return the graphs of right-padded prefixes: nodes, starts, node of each position, predecessors,
/// successors.
#[pyfunction]
#[pyo3(signature = (items, lengths, num_items))]
fn session_graphs<'py>(
    items: &Bound<'py, PyAny>,
    lengths: &Bound<'py, PyAny>,
    num_items: &Bound<'py, PyAny>,
) -> PyResult<Graphs<'py>> {
    let py = items.py();
    let num_items = positive("num_items", integer("num_items", num_items)?)?;
    let arrays = PrefixArrays::new(items, lengths)?;
    let prefixes = arrays.prefixes()?;
    let graphs = py.detach(|| graphs::session_graphs(prefixes, num_items))?;
    let places = Array2::from_shape_vec((prefixes.lengths.len(), prefixes.width), graphs.node_of_place);
    let places = places.map_err(|e| PyValueError::new_err(e.to_string()))?.into_pyarray(py);
    let (nodes, starts) = (graphs.nodes.into_pyarray(py), graphs.starts.into_pyarray(py));
    Ok((nodes, starts, places, edges(py, graphs.predecessors), edges(py, graphs.successors)))
}

/// Return the graph of all transitions of a store: offsets and ids.
#[pyfunction]
#[pyo3(signature = (store, predecessors))]
fn transition_graph<'py>(
    py: Python<'py>,
    store: &SessionStore,
    predecessors: &Bound<'py, PyAny>,
) -> PyResult<Edges<'py>> {
    let predecessors = positive("predecessors", integer("predecessors", predecessors)?)?;
    let store = &*store.store;
    Ok(edges(py, py.detach(|| graphs::transition_graph(store, predecessors))?))
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(session_graphs, m)?)?;
    m.add_function(wrap_pyfunction!(transition_graph, m)?)
}
