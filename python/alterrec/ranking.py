"""Rank windows, top ranks, exact target counts and random draws on score matrices (numpy or torch).

Scores are matrices (B, V): one row per session, column j is item j, higher is better. Rank order is score
descending, then id ascending, as in ``np.argsort(-scores, axis=1, kind="stable")``. -0.0 equals 0.0, and
infinities are ordinary values. Rows are independent and every draw is a function of (seed, row number), so
results do not depend on the number of threads or on how rows are divided into batches.

Scores can be a numpy array or a torch tensor; the results have the same type. Float32 in C order is read
in place. Other types and layouts are rounded to float32 first, so float64 values that round to the same
float32 are ties. Finite values beyond float32, and integers above 2**24, are refused, because rounding would
merge them. Tensors on a device are processed there, with equal results. numpy input never imports
torch.

Each function takes O(V) per row, as rows are never sorted (see docs/performance.md). Kernels use the best
instruction set of the processor; results are equal on all of them.

Every function raises ValueError for a wrong shape or dtype, NaN, an id outside the catalogue, or more ranks
than there are candidates. The message names the argument, what was found and what was expected.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from alterrec import _core
from alterrec._ranking_arguments import (
    ArrayT,
    ExcludedTarget,
    Ids,
    as_array,
    as_float32,
    as_integers,
    at_most,
    check_candidates,
    check_length,
    check_range,
    checks,
    default_threads,
    draw_arguments,
    excluded_ids,
    is_missed,
    like,
    loss_weights,
    matrix_shape,
    natural,
    number,
    on_device,
    overwritable,
    overwritten_in_torch,
    rank_range,
    row_numbers,
    set_threads,
    several_target_ids,
    target_ids,
    tensor_or_integers,
    thread_count,
    view_shape,
    view_weights,
    writeable,
)
from alterrec._ranking_mixtures import mark_, mixture_cross_entropy_, mixture_scores, softmax_
from alterrec._ranking_seen import (
    SeenCounts,
    log_normaliser,
    repeat_scores,
    run_in_torch,
    seen_target_counts,
)

__all__ = [
    "SeenCounts",
    "cross_entropy_",
    "fused_target_counts",
    "log_normaliser",
    "mark_",
    "mixture_cross_entropy_",
    "mixture_scores",
    "rank_window",
    "rank_window_bits",
    "rank_window_mask",
    "repeat_scores",
    "seen_target_counts",
    "set_threads",
    "softmax_",
    "target_counts",
    "top_ranked",
    "unchecked",
    "uniform_items",
]


@contextmanager
def unchecked() -> Iterator[None]:
    """Context manager that skips the checks that would wait for a device.

    Use it in loops that must not wait, such as training steps, when the arguments are known to be valid. On
    the CPU, where the checks are part of the kernels, it has no effect.

    Example:
        >>> with unchecked():
        ...     rank_window(np.array([[0.1, 0.9]], dtype=np.float32), 0, 1)
        array([[1]])
    """
    token = checks.set(False)
    try:
        yield
    finally:
        checks.reset(token)


def rank_window(
    scores: ArrayT,
    start: int,
    stop: int,
    *,
    exclude: Ids | None = None,
    sample: int | None = None,
    seed: int = 0,
    rows: Ids | None = None,
    threads: int | None = None,
) -> ArrayT:
    """Return the items at ranks ``start`` to ``stop - 1`` of each row, among the items not excluded.

    These are the hard negatives of AlterRec (section 4.2): the paper's ``r_s[k1 : k2]``, counted from 1 with
    both ends included, is ``rank_window(scores, k1 - 1, k2, exclude=targets)``.

    Args:
        scores: (B, V) matrix of scores.
        start, stop: ranks, counted from 0, ``0 <= start <= stop``; ``stop`` is at most the number of
            candidates, i.e. items that are not excluded.
        exclude: (B,) or (B, E) integer ids that are not candidates; -1 is padding, and duplicates are fine.
            Default: no item is excluded.
        sample: number of items to draw from the window, uniformly without replacement. Default: the whole
            window is returned.
        seed: seed of ``sample``, 0 to 2**64 - 1.
        rows: (B,) integers that identify the rows for ``sample``. Default: 0 to B - 1.
        threads: number of threads for this call. Default: the number given to :func:`set_threads`.

    Returns:
        Item ids (B, stop - start), or (B, sample), int64, ascending in each row.

    Example:
        >>> scores = np.array([[0.1, 0.9, 0.5, 0.9, 0.7]], dtype=np.float32)
        >>> rank_window(scores, 1, 4)
        array([[2, 3, 4]])
        >>> rank_window(scores, 1, 4, exclude=[3])
        array([[0, 2, 4]])
        >>> rank_window(scores, 0, 4, sample=2, seed=1).shape
        (1, 2)
    """
    num_rows, num_items = matrix_shape("scores", scores)
    start, stop = rank_range(start, stop, num_items)
    excluded = excluded_ids(exclude, num_rows, on_device(scores))
    draw = None if sample is None else draw_arguments("sample", sample, seed, rows, num_rows)
    count = default_threads() if threads is None else thread_count(threads)
    width = stop - start if draw is None else at_most("sample", draw[0], stop - start, "the window", "ranks")
    ids = np.empty((num_rows, width), np.int64)
    if on_device(scores):
        if draw is not None:
            _core.window_positions(draw, stop - start, count, ids)
        positions = None if draw is None else ids
        return _window_in_torch("rank_window", scores, start, stop, excluded, positions, checks.get())
    _core.rank_window(as_float32("scores", scores), start, stop, excluded, draw, count, ids)
    return like(scores, ids)


def rank_window_mask(scores: ArrayT, start: int, stop: int, *, exclude: Ids | None = None) -> ArrayT:
    """Return for each item whether it is in the rank window.

    Args:
        scores: (B, V) matrix of scores.
        start, stop: ranks, counted from 0, as in :func:`rank_window`.
        exclude: (B,) or (B, E) integer ids that are not candidates; -1 is padding. Default: none.

    Returns:
        Mask (B, V), bool, with ``stop - start`` true values in each row.

    Example:
        >>> rank_window_mask(np.array([[0.1, 0.9, 0.5]], dtype=np.float32), 0, 2)
        array([[False,  True,  True]])
    """
    num_rows, num_items = matrix_shape("scores", scores)
    start, stop = rank_range(start, stop, num_items)
    excluded = excluded_ids(exclude, num_rows, on_device(scores))
    if on_device(scores):
        return _window_in_torch("rank_window_mask", scores, start, stop, excluded, checks.get())
    mask = np.empty((num_rows, num_items), np.bool_)
    _core.rank_window_mask(as_float32("scores", scores), start, stop, excluded, default_threads(), mask)
    return like(scores, mask)


def rank_window_bits(scores: ArrayT, start: int, stop: int, *, exclude: Ids | None = None) -> ArrayT:
    """Return :func:`rank_window_mask` as bits, in an eighth of its memory.

    Args:
        scores: (B, V) matrix of scores.
        start, stop: ranks, counted from 0, as in :func:`rank_window`.
        exclude: (B,) or (B, E) integer ids that are not candidates; -1 is padding. Default: none.

    Returns:
        Bits (B, ceil(V / 8)), uint8: bit ``i % 8`` of byte ``i // 8`` is item i; bits after the last item
        are 0.

    Example:
        >>> rank_window_bits(np.array([[0.1, 0.9, 0.5]], dtype=np.float32), 0, 2)
        array([[6]], dtype=uint8)
    """
    num_rows, num_items = matrix_shape("scores", scores)
    start, stop = rank_range(start, stop, num_items)
    excluded = excluded_ids(exclude, num_rows, on_device(scores))
    if on_device(scores):
        return _window_in_torch("rank_window_bits", scores, start, stop, excluded, checks.get())
    bits = np.empty((num_rows, -(-num_items // 8)), np.uint8)
    _core.rank_window_bits(as_float32("scores", scores), start, stop, excluded, default_threads(), bits)
    return like(scores, bits)


def top_ranked(scores: ArrayT, k: int, *, exclude: Ids | None = None) -> tuple[ArrayT, ArrayT]:
    """Return the ``k`` highest-ranked items of each row and their scores, in rank order.

    Args:
        scores: (B, V) matrix of scores.
        k: number of items, 0 to the number of candidates.
        exclude: as in :func:`rank_window`.

    Returns:
        Item ids (B, k), int64, and scores (B, k), float32.

    Example:
        >>> ids, values = top_ranked(np.array([[0.5, 0.25, 0.5]], dtype=np.float32), 2)
        >>> ids, values
        (array([[0, 2]]), array([[0.5, 0.5]], dtype=float32))
    """
    num_rows, num_items = matrix_shape("scores", scores)
    k = at_most("k", natural("k", k), num_items, "scores", "candidates (columns)")
    excluded = excluded_ids(exclude, num_rows, on_device(scores))
    if on_device(scores):
        return _window_in_torch("top_ranked", scores, k, excluded, checks.get())
    matrix = as_float32("scores", scores)
    ids = np.empty((num_rows, k), np.int64)
    _core.top_ranked(matrix, k, excluded, default_threads(), ids)
    return like(scores, ids), like(scores, np.take_along_axis(matrix, ids, axis=1))


def _window_in_torch(function: str, *arguments: Any) -> Any:
    from alterrec import _ranking_torch_windows

    return getattr(_ranking_torch_windows, function)(*map(writeable, arguments))


def target_counts(
    scores: ArrayT,
    targets: Ids,
    *,
    exclude: Ids | None = None,
    excluded_target: ExcludedTarget = "missed",
) -> tuple[ArrayT, ArrayT]:
    """Count the items that score above each row's target, and the items that score the same.

    The rank of the target is between ``greater + 1`` and ``greater + tied``. :mod:`alterrec.metrics` computes
    metrics from these counts.

    Args:
        scores: (B, V) matrix of scores.
        targets: (B,) integer item ids; or (B, T), different ids in each row, padded with -1, for sessions
            with several targets, such as the next basket.
        exclude: as in :func:`rank_window`; excluded items are not counted.
        excluded_target: what becomes of a target in its own row of ``exclude``. ``missed``: it counts as not
            found, as it can never be recommended; ``tied`` is 0, and so are its metrics. This is the honest
            rule of an evaluation without these items. ``ranked``: it is a candidate all the same.

    Returns:
        ``greater``, int64, and ``tied``, int64, which includes the target itself; both of the shape of
        ``targets``, with -1 where it is padded.

    Example:
        >>> target_counts(np.array([[0.5, 0.9, 0.5]], dtype=np.float32), [0])
        (array([1]), array([2]))
        >>> target_counts(np.array([[0.5, 0.9, 0.5]], dtype=np.float32), [0], exclude=[0])
        (array([1]), array([0]))
        >>> target_counts(np.array([[0.5, 0.9, 0.1]], dtype=np.float32), [[0, 1, -1]])
        (array([[ 1,  0, -1]]), array([[ 1,  1, -1]]))
    """
    num_rows, _ = matrix_shape("scores", scores)
    missed = is_missed(excluded_target)
    ids = as_integers("targets", targets)
    if ids.ndim == 2:
        return _several_target_counts(scores, several_target_ids(ids, num_rows), exclude, missed)
    ids = target_ids(ids, num_rows)
    excluded = excluded_ids(exclude, num_rows, on_device(scores))
    if on_device(scores):
        return run_in_torch("target_counts", scores, ids, excluded, missed)
    matrix = as_float32("scores", scores)
    greater, tied = _core.target_counts(matrix, ids, excluded, missed, default_threads())
    return like(scores, greater[0]), like(scores, tied[0])


def _several_target_counts(
    scores: ArrayT, ids_BT: NDArray[np.int64], exclude: Ids | None, missed: bool
) -> tuple[ArrayT, ArrayT]:
    """Return :func:`target_counts` of each column of targets."""
    excluded = None if exclude is None else excluded_ids(exclude, len(ids_BT), False)
    if excluded is not None and not missed:
        # A target is a candidate for the other targets, too.
        for column in ids_BT.T:
            excluded = np.where(excluded == column[:, None], -1, excluded)
    counts = [
        [as_array("counts", each) for each in target_counts(scores, column.clip(0), exclude=excluded)]
        for column in ids_BT.T
    ]
    greater, tied = np.array(counts, np.int64).reshape(ids_BT.shape[1], 2, len(ids_BT)).transpose(1, 2, 0)
    known = ids_BT >= 0
    return like(scores, np.where(known, greater, -1)), like(scores, np.where(known, tied, -1))


def fused_target_counts(
    views: Sequence[ArrayT],
    weights: Sequence[float],
    targets: Ids,
    *,
    exclude: Ids | None = None,
    excluded_target: ExcludedTarget = "missed",
) -> tuple[ArrayT, ArrayT]:
    """Return :func:`target_counts` for several score matrices and for their weighted sum, in one pass.

    With ID and text scores and weights alpha and 1 - alpha, the sum is Eq. 6 of AlterRec. It is computed in
    float32 in the order of the views (``views[0] * weights[0] + views[1] * weights[1] + ...``) and never
    stored.

    Args:
        views: score matrices, each (B, V).
        weights: one finite number per view, rounded to float32.
        targets: (B,) integer item ids.
        exclude, excluded_target: as in :func:`target_counts`.

    Returns:
        ``greater`` and ``tied``, each (len(views) + 1, B), int64: one row per view, then the weighted sum.

    Raises:
        ValueError: also if the sum is NaN (infinities that cancel, or infinity times 0).

    Example:
        >>> by_id = np.array([[0.9, 0.1, 0.5]], dtype=np.float32)
        >>> by_text = np.array([[0.1, 0.3, 0.2]], dtype=np.float32)
        >>> greater, tied = fused_target_counts([by_id, by_text], [0.5, 0.5], [2])
        >>> greater.tolist(), tied.tolist()
        ([[1], [1], [1]], [[1], [1], [1]])
    """
    shape = view_shape(views)
    missed = is_missed(excluded_target)
    factors = view_weights(weights, len(views))
    ids = target_ids(targets, shape[0])
    excluded = excluded_ids(exclude, shape[0], on_device(views[0]))
    if on_device(views[0]):
        return run_in_torch("fused_target_counts", views, factors.tolist(), ids, excluded, missed)
    matrices = [as_float32(f"views[{place}]", view) for place, view in enumerate(views)]
    greater, tied = _core.fused_target_counts(matrices, factors, ids, excluded, missed, default_threads())
    return like(views[0], greater), like(views[0], tied)


def cross_entropy_(
    scores: ArrayT,
    positives: Ids,
    weights: Sequence[float] | ArrayT,
    candidates: ArrayT | None = None,
    *,
    exclude: Ids | None = None,
    each: float = 1.0,
    factor: float = 1.0,
) -> ArrayT:
    """Compute softmax cross-entropy of positives against candidates; overwrite the scores with the gradient.

    The loss of a row is ``sum_p weights[p] * (logsumexp(s_p, s_C) - s_p)`` with candidates C: each positive
    is compared separately with the same candidates (Eq. 2-5 of AlterRec and the note under them). The
    positives of a row are not in C, unless C is the whole catalogue. NaN in the scores is not an error here;
    it makes the loss NaN.

    Args:
        scores: (B, V) matrix of scores, overwritten: float32 in C order, or any floating-point tensor.
        positives: (B, P) integer item ids.
        weights: (P,) weight of each column of ``positives``.
        candidates: (B, C) int64 ids, padded with -1, each counted as often as it occurs; or bits
            (B, ceil(V / 8)), uint8, as returned by :func:`rank_window_bits`. Default: the whole catalogue.
        exclude: (B,) or (B, E) ids that are not candidates, padded with -1; positives are never excluded.
        each: weight of each candidate. V / C corrects for C uniform draws from the catalogue (the logQ
            correction of sampled softmax; Bengio and Senecal, AISTATS 2003). Use 1 for the whole catalogue.
        factor: factor of the gradient, e.g. 1 / B for the mean over rows.

    Returns:
        Losses (B,), in the dtype of the scores.

    Example:
        >>> scores = np.array([[2.0, 1.0, 0.0]], dtype=np.float32)
        >>> cross_entropy_(scores, [[0]], [1.0], np.array([[1]])).round(4)  # log(1 + exp(-1))
        array([0.3133], dtype=float32)
        >>> scores.round(4)
        array([[-0.2689,  0.2689,  0.    ]], dtype=float32)
    """
    num_rows, num_items = matrix_shape("scores", scores)
    each, factor = number("each", each), number("factor", factor)
    in_torch = overwritten_in_torch(scores)
    ids = tensor_or_integers("positives", positives, in_torch)
    if ids.ndim != 2 or len(ids) != num_rows:
        raise ValueError(
            f"positives has shape {tuple(ids.shape)}; expected ({num_rows}, P), ids for each row"
        )
    factors = loss_weights(weights, in_torch)
    expected = num_rows, int(np.prod(factors.shape))
    if tuple(ids.shape) != expected or len(factors.shape) != 1:
        raise ValueError(
            f"positives has shape {tuple(ids.shape)}; expected {expected}, one row per row of scores and one "
            f"column per weight (weights has shape {tuple(factors.shape)})"
        )
    chosen = None if candidates is None else tensor_or_integers("candidates", candidates, in_torch)
    left_out = None if exclude is None else excluded_ids(exclude, num_rows, in_torch)
    if in_torch:
        check_candidates(chosen, num_rows, num_items)
        if checks.get():
            check_range("positives", ids, 0, num_items)
            bits = chosen is not None and str(chosen.dtype) in ("uint8", "torch.uint8")
            check_range("candidates", None if bits else chosen, -1, num_items)
            check_range("exclude", left_out, -1, num_items)
        if 0 in (num_items, ids.shape[1]):
            return cast(Any, scores).detach().zero_().sum(1)
        arguments = cast(Any, scores).detach(), ids, factors, chosen, left_out, each, factor
        return run_in_torch("cross_entropy_", *arguments)
    matrix = overwritable("scores", scores)
    if chosen is not None:
        chosen = np.require(chosen, np.uint8 if chosen.dtype == np.uint8 else np.int64, ["C", "A"])
        check_candidates(chosen, num_rows, num_items)
    losses = _core.cross_entropy(
        matrix,
        np.require(ids, np.int64, ["C", "A"]),
        factors,
        chosen,
        excluded_ids(exclude, num_rows, False) if left_out is None else left_out,
        each,
        factor,
        default_threads(),
    )
    return like(scores, losses.astype(np.float32))


def uniform_items(rows: ArrayT, count: int, num_items: int, *, seed: int = 0) -> ArrayT:
    """Draw items uniformly with replacement from the catalogue, as a function of (seed, row number).

    These are the random negatives of AlterRec's warm-up (Algorithm 1). A longer draw starts with the shorter
    one.

    Args:
        rows: (B,) integers that identify the rows.
        count: number of items to draw per row.
        num_items: size of the catalogue, 1 or more.
        seed: 0 to 2**64 - 1.

    Returns:
        Item ids (B, count), int64, 0 to ``num_items - 1``, in the order drawn.

    Example:
        >>> uniform_items(np.array([7, 8]), 3, 1)
        array([[0, 0, 0],
               [0, 0, 0]])
        >>> bool((uniform_items(np.array([7]), 5, 100) == uniform_items(np.array([3, 7]), 5, 100)[1]).all())
        True
    """
    numbers = row_numbers(rows)
    check_length("rows", numbers, numbers.size, "one number per row")
    draw = draw_arguments("count", count, seed, numbers, len(numbers))
    most = np.iinfo(np.intp).max // 8 // max(len(numbers), 1)
    ids = np.empty((len(numbers), at_most("count", draw[0], most, "memory", "places a row")), np.int64)
    _core.uniform_items(draw, natural("num_items", num_items), default_threads(), ids)
    return like(rows, ids)
