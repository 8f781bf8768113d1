//! The functions behind `alterrec.ranking`, where every argument is documented.

use crate::cuts::{self, BINS, Cuts};
use crate::draws::{self, Draw};
use crate::instructions::{self, Instructions};
use crate::losses::{self, Candidates, Supervision};
use crate::matrix::Matrix;
use crate::mixture_losses::{self, Mixtures};
use crate::mixtures;
use crate::random;
use crate::ranks::{self, Counts, ExcludedTarget};
use crate::repeats::{self, Repeats};
use crate::select;
use crate::windows;
use numpy::{
    Element, IntoPyArray, PyArray1, PyArray2, PyReadonlyArray1, PyReadonlyArray2, PyReadwriteArray2,
};
use numpy::{PyUntypedArrayMethods, ndarray};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

type Ids<'py> = Bound<'py, PyArray2<i64>>;
/// Size of the draw, seed, and number of each row.
type DrawArgs<'py> = (usize, u64, PyReadonlyArray1<'py, u64>);

fn matrix<'a, T: Element>(array: &'a PyReadonlyArray2<'_, T>) -> PyResult<Matrix<'a, T>> {
    Ok(Matrix::new(array.as_slice()?, array.shape()[0], array.shape()[1])?)
}

fn draw<'a>((count, seed, rows): &'a DrawArgs<'_>) -> PyResult<Draw<'a>> {
    Ok(Draw { count: *count, seed: *seed, rows: rows.as_slice()? })
}

/// Checks the shape of an output array and returns its values.
fn filled<'a, T: Element>(
    out: &'a mut PyReadwriteArray2<'_, T>,
    rows: usize,
    width: usize,
) -> PyResult<&'a mut [T]> {
    if out.shape() != [rows, width] {
        let found = out.shape();
        return Err(PyValueError::new_err(format!("out has shape {found:?}; expected [{rows}, {width}]")));
    }
    Ok(out.as_slice_mut()?)
}

fn excluded_target(missed: bool) -> ExcludedTarget {
    if missed { ExcludedTarget::Missed } else { ExcludedTarget::Ranked }
}

/// Arrays `greater` and `tied` of one or more views.
fn split<'py>(py: Python<'py>, counts: &[Counts], width: usize) -> (Ids<'py>, Ids<'py>) {
    let rows = counts.len() / width;
    let part = |which| {
        let of = |(view, row): (usize, usize)| counts[row * width + view][which];
        ndarray::Array2::from_shape_fn((width, rows), of).into_pyarray(py)
    };
    (part(0), part(1))
}

#[pyfunction]
#[pyo3(signature = (scores, start, stop, exclude, draw, threads, out))]
#[expect(clippy::too_many_arguments, reason = "the arguments of the function in Python")]
fn rank_window(
    py: Python<'_>,
    scores: PyReadonlyArray2<'_, f32>,
    start: usize,
    stop: usize,
    exclude: PyReadonlyArray2<'_, i64>,
    draw: Option<DrawArgs<'_>>,
    threads: Option<usize>,
    mut out: PyReadwriteArray2<'_, i64>,
) -> PyResult<()> {
    let (scores, exclude) = (matrix(&scores)?, matrix(&exclude)?);
    let draw = draw.as_ref().map(self::draw).transpose()?;
    let width = windows::width(&(start..stop), draw.as_ref());
    let ids = filled(&mut out, scores.rows, width)?;
    Ok(py.detach(|| windows::rank_window(scores, start..stop, exclude, draw.as_ref(), threads, ids))?)
}

#[pyfunction]
#[pyo3(signature = (scores, start, stop, exclude, threads, out))]
fn rank_window_mask(
    py: Python<'_>,
    scores: PyReadonlyArray2<'_, f32>,
    start: usize,
    stop: usize,
    exclude: PyReadonlyArray2<'_, i64>,
    threads: Option<usize>,
    mut out: PyReadwriteArray2<'_, bool>,
) -> PyResult<()> {
    let (scores, exclude) = (matrix(&scores)?, matrix(&exclude)?);
    let mask = filled(&mut out, scores.rows, scores.columns)?;
    Ok(py.detach(|| windows::rank_window_mask(scores, start..stop, exclude, threads, mask))?)
}

/// Write the bits of the window of each row to `out`.
#[pyfunction]
#[pyo3(signature = (scores, start, stop, exclude, threads, out))]
fn rank_window_bits(
    py: Python<'_>,
    scores: PyReadonlyArray2<'_, f32>,
    start: usize,
    stop: usize,
    exclude: PyReadonlyArray2<'_, i64>,
    threads: Option<usize>,
    mut out: PyReadwriteArray2<'_, u8>,
) -> PyResult<()> {
    let (scores, exclude) = (matrix(&scores)?, matrix(&exclude)?);
    let bits = filled(&mut out, scores.rows, scores.columns.div_ceil(8))?;
    Ok(py.detach(|| windows::rank_window_bits(scores, start..stop, exclude, threads, bits))?)
}

#[pyfunction]
#[pyo3(signature = (scores, prefixes, known, exclude, threads, out))]
fn key_counts(
    py: Python<'_>,
    scores: PyReadonlyArray2<'_, f32>,
    prefixes: PyReadonlyArray2<'_, i64>,
    known: u32,
    exclude: PyReadonlyArray2<'_, i64>,
    threads: Option<usize>,
    mut out: PyReadwriteArray2<'_, i64>,
) -> PyResult<()> {
    let (scores, prefixes, exclude) = (matrix(&scores)?, matrix(&prefixes)?, matrix(&exclude)?);
    let counts = filled(&mut out, scores.rows, prefixes.columns * BINS)?;
    Ok(py.detach(|| cuts::key_counts(scores, prefixes, known, exclude, threads, counts))?)
}

/// Keys, taken ties and ties of two cuts of each row.
type CutArgs<'py> = (PyReadonlyArray2<'py, i64>, PyReadonlyArray2<'py, i64>, PyReadonlyArray2<'py, i64>);

fn cuts_of<'a>((keys, taken, ties): &'a CutArgs<'_>) -> PyResult<Cuts<'a>> {
    Ok(Cuts { keys: matrix(keys)?, taken: matrix(taken)?, ties: matrix(ties)? })
}

#[pyfunction]
#[pyo3(signature = (scores, cuts, exclude, threads, out))]
fn cut_window_bits(
    py: Python<'_>,
    scores: PyReadonlyArray2<'_, f32>,
    cuts: CutArgs<'_>,
    exclude: PyReadonlyArray2<'_, i64>,
    threads: Option<usize>,
    mut out: PyReadwriteArray2<'_, u8>,
) -> PyResult<()> {
    let (scores, cuts, exclude) = (matrix(&scores)?, cuts_of(&cuts)?, matrix(&exclude)?);
    let bits = filled(&mut out, scores.rows, scores.columns.div_ceil(8))?;
    Ok(py.detach(|| cuts::window_bits(scores, &cuts, exclude, threads, bits))?)
}

#[pyfunction]
#[pyo3(signature = (scores, cuts, exclude, places, threads, out))]
fn cut_window_members(
    py: Python<'_>,
    scores: PyReadonlyArray2<'_, f32>,
    cuts: CutArgs<'_>,
    exclude: PyReadonlyArray2<'_, i64>,
    places: PyReadonlyArray2<'_, i64>,
    threads: Option<usize>,
    mut out: PyReadwriteArray2<'_, i64>,
) -> PyResult<()> {
    let (scores, cuts, exclude) = (matrix(&scores)?, cuts_of(&cuts)?, matrix(&exclude)?);
    let places = matrix(&places)?;
    let ids = filled(&mut out, scores.rows, places.columns)?;
    Ok(py.detach(|| cuts::window_members(scores, &cuts, exclude, places, threads, ids))?)
}

/// Overwrite the scores with the gradient and return each row's loss; candidates: None, int64 ids or uint8
/// bits.
#[pyfunction]
#[pyo3(signature = (scores, positives, weights, candidates, exclude, each, factor, threads))]
#[expect(clippy::too_many_arguments, reason = "the arguments of the function in Python")]
fn cross_entropy<'py>(
    py: Python<'py>,
    mut scores: PyReadwriteArray2<'py, f32>,
    positives: PyReadonlyArray2<'py, i64>,
    weights: PyReadonlyArray1<'py, f32>,
    candidates: Option<Negatives<'py>>,
    exclude: PyReadonlyArray2<'py, i64>,
    each: f32,
    factor: f32,
    threads: Option<usize>,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let candidates = match &candidates {
        None => Candidates::All,
        Some(Negatives::Ids(ids)) => Candidates::Ids(matrix(ids)?),
        Some(Negatives::Bits(bits)) => Candidates::Marked(matrix(bits)?),
    };
    let (positives, weights, exclude) = (matrix(&positives)?, weights.as_slice()?, matrix(&exclude)?);
    let supervision = Supervision { positives, weights, candidates, exclude, each };
    let (mut losses, columns) = (vec![0.0; scores.shape()[0]], scores.shape()[1]);
    let scores = scores.as_slice_mut()?;
    py.detach(|| losses::cross_entropy(scores, columns, &supervision, factor, threads, &mut losses))?;
    Ok(losses.into_pyarray(py))
}

#[derive(FromPyObject)]
enum Negatives<'py> {
    Ids(PyReadonlyArray2<'py, i64>),
    Bits(PyReadonlyArray2<'py, u8>),
}

/// Overwrite the scores with their softmax and return the logsumexp of each row.
#[pyfunction]
#[pyo3(signature = (scores, exclude, candidates, threads))]
fn softmax<'py>(
    py: Python<'py>,
    mut scores: PyReadwriteArray2<'py, f32>,
    exclude: PyReadonlyArray2<'py, i64>,
    candidates: Option<PyReadonlyArray2<'py, u8>>,
    threads: Option<usize>,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let (exclude, candidates) = (matrix(&exclude)?, candidates.as_ref().map(matrix).transpose()?);
    let (mut log_sums, columns) = (vec![0.0; scores.shape()[0]], scores.shape()[1]);
    let scores = scores.as_slice_mut()?;
    py.detach(|| mixtures::softmax(scores, columns, exclude, candidates, threads, &mut log_sums))?;
    Ok(log_sums.into_pyarray(py))
}

/// Losses of samples, shares of their entries and shares of rows of scores.
type Shares<'py> = (Bound<'py, PyArray1<f64>>, Bound<'py, PyArray1<f64>>, Bound<'py, PyArray1<f64>>);

/// Overwrite the scores with the gradient of a row divided by its share; return losses and shares.
#[pyfunction]
#[pyo3(signature = (scores, rows, log_weights, positives, weights, exclude, candidates, factor, threads))]
#[expect(clippy::too_many_arguments, reason = "the arguments of the function in Python")]
fn mixture_cross_entropy<'py>(
    py: Python<'py>,
    mut scores: PyReadwriteArray2<'py, f32>,
    rows: PyReadonlyArray2<'py, i64>,
    log_weights: PyReadonlyArray2<'py, f32>,
    positives: PyReadonlyArray2<'py, i64>,
    weights: PyReadonlyArray1<'py, f32>,
    exclude: PyReadonlyArray2<'py, i64>,
    candidates: Option<PyReadonlyArray2<'py, u8>>,
    factor: f64,
    threads: Option<usize>,
) -> PyResult<Shares<'py>> {
    let mixtures = Mixtures {
        rows: matrix(&rows)?,
        log_weights: matrix(&log_weights)?,
        positives: matrix(&positives)?,
        weights: weights.as_slice()?,
        exclude: matrix(&exclude)?,
        candidates: candidates.as_ref().map(matrix).transpose()?,
    };
    let size = (scores.shape()[0], scores.shape()[1]);
    let scores = scores.as_slice_mut()?;
    let found =
        py.detach(|| mixture_losses::mixture_cross_entropy(scores, size, &mixtures, factor, threads))?;
    let [losses, shares, row_shares] =
        [found.losses, found.shares, found.row_shares].map(|values| values.into_pyarray(py));
    Ok((losses, shares, row_shares))
}

/// Set the bit of items[k] in row rows[k].
#[pyfunction]
#[pyo3(signature = (bits, rows, items))]
fn mark(
    py: Python<'_>,
    mut bits: PyReadwriteArray2<'_, u8>,
    rows: PyReadonlyArray1<'_, i64>,
    items: PyReadonlyArray1<'_, i64>,
) -> PyResult<()> {
    let (rows, items, columns) = (rows.as_slice()?, items.as_slice()?, bits.shape()[1]);
    let bits = bits.as_slice_mut()?;
    Ok(py.detach(|| mixtures::mark(bits, columns, rows, items))?)
}

#[pyfunction]
#[pyo3(signature = (probabilities, rows, weights, threads, out))]
fn mixture_scores(
    py: Python<'_>,
    probabilities: PyReadonlyArray2<'_, f32>,
    rows: PyReadonlyArray2<'_, i64>,
    weights: PyReadonlyArray2<'_, f32>,
    threads: Option<usize>,
    mut out: PyReadwriteArray2<'_, f32>,
) -> PyResult<()> {
    let (probabilities, rows, weights) = (matrix(&probabilities)?, matrix(&rows)?, matrix(&weights)?);
    let scores = filled(&mut out, rows.rows, probabilities.columns)?;
    Ok(py.detach(|| mixtures::mixture_scores(probabilities, rows, weights, threads, scores))?)
}

#[pyfunction]
#[pyo3(signature = (scores, k, exclude, threads, out))]
fn top_ranked(
    py: Python<'_>,
    scores: PyReadonlyArray2<'_, f32>,
    k: usize,
    exclude: PyReadonlyArray2<'_, i64>,
    threads: Option<usize>,
    mut out: PyReadwriteArray2<'_, i64>,
) -> PyResult<()> {
    let (scores, exclude) = (matrix(&scores)?, matrix(&exclude)?);
    let ids = filled(&mut out, scores.rows, k)?;
    Ok(py.detach(|| select::top_ranked(scores, k, exclude, threads, ids))?)
}

#[pyfunction]
#[pyo3(signature = (scores, targets, exclude, missed, threads))]
fn target_counts<'py>(
    py: Python<'py>,
    scores: PyReadonlyArray2<'py, f32>,
    targets: PyReadonlyArray1<'py, i64>,
    exclude: PyReadonlyArray2<'py, i64>,
    missed: bool,
    threads: Option<usize>,
) -> PyResult<(Ids<'py>, Ids<'py>)> {
    let (scores, targets, exclude) = (matrix(&scores)?, targets.as_slice()?, matrix(&exclude)?);
    let rule = excluded_target(missed);
    let counts = py.detach(|| ranks::target_counts(scores, targets, exclude, rule, threads))?;
    Ok(split(py, &counts, 1))
}

#[pyfunction]
#[pyo3(signature = (views, weights, targets, exclude, missed, threads))]
fn fused_target_counts<'py>(
    py: Python<'py>,
    views: Vec<PyReadonlyArray2<'py, f32>>,
    weights: PyReadonlyArray1<'py, f32>,
    targets: PyReadonlyArray1<'py, i64>,
    exclude: PyReadonlyArray2<'py, i64>,
    missed: bool,
    threads: Option<usize>,
) -> PyResult<(Ids<'py>, Ids<'py>)> {
    let views = views.iter().map(matrix).collect::<PyResult<Vec<_>>>()?;
    let (weights, targets, exclude) = (weights.as_slice()?, targets.as_slice()?, matrix(&exclude)?);
    let rule = excluded_target(missed);
    let counts =
        py.detach(|| ranks::fused_target_counts(&views, weights, targets, exclude, rule, threads))?;
    Ok(split(py, &counts, views.len() + 1))
}

#[pyfunction]
#[pyo3(signature = (views, weights, targets, seen, log_odds, temperatures, threads))]
#[expect(clippy::too_many_arguments, reason = "the arguments of the function in Python")]
fn seen_target_counts<'py>(
    py: Python<'py>,
    views: Vec<PyReadonlyArray2<'py, f32>>,
    weights: PyReadonlyArray1<'py, f32>,
    targets: PyReadonlyArray1<'py, i64>,
    seen: PyReadonlyArray2<'py, i64>,
    log_odds: Option<Vec<PyReadonlyArray2<'py, f32>>>,
    temperatures: PyReadonlyArray1<'py, f64>,
    threads: Option<usize>,
) -> PyResult<(Ids<'py>, Ids<'py>)> {
    let views = views.iter().map(matrix).collect::<PyResult<Vec<_>>>()?;
    let (weights, targets, seen) = (weights.as_slice()?, targets.as_slice()?, matrix(&seen)?);
    let odds = log_odds.as_deref().map(|odds| odds.iter().map(matrix).collect::<PyResult<Vec<_>>>());
    let (odds, temperatures) = (odds.transpose()?, temperatures.as_slice()?);
    let repeats = odds.as_ref().map(|log_odds| Repeats { log_odds, temperatures });
    let counts =
        py.detach(|| ranks::seen_target_counts(&views, weights, targets, seen, repeats.as_ref(), threads))?;
    Ok(split(py, &counts, (views.len() + 1) * if repeats.is_some() { 3 } else { 2 }))
}

#[pyfunction]
#[pyo3(signature = (scores, seen, log_odds, temperature, threads))]
fn repeat_scores<'py>(
    py: Python<'py>,
    scores: PyReadonlyArray2<'py, f32>,
    seen: PyReadonlyArray2<'py, i64>,
    log_odds: PyReadonlyArray2<'py, f32>,
    temperature: f64,
    threads: Option<usize>,
) -> PyResult<Bound<'py, PyArray1<f32>>> {
    let (scores, seen, log_odds) = (matrix(&scores)?, matrix(&seen)?, matrix(&log_odds)?);
    let values = py.detach(|| repeats::repeat_scores(scores, seen, log_odds, temperature, threads))?;
    Ok(values.into_pyarray(py))
}

#[pyfunction]
#[pyo3(signature = (scores, seen, temperatures, threads))]
fn log_normaliser<'py>(
    py: Python<'py>,
    scores: PyReadonlyArray2<'py, f32>,
    seen: PyReadonlyArray2<'py, i64>,
    temperatures: PyReadonlyArray1<'py, f64>,
    threads: Option<usize>,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let (scores, seen, temperatures) = (matrix(&scores)?, matrix(&seen)?, temperatures.as_slice()?);
    let values = py.detach(|| repeats::log_normaliser(scores, seen, temperatures, threads))?;
    Ok(values.into_pyarray(py))
}

#[pyfunction]
#[pyo3(signature = (draw, population, threads, out))]
fn window_positions(
    py: Python<'_>,
    draw: DrawArgs<'_>,
    population: usize,
    threads: Option<usize>,
    mut out: PyReadwriteArray2<'_, i64>,
) -> PyResult<()> {
    let draw = self::draw(&draw)?;
    let positions = filled(&mut out, draw.rows.len(), draw.count)?;
    Ok(py.detach(|| draws::window_positions(&draw, population, threads, positions))?)
}

#[pyfunction]
#[pyo3(signature = (draw, num_items, threads, out))]
fn uniform_items(
    py: Python<'_>,
    draw: DrawArgs<'_>,
    num_items: u64,
    threads: Option<usize>,
    mut out: PyReadwriteArray2<'_, i64>,
) -> PyResult<()> {
    let draw = self::draw(&draw)?;
    let ids = filled(&mut out, draw.rows.len(), draw.count)?;
    Ok(py.detach(|| draws::uniform_items(&draw, num_items, threads, ids))?)
}

/// Fill each row of out with the random words of (seed, number, place).
#[pyfunction]
#[pyo3(signature = (seed, numbers, places, threads, out))]
fn random_words(
    py: Python<'_>,
    seed: u64,
    numbers: PyReadonlyArray1<'_, i64>,
    places: PyReadonlyArray1<'_, i64>,
    threads: Option<usize>,
    mut out: PyReadwriteArray2<'_, u64>,
) -> PyResult<()> {
    let (numbers, places, width) = (numbers.as_slice()?, places.as_slice()?, out.shape()[1]);
    let words = filled(&mut out, numbers.len(), width)?;
    Ok(py.detach(|| random::random_words(seed, numbers, places, width, threads, words))?)
}

/// Return the names of the instruction sets of this processor, best first.
#[pyfunction]
fn instruction_sets() -> Vec<String> {
    Instructions::available().iter().map(ToString::to_string).collect()
}

/// Run all kernels on the named set from now on; None means the best one. For tests and benchmarks.
#[pyfunction]
#[pyo3(signature = (name))]
fn use_instructions(name: Option<&str>) -> PyResult<()> {
    let named = |name| {
        let set = Instructions::available().into_iter().find(|set| set.to_string() == name);
        set.ok_or_else(|| {
            let allowed = instruction_sets().join(", ");
            PyValueError::new_err(format!("name is {name:?}; expected one of this processor: {allowed}"))
        })
    };
    Ok(instructions::use_only(name.map(named).transpose()?)?)
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(rank_window, m)?)?;
    m.add_function(wrap_pyfunction!(rank_window_mask, m)?)?;
    m.add_function(wrap_pyfunction!(rank_window_bits, m)?)?;
    m.add_function(wrap_pyfunction!(key_counts, m)?)?;
    m.add_function(wrap_pyfunction!(cut_window_bits, m)?)?;
    m.add_function(wrap_pyfunction!(cut_window_members, m)?)?;
    m.add_function(wrap_pyfunction!(cross_entropy, m)?)?;
    m.add_function(wrap_pyfunction!(softmax, m)?)?;
    m.add_function(wrap_pyfunction!(mixture_cross_entropy, m)?)?;
    m.add_function(wrap_pyfunction!(mark, m)?)?;
    m.add_function(wrap_pyfunction!(mixture_scores, m)?)?;
    m.add_function(wrap_pyfunction!(top_ranked, m)?)?;
    m.add_function(wrap_pyfunction!(target_counts, m)?)?;
    m.add_function(wrap_pyfunction!(fused_target_counts, m)?)?;
    m.add_function(wrap_pyfunction!(seen_target_counts, m)?)?;
    m.add_function(wrap_pyfunction!(repeat_scores, m)?)?;
    m.add_function(wrap_pyfunction!(log_normaliser, m)?)?;
    m.add_function(wrap_pyfunction!(window_positions, m)?)?;
    m.add_function(wrap_pyfunction!(uniform_items, m)?)?;
    m.add_function(wrap_pyfunction!(random_words, m)?)?;
    m.add_function(wrap_pyfunction!(instruction_sets, m)?)?;
    m.add_function(wrap_pyfunction!(use_instructions, m)?)
}
