"""Rank windows, top ranks, exact target counts and draws over score matrices, on numpy or torch.

Scores are (B, V): one row a session, column j is item j, higher is better. Rank order is score
descending, then id ascending, as in ``np.argsort(-scores, axis=1, kind="stable")``; -0.0 equals 0.0,
infinities are values, NaN is refused. Rows are independent and every draw is a function of (seed, row
number) alone, so results do not depend on threads or on how rows are cut into batches.

Scores may be a numpy array or a torch tensor, and results come back in kind. Float32 in C order is read
in place; other types and layouts are converted to it first, so float64 values that round to the same
float32 tie. A tensor on a device is handled there, with equal results. numpy input never imports torch.

A row is never sorted: each function costs O(V) a row and reads it one to three times, see
docs/performance.md. Kernels run on the best instruction set that the processor has, with equal results.

Every function raises ValueError, naming the argument, what was found and what is allowed, for a wrong
shape or dtype, a NaN, an id outside the catalogue, or more ranks asked for than there are candidates.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from alterrec import _core

if TYPE_CHECKING:
    import torch

    Ids: TypeAlias = NDArray[Any] | torch.Tensor | Sequence[Any]

__all__ = [
    "cross_entropy_",
    "fused_target_counts",
    "rank_window",
    "rank_window_bits",
    "rank_window_mask",
    "set_threads",
    "target_counts",
    "top_ranked",
    "unchecked",
    "uniform_items",
]

ArrayT = TypeVar("ArrayT", NDArray[Any], "torch.Tensor")

_threads: int | None = None
_checks: ContextVar[bool] = ContextVar("checks", default=True)


@contextmanager
def unchecked() -> Iterator[None]:
    """Within it, calls on tensors of a device leave out the checks that would wait for the device.

    For loops that must not wait, such as a training step, once arguments are known to be right. On the CPU,
    where checks are part of the kernels, nothing changes.

    Example:
        >>> with unchecked():
        ...     rank_window(np.array([[0.1, 0.9]], dtype=np.float32), 0, 1)
        array([[1]])
    """
    token = _checks.set(False)
    try:
        yield
    finally:
        _checks.reset(token)


def set_threads(threads: int | None) -> None:
    """Sets how many threads all functions here use from now on; None, the start value, means all cores.

    Example:
        >>> set_threads(2)
        >>> set_threads(None)
    """
    global _threads
    _threads = _thread_count(threads)


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
    """The items at 0-based ranks ``start .. stop - 1`` of each row, among the items not excluded.

    The hard negatives of AlterRec (section 4.2): the paper's ``r_s[k1 : k2]``, counted from 1 with both
    ends included, is ``rank_window(scores, k1 - 1, k2, exclude=targets)``.

    Args:
        scores: (B, V).
        start, stop: ranks, ``0 <= start <= stop``; ``stop`` is at most the number of candidates.
        exclude: (B,) or (B, E) ids that are no candidates; -1 is padding, duplicates are allowed.
        sample: draw this many of the window uniformly without replacement instead of all of it.
        seed: 0 to 2**64 - 1, for ``sample``.
        rows: (B,) integers that number the rows for ``sample``; default 0 .. B - 1.
        threads: for this call, instead of the number given to :func:`set_threads`.

    Returns:
        (B, stop - start) or (B, sample) int64 ids, ascending in each row.

    Complexity:
        O(V) a row, and O(window) more for ``sample``; on rows of ties at most twice a usual row.

    Raises:
        ValueError: see the module.

    Example:
        >>> scores = np.array([[0.1, 0.9, 0.5, 0.9, 0.7]], dtype=np.float32)
        >>> rank_window(scores, 1, 4)
        array([[2, 3, 4]])
        >>> rank_window(scores, 1, 4, exclude=[3])
        array([[0, 2, 4]])
        >>> rank_window(scores, 0, 4, sample=2, seed=1).shape
        (1, 2)
    """
    num_rows, num_items = _shape("scores", scores)
    start, stop = _window(start, stop, num_items)
    excluded = _excluded(exclude, num_rows, scores)
    draw = None if sample is None else _draw("sample", sample, seed, rows, num_rows)
    count = _threads if threads is None else _thread_count(threads)
    width = stop - start if draw is None else _at_most("sample", draw[0], stop - start, "the window", "ranks")
    ids = np.empty((num_rows, width), np.int64)
    if _on_device(scores):
        if draw is not None:
            _core.window_positions(draw, stop - start, count, ids)
        positions = None if draw is None else ids
        return cast(ArrayT, _twin().rank_window(scores, start, stop, excluded, positions, _checks.get()))
    _core.rank_window(_float32(scores), start, stop, excluded, draw, count, ids)
    return _like(scores, ids)


def rank_window_mask(scores: ArrayT, start: int, stop: int, *, exclude: Ids | None = None) -> ArrayT:
    """Whether each item is in the rank window; arguments as in :func:`rank_window`.

    Returns:
        (B, V) bool with ``stop - start`` true values in each row.

    Complexity:
        O(V) a row.

    Raises:
        ValueError: see the module.

    Example:
        >>> rank_window_mask(np.array([[0.1, 0.9, 0.5]], dtype=np.float32), 0, 2)
        array([[False,  True,  True]])
    """
    num_rows, num_items = _shape("scores", scores)
    start, stop = _window(start, stop, num_items)
    excluded = _excluded(exclude, num_rows, scores)
    if _on_device(scores):
        return cast(ArrayT, _twin().rank_window_mask(scores, start, stop, excluded, _checks.get()))
    mask = np.empty((num_rows, num_items), np.bool_)
    _core.rank_window_mask(_float32(scores), start, stop, excluded, _threads, mask)
    return _like(scores, mask)


def rank_window_bits(scores: ArrayT, start: int, stop: int, *, exclude: Ids | None = None) -> ArrayT:
    """:func:`rank_window_mask` at a bit an item: what the loss reads, an eighth of the mask.

    Returns:
        (B, ceil(V / 8)) uint8: bit ``i % 8`` of byte ``i // 8`` is item i, bits behind the last item are 0.

    Complexity:
        O(V) a row.

    Raises:
        ValueError: see the module.

    Example:
        >>> rank_window_bits(np.array([[0.1, 0.9, 0.5]], dtype=np.float32), 0, 2)
        array([[6]], dtype=uint8)
    """
    num_rows, num_items = _shape("scores", scores)
    start, stop = _window(start, stop, num_items)
    excluded = _excluded(exclude, num_rows, scores)
    if _on_device(scores):
        return cast(ArrayT, _twin().rank_window_bits(scores, start, stop, excluded, _checks.get()))
    bits = np.empty((num_rows, -(-num_items // 8)), np.uint8)
    _core.rank_window_bits(_float32(scores), start, stop, excluded, _threads, bits)
    return _like(scores, bits)


def top_ranked(scores: ArrayT, k: int, *, exclude: Ids | None = None) -> tuple[ArrayT, ArrayT]:
    """The ``k`` highest-ranked items of each row and their scores, in rank order.

    Args:
        scores: (B, V).
        k: 0 to the number of candidates.
        exclude: as in :func:`rank_window`.

    Returns:
        (B, k) int64 ids and (B, k) float32 scores.

    Complexity:
        O(V + k log k) a row.

    Raises:
        ValueError: see the module.

    Example:
        >>> ids, values = top_ranked(np.array([[0.5, 0.25, 0.5]], dtype=np.float32), 2)
        >>> ids, values
        (array([[0, 2]]), array([[0.5, 0.5]], dtype=float32))
    """
    num_rows, num_items = _shape("scores", scores)
    k = _at_most("k", _natural("k", k), num_items, "scores", "candidates (columns)")
    excluded = _excluded(exclude, num_rows, scores)
    if _on_device(scores):
        return cast(tuple[ArrayT, ArrayT], _twin().top_ranked(scores, k, excluded, _checks.get()))
    matrix = _float32(scores)
    ids = np.empty((num_rows, k), np.int64)
    _core.top_ranked(matrix, k, excluded, _threads, ids)
    return _like(scores, ids), _like(scores, np.take_along_axis(matrix, ids, axis=1))


def target_counts(scores: ArrayT, targets: Ids, *, exclude: Ids | None = None) -> tuple[ArrayT, ArrayT]:
    """How many items score strictly above each row's target, and how many the same.

    What :mod:`alterrec.metrics` averages over; the target's rank lies in
    ``greater + 1 .. greater + tied``.

    Args:
        scores: (B, V).
        targets: (B,) ids.
        exclude: as in :func:`rank_window`; excluded items are not counted, the target always is.

    Returns:
        (B,) int64 ``greater`` and (B,) int64 ``tied``, which counts the target itself.

    Complexity:
        O(V) a row, one read of it.

    Raises:
        ValueError: see the module.

    Example:
        >>> target_counts(np.array([[0.5, 0.9, 0.5]], dtype=np.float32), [0])
        (array([1]), array([2]))
    """
    num_rows, _ = _shape("scores", scores)
    ids = _targets(targets, num_rows)
    excluded = _excluded(exclude, num_rows, scores)
    if _on_device(scores):
        return cast(tuple[ArrayT, ArrayT], _twin().target_counts(scores, ids, excluded))
    greater, tied = _core.target_counts(_float32(scores), ids, excluded, _threads)
    return _like(scores, greater[0]), _like(scores, tied[0])


def fused_target_counts(
    views: Sequence[ArrayT], weights: Sequence[float], targets: Ids, *, exclude: Ids | None = None
) -> tuple[ArrayT, ArrayT]:
    """:func:`target_counts` for each view and for their weighted sum, in one pass.

    The sum is Eq. 6 of AlterRec for the views ID and text and the weights alpha and 1 - alpha. It is added
    in float32 in the order of the views: ``views[0] * weights[0] + views[1] * weights[1] + ...``.

    Args:
        views: score matrices, each (B, V).
        weights: one finite number a view, rounded to float32.
        targets: (B,) ids.
        exclude: as in :func:`target_counts`.

    Returns:
        int64 ``greater`` and ``tied``, each (len(views) + 1, B): a row a view, then the weighted sum.

    Complexity:
        O(V) a row and view, one read of each; the sum is never stored.

    Raises:
        ValueError: see the module; also where the sum is NaN (infinities that cancel, or times 0).

    Example:
        >>> by_id = np.array([[0.9, 0.1, 0.5]], dtype=np.float32)
        >>> by_text = np.array([[0.1, 0.3, 0.2]], dtype=np.float32)
        >>> greater, tied = fused_target_counts([by_id, by_text], [0.5, 0.5], [2])
        >>> greater.tolist(), tied.tolist()
        ([[1], [1], [1]], [[1], [1], [1]])
    """
    if len(views) == 0:
        raise ValueError("views is empty; give one score matrix or more")
    shape = _shape("views[0]", views[0])
    for place, view in enumerate(views):
        if _shape(f"views[{place}]", view) != shape:
            raise ValueError(
                f"views[{place}] has shape {tuple(view.shape)} and views[0] {shape}; "
                "all views must have one shape"
            )
    factors = _weights(weights, len(views))
    ids = _targets(targets, shape[0])
    excluded = _excluded(exclude, shape[0], views[0])
    if _on_device(views[0]):
        twin = _twin()
        return cast(tuple[ArrayT, ArrayT], twin.fused_target_counts(views, factors.tolist(), ids, excluded))
    matrices = [_float32(view) for view in views]
    greater, tied = _core.fused_target_counts(matrices, factors, ids, excluded, _threads)
    return _like(views[0], greater), _like(views[0], tied)


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
    """Softmax cross-entropy of positives against candidates; the gradient takes the place of the scores.

    A row's loss is ``sum_p weights[p] * (logsumexp(s_p, s_C) - s_p)`` over candidates C: each positive
    stands alone against the same candidates (Eq. 2-5 of AlterRec and the note under them). A row's
    positives are left out of C, unless C is the whole catalogue. NaN is not refused here: it makes the
    loss NaN.

    Args:
        scores: (B, V), overwritten; float32 in C order, or any floating tensor.
        positives: (B, P) ids.
        weights: (P,), one for each column.
        candidates: None for the whole catalogue; (B, C) int64 ids, -1 for none, each counted as often as
            it is there; or (B, ceil(V / 8)) uint8 bits as :func:`rank_window_bits` gives them.
        exclude: (B,) or (B, E) ids, -1 for none, that are no candidates; positives stay.
        each: how often a candidate counts: V / C makes C uniform draws stand for the catalogue (the logQ
            correction of sampled softmax; Bengio and Senecal, AISTATS 2003). 1 for the whole catalogue.
        factor: what the gradient is multiplied by, 1 / B for the mean over rows.

    Returns:
        (B,) losses, in the dtype of the scores.

    Complexity:
        O(V) a row, and C where candidates are ids.

    Raises:
        ValueError: see the module.

    Example:
        >>> scores = np.array([[2.0, 1.0, 0.0]], dtype=np.float32)
        >>> cross_entropy_(scores, [[0]], [1.0], np.array([[1]])).round(4)  # log(1 + exp(-1))
        array([0.3133], dtype=float32)
        >>> scores.round(4)
        array([[-0.2689,  0.2689,  0.    ]], dtype=float32)
    """
    num_rows, _ = _shape("scores", scores)
    if _is_tensor(scores) and (_on_device(scores) or scores.dtype != sys.modules["torch"].float32):
        left_out = None if exclude is None else _excluded(exclude, num_rows, scores)
        return cast(
            ArrayT, _twin().cross_entropy_(scores, positives, weights, candidates, left_out, each, factor)
        )
    given: Any = scores
    matrix = given.detach().numpy() if _is_tensor(given) else given
    if not isinstance(matrix, np.ndarray) or matrix.dtype != np.float32 or not matrix.flags.carray:
        raise ValueError(
            "scores is not a writeable float32 matrix in C order; allowed: one, as it is changed"
        )
    ids = _integers("positives", positives)
    if ids.ndim != 2 or len(ids) != num_rows:
        raise ValueError(f"positives has shape {ids.shape}; allowed: ({num_rows}, P), ids for each row")
    chosen = None if candidates is None else _integers("candidates", candidates)
    if chosen is not None:
        chosen = np.require(chosen, np.uint8 if chosen.dtype == np.uint8 else np.int64, ["C", "A"])
    losses = _core.cross_entropy(
        matrix,
        np.require(ids, np.int64, ["C", "A"]),
        _float32(weights),
        chosen,
        _excluded(exclude, num_rows, scores),
        each,
        factor,
        _threads,
    )
    return _like(scores, losses.astype(np.float32))


def uniform_items(rows: ArrayT, count: int, num_items: int, *, seed: int = 0) -> ArrayT:
    """Items drawn uniformly with replacement from the catalogue, a function of (seed, row number) alone.

    The random negatives of AlterRec's warm-up (Algorithm 1). A longer draw begins with the shorter one.

    Args:
        rows: (B,) integers that number the rows.
        count: how many to draw for each row.
        num_items: size of the catalogue, 1 or more.
        seed: 0 to 2**64 - 1.

    Returns:
        (B, count) int64 ids in ``0 .. num_items - 1``, in the order drawn.

    Complexity:
        O(count) a row.

    Raises:
        ValueError: see the module.

    Example:
        >>> uniform_items(np.array([7, 8]), 3, 1)
        array([[0, 0, 0],
               [0, 0, 0]])
        >>> bool((uniform_items(np.array([7]), 5, 100) == uniform_items(np.array([3, 7]), 5, 100)[1]).all())
        True
    """
    numbers = _integers("rows", rows)
    if numbers.ndim != 1:
        raise ValueError(f"rows has shape {numbers.shape}; allowed: (B,), one number a row")
    draw = _draw("count", count, seed, numbers, len(numbers))
    most = np.iinfo(np.intp).max // 8 // max(len(numbers), 1)
    ids = np.empty((len(numbers), _at_most("count", draw[0], most, "memory", "places a row")), np.int64)
    _core.uniform_items(draw, _natural("num_items", num_items), _threads, ids)
    return _like(rows, ids)


def _is_tensor(values: Any) -> bool:
    # Whoever holds a tensor has imported torch; looking here keeps numpy users from needing it.
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(values, torch.Tensor)


def _on_device(values: Any) -> bool:
    return _is_tensor(values) and values.device.type != "cpu"


def _twin() -> ModuleType:
    from alterrec import _ranking_torch

    return _ranking_torch


def _like(template: ArrayT, result: Any) -> ArrayT:
    if _is_tensor(template):
        return cast(ArrayT, sys.modules["torch"].from_numpy(result).to(template.device))
    return cast(ArrayT, result)


def _shape(argument: str, values: Any) -> tuple[int, int]:
    shape = tuple(values.shape) if hasattr(values, "shape") else np.shape(values)
    if len(shape) != 2:
        raise ValueError(f"{argument} has shape {shape}; allowed: (B, V), one row of scores a session")
    _refuse_unreal(argument, values)
    return shape


def _refuse_unreal(argument: str, values: Any) -> None:
    real = not values.is_complex() if _is_tensor(values) else np.asarray(values).dtype.kind in "fiub"
    if not real:
        dtype = values.dtype if _is_tensor(values) else np.asarray(values).dtype
        raise ValueError(f"{argument} has dtype {dtype}; allowed: real numbers")


def _float32(values: Any) -> NDArray[np.float32]:
    if _is_tensor(values):
        return cast("NDArray[np.float32]", values.detach().float().contiguous().numpy())
    # A value beyond float32 becomes infinite, as in torch.
    with np.errstate(over="ignore"):
        return np.require(values, np.float32, ["C", "A"])


def _integers(argument: str, values: Any) -> NDArray[Any]:
    array = values.detach().cpu().numpy() if _is_tensor(values) else np.asarray(values)
    if array.size and array.dtype.kind not in "iu":
        raise ValueError(f"{argument} has dtype {array.dtype}; allowed: integers")
    return array


def _targets(targets: Any, num_rows: int) -> NDArray[np.int64]:
    ids = _integers("targets", targets)
    if ids.shape != (num_rows,):
        raise ValueError(f"targets has shape {ids.shape}; allowed: ({num_rows},), one id a row of scores")
    return np.require(ids, np.int64, ["C", "A"])


def _excluded(exclude: Any, num_rows: int, scores: Any) -> Any:
    """Ids (B, E): an array of int64, or a tensor where scores are on a device."""
    if exclude is None:
        exclude = np.empty((num_rows, 0), dtype=np.int64)
    # A tensor stays where it is, for fetching it would wait for the device.
    ids = exclude if _on_device(scores) and _is_tensor(exclude) else _integers("exclude", exclude)
    if ids.ndim not in (1, 2) or len(ids) != num_rows:
        raise ValueError(
            f"exclude has shape {tuple(ids.shape)}; allowed: ({num_rows},) or ({num_rows}, E), "
            "ids for each row of scores"
        )
    ids = ids[:, None] if ids.ndim == 1 else ids
    return ids if _is_tensor(ids) else np.require(ids, np.int64, ["C", "A"])


def _draw(
    argument: str, count: int, seed: int, rows: Any, num_rows: int
) -> tuple[int, int, NDArray[np.uint64]]:
    if not 0 <= operator.index(seed) < 2**64:
        raise ValueError(f"seed is {seed}; allowed: 0 to 2**64 - 1")
    numbers = np.arange(num_rows) if rows is None else _integers("rows", rows)
    if numbers.shape != (num_rows,):
        raise ValueError(
            f"rows has shape {numbers.shape}; allowed: ({num_rows},), one number a row of scores"
        )
    return _natural(argument, count), operator.index(seed), np.require(numbers, np.uint64, ["C", "A"])


def _weights(weights: Any, num_views: int) -> NDArray[np.float32]:
    _refuse_unreal("weights", weights)
    factors = _float32(weights)
    if factors.shape != (num_views,):
        raise ValueError(f"weights has shape {factors.shape}; allowed: ({num_views},), one number a view")
    if not np.isfinite(factors).all():
        place = int(np.isfinite(factors).argmin())
        raise ValueError(f"weights[{place}] is {factors[place]}; allowed: finite float32 numbers")
    return factors


def _window(start: int, stop: int, num_items: int) -> tuple[int, int]:
    start, stop = _natural("start", start), _natural("stop", stop)
    if start > stop:
        raise ValueError(f"start is {start} and stop is {stop}; allowed: start at most stop")
    return start, _at_most("stop", stop, num_items, "scores", "candidates (columns)")


def _at_most(argument: str, value: int, most: int, owner: str, what: str) -> int:
    # Before anything of this size is allocated.
    if value > most:
        raise ValueError(f"{argument} is {value}, but {owner} has only {most} {what}; ask for at most {most}")
    return value


def _natural(argument: str, value: int) -> int:
    if not 0 <= operator.index(value) < 2**63:
        raise ValueError(f"{argument} is {value}; allowed: 0 to 2**63 - 1")
    return operator.index(value)


def _thread_count(threads: int | None) -> int | None:
    if threads is not None and operator.index(threads) < 1:
        raise ValueError(f"threads is {threads}; allowed: 1 or more, or None for all cores")
    return threads
