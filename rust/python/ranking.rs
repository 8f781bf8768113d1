//! What `alterrec.ranking` calls; see there for the meaning of every argument.

use crate::draws::{self, Draw};
use crate::ranks::{self, Counts};
use crate::select::{self, Matrix};
use crate::windows;
use numpy::{Element, IntoPyArray, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2};
use numpy::{PyUntypedArrayMethods, ndarray};
use pyo3::prelude::*;

type Ids<'py> = Bound<'py, PyArray2<i64>>;
/// How many to draw, the seed, and the number of each row.
type DrawArgs<'py> = (usize, u64, PyReadonlyArray1<'py, u64>);

fn matrix<'a, T: Element>(array: &'a PyReadonlyArray2<'_, T>) -> PyResult<Matrix<'a, T>> {
    Ok(Matrix::new(array.as_slice()?, array.shape()[0], array.shape()[1])?)
}

fn draw<'a>((count, seed, rows): &'a DrawArgs<'_>) -> PyResult<Draw<'a>> {
    Ok(Draw { count: *count, seed: *seed, rows: rows.as_slice()? })
}

fn shaped<T: Element>(
    py: Python<'_>,
    values: Vec<T>,
    rows: usize,
    width: usize,
) -> PyResult<Bound<'_, PyArray2<T>>> {
    values.into_pyarray(py).reshape([rows, width])
}

/// (what to count, counts) with row 0 the items above and row 1 the tied ones, of one view or more.
fn split<'py>(py: Python<'py>, counts: &[Counts], width: usize) -> (Ids<'py>, Ids<'py>) {
    let rows = counts.len() / width;
    let part = |which| {
        let of = |(view, row): (usize, usize)| counts[row * width + view][which];
        ndarray::Array2::from_shape_fn((width, rows), of).into_pyarray(py)
    };
    (part(0), part(1))
}

#[pyfunction]
#[pyo3(signature = (scores, start, stop, exclude, draw, threads))]
fn rank_window<'py>(
    py: Python<'py>,
    scores: PyReadonlyArray2<'py, f32>,
    start: usize,
    stop: usize,
    exclude: PyReadonlyArray2<'py, i64>,
    draw: Option<DrawArgs<'py>>,
    threads: Option<usize>,
) -> PyResult<Ids<'py>> {
    let (scores, exclude) = (matrix(&scores)?, matrix(&exclude)?);
    let draw = draw.as_ref().map(self::draw).transpose()?;
    let ids = py.detach(|| windows::rank_window(scores, start..stop, exclude, draw.as_ref(), threads))?;
    shaped(py, ids, scores.rows, draw.map_or(stop - start, |draw| draw.count))
}

#[pyfunction]
#[pyo3(signature = (scores, start, stop, exclude, threads))]
fn rank_window_mask<'py>(
    py: Python<'py>,
    scores: PyReadonlyArray2<'py, f32>,
    start: usize,
    stop: usize,
    exclude: PyReadonlyArray2<'py, i64>,
    threads: Option<usize>,
) -> PyResult<Bound<'py, PyArray2<bool>>> {
    let (scores, exclude) = (matrix(&scores)?, matrix(&exclude)?);
    let mask = py.detach(|| windows::rank_window_mask(scores, start..stop, exclude, threads))?;
    shaped(py, mask, scores.rows, scores.columns)
}

#[pyfunction]
#[pyo3(signature = (scores, k, exclude, threads))]
fn top_ranked<'py>(
    py: Python<'py>,
    scores: PyReadonlyArray2<'py, f32>,
    k: usize,
    exclude: PyReadonlyArray2<'py, i64>,
    threads: Option<usize>,
) -> PyResult<Ids<'py>> {
    let (scores, exclude) = (matrix(&scores)?, matrix(&exclude)?);
    let ids = py.detach(|| select::top_ranked(scores, k, exclude, threads))?;
    shaped(py, ids, scores.rows, k)
}

#[pyfunction]
#[pyo3(signature = (scores, targets, exclude, threads))]
fn target_counts<'py>(
    py: Python<'py>,
    scores: PyReadonlyArray2<'py, f32>,
    targets: PyReadonlyArray1<'py, i64>,
    exclude: PyReadonlyArray2<'py, i64>,
    threads: Option<usize>,
) -> PyResult<(Ids<'py>, Ids<'py>)> {
    let (scores, targets, exclude) = (matrix(&scores)?, targets.as_slice()?, matrix(&exclude)?);
    let counts = py.detach(|| ranks::target_counts(scores, targets, exclude, threads))?;
    Ok(split(py, &counts, 1))
}

#[pyfunction]
#[pyo3(signature = (views, weights, targets, exclude, threads))]
fn fused_target_counts<'py>(
    py: Python<'py>,
    views: Vec<PyReadonlyArray2<'py, f32>>,
    weights: PyReadonlyArray1<'py, f32>,
    targets: PyReadonlyArray1<'py, i64>,
    exclude: PyReadonlyArray2<'py, i64>,
    threads: Option<usize>,
) -> PyResult<(Ids<'py>, Ids<'py>)> {
    let views = views.iter().map(matrix).collect::<PyResult<Vec<_>>>()?;
    let (weights, targets, exclude) = (weights.as_slice()?, targets.as_slice()?, matrix(&exclude)?);
    let counts = py.detach(|| ranks::fused_target_counts(&views, weights, targets, exclude, threads))?;
    Ok(split(py, &counts, views.len() + 1))
}

#[pyfunction]
#[pyo3(signature = (draw, population, threads))]
fn window_positions<'py>(
    py: Python<'py>,
    draw: DrawArgs<'py>,
    population: usize,
    threads: Option<usize>,
) -> PyResult<Ids<'py>> {
    let draw = self::draw(&draw)?;
    let positions = py.detach(|| draws::window_positions(&draw, population, threads))?;
    shaped(py, positions, draw.rows.len(), draw.count)
}

#[pyfunction]
#[pyo3(signature = (draw, num_items, threads))]
fn uniform_items<'py>(
    py: Python<'py>,
    draw: DrawArgs<'py>,
    num_items: u64,
    threads: Option<usize>,
) -> PyResult<Ids<'py>> {
    let draw = self::draw(&draw)?;
    let ids = py.detach(|| draws::uniform_items(&draw, num_items, threads))?;
    shaped(py, ids, draw.rows.len(), draw.count)
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(rank_window, m)?)?;
    m.add_function(wrap_pyfunction!(rank_window_mask, m)?)?;
    m.add_function(wrap_pyfunction!(top_ranked, m)?)?;
    m.add_function(wrap_pyfunction!(target_counts, m)?)?;
    m.add_function(wrap_pyfunction!(fused_target_counts, m)?)?;
    m.add_function(wrap_pyfunction!(window_positions, m)?)?;
    m.add_function(wrap_pyfunction!(uniform_items, m)?)
}
