"""Softmaxes of score rows and mixtures of them; `alterrec.ranking` exports these functions.

Shapes: Q rows of scores (queries), V items, E excluded ids per row, N mixtures of up to J rows each.
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import numpy as np

from alterrec import _core
from alterrec._ranking_arguments import (
    ArrayT,
    Ids,
    as_array,
    as_float32,
    check_real,
    checks,
    default_threads,
    excluded_ids,
    is_tensor,
    like,
    loss_weights,
    matrix_shape,
    number,
    on_device,
    overwritable,
    overwritten_in_torch,
    tensor_or_float32,
    tensor_or_integers,
    thread_count,
    writeable,
)


def softmax_(
    scores: ArrayT,
    *,
    exclude: Ids | None = None,
    candidates: ArrayT | None = None,
    threads: int | None = None,
) -> ArrayT:
    """Overwrite each row of scores with its softmax over the candidates; return their logsumexp.

    The score of candidate i becomes ``exp(score[i] - log_sum)``, and that of any other item 0. A probability
    below 2**-100 may become 0. A row in which no candidate scores above -inf becomes 0, and its logsumexp
    is -inf. A row in which a candidate scores NaN or +inf becomes NaN; neither is an error here.

    Args:
        scores: (Q, V) matrix of scores, overwritten: float32 in C order, or any floating-point tensor.
        exclude: (Q,) or (Q, E) integer ids that are not candidates; -1 is padding, and duplicates are fine.
            Default: no item is excluded.
        candidates: bits (Q, ceil(V / 8)), uint8, as returned by :func:`rank_window_bits`. Default: the whole
            catalogue.
        threads: number of threads for this call. Default: the number given to :func:`set_threads`.

    Returns:
        The logsumexp (Q,), float64, of the scores of the candidates.

    Raises:
        ValueError: for scores that cannot be overwritten, a wrong shape, or an id outside the catalogue.

    Example:
        >>> scores = np.array([[2.0, 9.0, 2.0]], dtype=np.float32)
        >>> softmax_(scores, exclude=[1]).round(4)  # 2 + log(2)
        array([2.6931])
        >>> scores
        array([[0.5, 0. , 0.5]], dtype=float32)
    """
    num_rows, num_items = matrix_shape("scores", scores)
    count = default_threads() if threads is None else thread_count(threads)
    marks = None if candidates is None else _bits(candidates, num_rows, num_items)
    if overwritten_in_torch(scores):
        left_out = None if exclude is None else excluded_ids(exclude, num_rows, on_device(scores))
        return cast(ArrayT, _in_torch("softmax_", cast(Any, scores).detach(), left_out, marks, checks.get()))
    matrix = overwritable("scores", scores)
    log_sums = _core.softmax(matrix, excluded_ids(exclude, num_rows, False), _host_bits(marks), count)
    return like(scores, log_sums)


def _host_bits(marks: Any) -> Any:
    if marks is None:
        return None
    return np.require(marks.numpy() if is_tensor(marks) else marks, np.uint8, ["C", "A"])


def _bits(candidates: Any, num_rows: int, num_items: int) -> Any:
    bits = candidates if is_tensor(candidates) else as_array("candidates", candidates)
    if is_tensor(bits):
        check_real("candidates", bits)
    if str(bits.dtype).removeprefix("torch.") != "uint8":
        raise ValueError(
            f"candidates has dtype {bits.dtype}; expected uint8, bits as rank_window_bits returns them"
        )
    expected = (num_rows, -(-num_items // 8))
    if tuple(bits.shape) != expected:
        raise ValueError(
            f"candidates has shape {tuple(bits.shape)}; expected {expected}, one row of bits for each row of "
            f"scores and one bit for each of the {num_items} items"
        )
    return bits


def mark_(bits: ArrayT, rows: Ids, items: Ids) -> None:
    """Set the bit of item ``items[k]`` in row ``rows[k]`` for every k.

    With bits of 0 at first, this turns lists of ids into the ``candidates`` of :func:`softmax_`.

    Args:
        bits: (Q, ceil(V / 8)) matrix, uint8, overwritten, in the format of :func:`rank_window_bits`.
        rows: integers of any shape: rows of ``bits``.
        items: integer item ids in the same shape. Entries with -1 in ``rows`` or ``items`` are skipped, and
            duplicates are fine.

    Raises:
        ValueError: for bits that cannot be overwritten, different shapes, or a row or item outside ``bits``.

    Example:
        >>> bits = np.zeros((2, 1), dtype=np.uint8)
        >>> mark_(bits, [0, 1, 1], [5, 0, -1])
        >>> bits
        array([[32],
               [ 1]], dtype=uint8)
    """
    shape = tuple(tensor_or_integers("bits", bits, True).shape)
    if len(shape) != 2:
        raise ValueError(f"bits has shape {shape}; expected (Q, ceil(V / 8)), one row of bits each")
    device = on_device(bits)
    places = tensor_or_integers("rows", rows, device)
    ids = tensor_or_integers("items", items, device)
    if tuple(places.shape) != tuple(ids.shape):
        raise ValueError(
            f"rows has shape {tuple(places.shape)} and items {tuple(ids.shape)}; give one row for each item"
        )
    if device:
        _in_torch("mark_", bits, places, ids, checks.get())
        return
    matrix = overwritable("bits", bits, np.uint8)
    places, ids = (np.require(each, np.int64, ["C", "A"]).ravel() for each in (places, ids))
    _core.mark(matrix, places, ids)


def mixture_cross_entropy_(
    scores: ArrayT,
    rows: Ids,
    log_weights: Any,
    positives: Ids,
    weights: Any,
    *,
    exclude: Ids | None = None,
    candidates: ArrayT | None = None,
    factor: float = 1.0,
    threads: int | None = None,
) -> tuple[ArrayT, ArrayT, ArrayT]:
    """Compute the cross-entropy of positives under mixtures of softmaxes; overwrite the scores.

    Let ``p_q`` be the softmax of row q over its candidates, as in :func:`softmax_`. Sample n mixes the rows
    ``q_j = rows[n, j]`` with the weights ``w_j = exp(log_weights[n, j])`` and gives item i the probability
    ``p(i) = sum_j w_j p_q_j(i)``. Its loss is ``-sum_t weights[t] * log p(t)`` over its positives t. The
    responsibility of entry j for a positive is ``factor * weights[t] * w_j p_q_j(t) / p(t)``, and the share
    of a row is the sum of the responsibilities of all entries that name it.

    Row q becomes ``p_q`` minus, at each positive of its samples, the responsibility divided by the share of
    the row. So the gradient of ``factor * sum(losses)`` over the scores of row q is its share times what it
    becomes (the identity behind the EM algorithm), and the gradient over ``log_weights`` is ``-shares``. A
    row whose share is 0, such as one that no sample names, becomes its softmax.

    Args:
        scores: (Q, V) matrix of scores, overwritten: float32 in C order, or any floating-point tensor.
        rows: (N, J) integers: the rows of ``scores`` that each sample mixes; -1 is padding, and duplicates
            are fine.
        log_weights: (N, J) logarithms of their weights. Those of padding are not read.
        positives: (N, P) integer item ids.
        weights: (P,) weight of each column of ``positives``.
        exclude: (Q,) or (Q, E) ids that are no candidates of a row, as in :func:`softmax_`. A positive that
            is excluded by all rows of its sample has the probability 0: the loss is infinite and the shares
            are NaN.
        candidates: bits (Q, ceil(V / 8)), as in :func:`softmax_`, to which the positives of the samples that
            name a row are added. Default: the whole catalogue.
        factor: factor of the responsibilities, e.g. 1 / N for the mean of the losses.
        threads: number of threads for this call. Default: the number given to :func:`set_threads`.

    Returns:
        Losses (N,); responsibilities (N, J), added over the positives and 0 at padding; and shares of the
        rows (Q,). All are float64.

    Raises:
        ValueError: for scores that cannot be overwritten, a wrong shape, an id outside the catalogue, or a
            number in ``rows`` that is no row of ``scores``. NaN is not an error: it makes the loss NaN.

    Example:
        Two rows with the softmaxes (1/4, 3/4) and (1/2, 1/2), mixed in equal parts, give item 1 the
        probability 5/8:

        >>> scores = np.log(np.array([[1.0, 3.0], [1.0, 1.0]], dtype=np.float32))
        >>> halves = np.log([[0.5, 0.5]])
        >>> losses, shares, row_shares = mixture_cross_entropy_(scores, [[0, 1]], halves, [[1]], [1.0])
        >>> np.exp(-losses).round(4), shares.round(4), row_shares.round(4)
        (array([0.625]), array([[0.6, 0.4]]), array([0.6, 0.4]))
        >>> scores.round(4)
        array([[ 0.25, -0.25],
               [ 0.5 , -0.5 ]], dtype=float32)
    """
    num_rows, num_items = matrix_shape("scores", scores)
    count = default_threads() if threads is None else thread_count(threads)
    marks = None if candidates is None else _bits(candidates, num_rows, num_items)
    in_torch = overwritten_in_torch(scores)
    factor = number("factor", factor)
    numbers, logs = _mixed("log_weights", rows, log_weights, in_torch)
    ids = tensor_or_integers("positives", positives, in_torch)
    factors = loss_weights(weights, in_torch)
    expected = len(numbers), int(np.prod(factors.shape))
    if tuple(ids.shape) != expected or len(factors.shape) != 1:
        raise ValueError(
            f"positives has shape {tuple(ids.shape)} and weights {tuple(factors.shape)}; expected (N, P) and "
            f"(P,) for the N = {len(numbers)} rows of rows"
        )
    if in_torch:
        left_out = None if exclude is None else excluded_ids(exclude, num_rows, True)
        run = partial(_in_torch, "mixture_cross_entropy_", cast(Any, scores).detach())
        found = run(numbers, logs, ids, factors, left_out, marks, factor, checks.get())
        return cast("tuple[ArrayT, ArrayT, ArrayT]", found)
    losses, shares, row_shares = _core.mixture_cross_entropy(
        overwritable("scores", scores),
        np.require(numbers, np.int64, ["C", "A"]),
        logs,
        np.require(ids, np.int64, ["C", "A"]),
        factors,
        excluded_ids(exclude, num_rows, False),
        _host_bits(marks),
        factor,
        count,
    )
    return like(scores, losses), like(scores, shares.reshape(numbers.shape)), like(scores, row_shares)


def _mixed(name: str, rows: Any, weights: Any, keep_tensors: bool) -> tuple[Any, Any]:
    """Return the rows that are mixed, integers (N, J), and their weights in the same shape."""
    numbers = tensor_or_integers("rows", rows, keep_tensors)
    if numbers.ndim != 2:
        raise ValueError(f"rows has shape {tuple(numbers.shape)}; expected (N, J), numbers for each mixture")
    factors = tensor_or_float32(name, weights, keep_tensors)
    if tuple(factors.shape) != tuple(numbers.shape):
        raise ValueError(
            f"{name} has shape {tuple(factors.shape)} and rows {tuple(numbers.shape)}; give one weight for "
            "each entry of rows"
        )
    return numbers, factors


def mixture_scores(
    probabilities: ArrayT,
    rows: Ids,
    weights: Any,
    *,
    out: ArrayT | None = None,
    threads: int | None = None,
) -> ArrayT:
    """Return the logarithms of weighted sums of rows of probabilities.

    The score of item i in mixture n is ``log(sum_j weights[n, j] * probabilities[rows[n, j], i])``. With rows
    from :func:`softmax_` and weights that add up to 1 in each mixture, this is the log probability of the
    item under a mixture of softmaxes (Yang et al., ICLR 2018). A sum below the smallest normal float32
    number, about 1.2e-38, is replaced by that number. So all scores are finite, and an item without any
    probability has the score -87.34. NaN among the probabilities stays NaN.

    Args:
        probabilities: (Q, V) matrix, one row for each query.
        rows: (N, J) integers: the rows of ``probabilities`` that are mixed; -1 is padding, and duplicates are
            fine.
        weights: (N, J) numbers that are finite and not negative, rounded to float32. Those of padding are not
            read.
        out: (N, V) float32 matrix in C order that takes the scores, an array or a tensor like
            ``probabilities``. Default: a new one.
        threads: number of threads for this call. Default: the number given to :func:`set_threads`.

    Returns:
        Scores (N, V), float32; ``out`` if it was given.

    Raises:
        ValueError: for a wrong shape or dtype, a number in ``rows`` that is no row of ``probabilities``, or a
            weight that is negative, infinite or NaN.

    Example:
        >>> probabilities = np.array([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]], dtype=np.float32)
        >>> scores = mixture_scores(probabilities, [[0, 1], [1, -1]], [[0.5, 0.5], [1.0, 0.0]])
        >>> np.exp(scores).round(4)
        array([[0.25, 0.5 , 0.25],
               [0.  , 0.5 , 0.5 ]], dtype=float32)
    """
    _, num_items = matrix_shape("probabilities", probabilities)
    device = on_device(probabilities)
    numbers, factors = _mixed("weights", rows, weights, device)
    count = default_threads() if threads is None else thread_count(threads)
    shape = (len(numbers), num_items)
    if out is not None and tuple(getattr(out, "shape", ())) != shape:
        found = tuple(getattr(out, "shape", ()))
        raise ValueError(f"out has shape {found}; expected {shape}, one row for each mixture")
    if device:
        return cast(ArrayT, _in_torch("mixture_scores", probabilities, numbers, factors, out))
    matrix = as_float32("probabilities", probabilities)
    scores = np.empty(shape, np.float32) if out is None else overwritable("out", out)
    if np.may_share_memory(scores, matrix):
        raise ValueError("out shares memory with probabilities; pass an array of its own")
    _core.mixture_scores(matrix, np.require(numbers, np.int64, ["C", "A"]), factors, count, scores)
    return like(probabilities, scores) if out is None else out


def _in_torch(function: str, *arguments: Any) -> Any:
    from alterrec import _ranking_torch

    return getattr(_ranking_torch, function)(*map(writeable, arguments))
