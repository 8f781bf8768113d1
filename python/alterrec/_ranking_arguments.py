"""Checks and conversions of the arguments of `alterrec.ranking`, for numpy arrays and torch tensors."""

from __future__ import annotations

import operator
import sys
from collections.abc import Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Ids: TypeAlias = "NDArray[Any] | torch.Tensor | Sequence[Any]"
ExcludedTarget = Literal["missed", "ranked"]
ArrayT = TypeVar("ArrayT", NDArray[Any], "torch.Tensor")

# False in `ranking.unchecked`.
checks: ContextVar[bool] = ContextVar("checks", default=True)
_threads: int | None = None


def set_threads(threads: int | None) -> None:
    """Set the number of threads for all functions of :mod:`alterrec.ranking`.

    Args:
        threads: 1 or more, or None (the initial value) for one per core.

    Example:
        >>> set_threads(2)
        >>> set_threads(None)
    """
    global _threads
    _threads = thread_count(threads)


def default_threads() -> int | None:
    return _threads


def is_tensor(values: Any) -> bool:
    # A caller with a tensor has imported torch already; numpy users do not need it.
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(values, torch.Tensor)


def on_device(values: Any) -> bool:
    return is_tensor(values) and values.device.type != "cpu"


def like(template: ArrayT, result: Any) -> ArrayT:
    if is_tensor(template):
        return cast(ArrayT, sys.modules["torch"].from_numpy(result).to(template.device))
    return cast(ArrayT, result)


def matrix_shape(argument: str, values: Any) -> tuple[int, int]:
    shape = tuple(values.shape) if hasattr(values, "shape") else np.shape(values)
    if len(shape) != 2:
        raise ValueError(f"{argument} has shape {shape}; expected (B, V), one row of scores per session")
    _check_real(argument, values)
    return shape


def _check_real(argument: str, values: Any) -> None:
    real = not values.is_complex() if is_tensor(values) else np.asarray(values).dtype.kind in "fiub"
    if not real:
        dtype = values.dtype if hasattr(values, "dtype") else np.asarray(values).dtype
        raise ValueError(f"{argument} has dtype {dtype}; expected real numbers")


def as_float32(values: Any) -> NDArray[np.float32]:
    if is_tensor(values):
        return cast("NDArray[np.float32]", values.detach().float().contiguous().numpy())
    # A value beyond float32 becomes infinite, as in torch.
    with np.errstate(over="ignore"):
        return np.require(values, np.float32, ["C", "A"])


def overwritable(argument: str, values: Any, dtype: Any = np.float32) -> NDArray[Any]:
    """Return the memory of a matrix on the CPU, which the caller wants to be overwritten."""
    matrix = values.detach().numpy() if is_tensor(values) else values
    if not isinstance(matrix, np.ndarray) or matrix.dtype != dtype or not matrix.flags.carray:
        raise ValueError(
            f"{argument} is not a writeable {np.dtype(dtype)} matrix in C order; "
            "it is overwritten, so pass such a copy"
        )
    return matrix


def as_integers(argument: str, values: Any) -> NDArray[Any]:
    array = values.detach().cpu().numpy() if is_tensor(values) else np.asarray(values)
    if array.size and array.dtype.kind not in "iu":
        raise ValueError(f"{argument} has dtype {array.dtype}; expected integers")
    return array


def check_length(argument: str, values: NDArray[Any], length: int, meaning: str) -> None:
    if values.shape != (length,):
        raise ValueError(f"{argument} has shape {values.shape}; expected ({length},), {meaning}")


def target_ids(targets: Any, num_rows: int) -> NDArray[np.int64]:
    ids = as_integers("targets", targets)
    check_length("targets", ids, num_rows, "one id per row of scores")
    return np.require(ids, np.int64, ["C", "A"])


def excluded_ids(exclude: Any, num_rows: int, keep_tensor: bool, argument: str = "exclude") -> Any:
    """Return ids (B, E): an int64 array, or with ``keep_tensor`` a tensor if it is one."""
    if exclude is None:
        exclude = np.empty((num_rows, 0), dtype=np.int64)
    # Fetching a tensor would wait for its device.
    ids = exclude if keep_tensor and is_tensor(exclude) else as_integers(argument, exclude)
    if ids.ndim not in (1, 2) or len(ids) != num_rows:
        raise ValueError(
            f"{argument} has shape {tuple(ids.shape)}; expected ({num_rows},) or ({num_rows}, E), "
            "ids for each row of scores"
        )
    ids = ids[:, None] if ids.ndim == 1 else ids
    return ids if is_tensor(ids) else np.require(ids, np.int64, ["C", "A"])


def is_missed(excluded_target: str) -> bool:
    if excluded_target not in ("missed", "ranked"):
        raise ValueError(f"excluded_target is {excluded_target!r}; choose 'missed' or 'ranked'")
    return excluded_target == "missed"


def draw_arguments(
    argument: str, count: int, seed: int, rows: Any, num_rows: int
) -> tuple[int, int, NDArray[np.uint64]]:
    if not 0 <= operator.index(seed) < 2**64:
        raise ValueError(f"seed is {seed}; expected 0 to 2**64 - 1")
    numbers = np.arange(num_rows) if rows is None else as_integers("rows", rows)
    check_length("rows", numbers, num_rows, "one number per row of scores")
    return natural(argument, count), operator.index(seed), np.require(numbers, np.uint64, ["C", "A"])


def numbers_of(argument: str, values: Any, ids: Any, keep_tensor: bool) -> Any:
    """Return float32 numbers (B, E), one for each id; with ``keep_tensor``, tensors stay tensors."""
    _check_real(argument, values)
    numbers = values.float() if keep_tensor and is_tensor(values) else as_float32(values)
    numbers = numbers[:, None] if numbers.ndim == 1 else numbers
    if tuple(numbers.shape) != tuple(ids.shape):
        raise ValueError(
            f"{argument} has shape {tuple(numbers.shape)} and seen {tuple(ids.shape)}; "
            "give one number for each entry of seen"
        )
    return numbers


def temperature_values(temperatures: Any, count: int) -> NDArray[np.float64]:
    values = np.ones(count) if temperatures is None else np.ascontiguousarray(temperatures, np.float64)
    check_length("temperatures", values, count, "one number for each view and one for the weighted sum")
    # So that their inverses are ordinary float32 numbers; NaN is out of every range.
    wrong = ~((values >= 1e-30) & (values <= 1e30))
    if wrong.any():
        place = int(wrong.argmax())
        raise ValueError(
            f"temperatures[{place}] is {values[place]}; expected a number between 1e-30 and 1e30"
        )
    return values


def view_shape(views: Sequence[Any]) -> tuple[int, int]:
    if len(views) == 0:
        raise ValueError("views is empty; give one score matrix or more")
    shape = matrix_shape("views[0]", views[0])
    for place, view in enumerate(views):
        if matrix_shape(f"views[{place}]", view) != shape:
            raise ValueError(
                f"views[{place}] has shape {tuple(view.shape)} and views[0] {shape}; "
                "all views must have one shape"
            )
    return shape


def view_weights(weights: Any, num_views: int) -> NDArray[np.float32]:
    _check_real("weights", weights)
    factors = as_float32(weights)
    check_length("weights", factors, num_views, "one number per view")
    if not np.isfinite(factors).all():
        place = int(np.isfinite(factors).argmin())
        raise ValueError(f"weights[{place}] is {factors[place]}; expected finite float32 numbers")
    return factors


def rank_range(start: int, stop: int, num_items: int) -> tuple[int, int]:
    start, stop = natural("start", start), natural("stop", stop)
    if start > stop:
        raise ValueError(f"start is {start} and stop is {stop}; start must not be above stop")
    return start, at_most("stop", stop, num_items, "scores", "candidates (columns)")


def at_most(argument: str, value: int, most: int, owner: str, what: str) -> int:
    # Before anything of this size is allocated.
    if value > most:
        raise ValueError(f"{argument} is {value}, but {owner} has only {most} {what}; ask for at most {most}")
    return value


def natural(argument: str, value: int) -> int:
    if not 0 <= operator.index(value) < 2**63:
        raise ValueError(f"{argument} is {value}; expected 0 to 2**63 - 1")
    return operator.index(value)


def thread_count(threads: int | None) -> int | None:
    if threads is not None and operator.index(threads) < 1:
        raise ValueError(f"threads is {threads}; expected 1 or more, or None for all cores")
    return threads
