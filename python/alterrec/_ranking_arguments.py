"""Checks and conversions of the arguments of `alterrec.ranking`, for numpy arrays and torch tensors."""

from __future__ import annotations

import math
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
FLOAT32_MAX = float(np.finfo(np.float32).max)
EXACT_INTEGERS = 2**24  # float32 holds all integers up to this one
# Tensors whose values fit into int64; numpy checks those of uint64.
_TENSOR_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")

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


def integer(argument: str, value: Any) -> int:
    """The value of an integer of any type; ValueError for anything else."""
    try:
        return operator.index(value)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{argument} is {value!r}; expected an integer") from None


def number(argument: str, value: Any) -> float:
    """A number as float; ValueError if it is none, NaN, or finite but beyond float32."""
    try:
        result = math.nan if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise ValueError(f"{argument} is {value!r}; expected a number") from None
    if not abs(result) <= FLOAT32_MAX:
        raise ValueError(f"{argument} is {value!r}; expected a finite float32 number")
    return result


def as_array(argument: str, values: Any) -> NDArray[Any]:
    """Values as a numpy array in memory, without a copy where there is one."""
    if is_tensor(values):
        _check_readable(argument, values)
        values = values.detach().cpu()
        values = values.float().numpy() if str(values.dtype) in _BEYOND_NUMPY else values.numpy()
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{argument} cannot be read as an array ({_first_line(error)})") from None
    if isinstance(values, np.ma.MaskedArray):
        _refuse_masked(argument, values)
    return array


# Types of tensors that numpy does not have; float32 holds all of their values.
_BEYOND_NUMPY = ("torch.bfloat16", "torch.float8_e4m3fn", "torch.float8_e5m2")


def _check_readable(argument: str, tensor: Any) -> None:
    if tensor.is_meta:
        raise ValueError(f"{argument} is a meta tensor, which has no values; pass one on a device")
    if tensor.is_nested or str(tensor.layout) != "torch.strided" or tensor.is_quantized:
        kind = "nested" if tensor.is_nested else "quantised" if tensor.is_quantized else f"{tensor.layout}"
        raise ValueError(f"{argument} is a {kind} tensor; expected a dense one, as to_dense() returns it")


def _refuse_masked(argument: str, values: Any) -> None:
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise ValueError(f"{argument} has masked entries; fill or remove them")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def matrix_shape(argument: str, values: Any) -> tuple[int, int]:
    if is_tensor(values):
        _check_readable(argument, values)
        shape = tuple(values.shape)
    else:
        shape = as_array(argument, values).shape
    if len(shape) != 2:
        raise ValueError(f"{argument} has shape {shape}; expected (B, V), one row of scores per session")
    check_real(argument, values)
    return shape


def check_real(argument: str, values: Any) -> None:
    if is_tensor(values):
        _check_readable(argument, values)
        dtype, real = values.dtype, not values.is_complex()
    else:
        dtype = as_array(argument, values).dtype
        real = dtype.kind in "fiub"
    if not real:
        raise ValueError(f"{argument} has dtype {dtype}; expected real numbers")


def as_float32(argument: str, values: Any) -> NDArray[np.float32]:
    """Real numbers as float32 in C order, rounded to the nearest.

    Raises:
        ValueError: a finite value or an integer that float32 cannot hold.
    """
    check_real(argument, values)
    array = as_array(argument, values)
    if array.dtype == np.float32:
        return np.require(array, np.float32, ["C", "A"])
    _refuse_merging(argument, array)
    return np.require(array, np.float32, ["C", "A"])


def _refuse_merging(argument: str, array: NDArray[Any]) -> None:
    """Refuse values that float32 would merge: finite ones beyond its range, integers that it skips."""
    if array.dtype.kind in "iu" and array.dtype.itemsize > 2 and array.size:
        most = max(int(array.max()), -int(array.min()))
        if most > EXACT_INTEGERS:
            raise ValueError(
                f"{argument} has integers up to {most}, but float32 holds them exactly only up to 2**24; "
                "pass floating-point numbers"
            )
    if array.dtype.kind == "f" and array.dtype.itemsize > 4 and array.size:
        beyond = (np.abs(array) > FLOAT32_MAX) & np.isfinite(array)
        if beyond.any():
            place = np.unravel_index(int(beyond.argmax()), beyond.shape)
            raise ValueError(
                f"{argument} has {array[place]} at {tuple(map(int, place))}, which is beyond float32 "
                f"(about {FLOAT32_MAX:.1e}); scale the numbers, or use an infinity"
            )


def overwritable(argument: str, values: Any, dtype: Any = np.float32) -> NDArray[Any]:
    """Return the memory of a matrix on the CPU, which the caller wants to be overwritten."""
    if is_tensor(values):
        _check_readable(argument, values)
    _refuse_masked(argument, values)
    same = is_tensor(values) and str(values.dtype) == f"torch.{np.dtype(dtype)}"
    matrix = values.detach().numpy() if same else values
    if not isinstance(matrix, np.ndarray) or matrix.dtype != dtype or not matrix.flags.carray:
        raise ValueError(
            f"{argument} is not a writeable {np.dtype(dtype)} matrix in C order; "
            "it is overwritten, so pass such a copy"
        )
    return matrix


def as_integers(argument: str, values: Any) -> NDArray[Any]:
    """Integers that fit into int64, in their own type."""
    array = as_array(argument, values)
    if not array.size:
        return np.empty(array.shape, np.int64)
    if array.dtype.kind not in "iu":
        raise ValueError(f"{argument} has dtype {array.dtype}; expected integers")
    if array.dtype.kind == "u" and array.dtype.itemsize == 8 and array.size:
        most = int(array.max())
        if most >= 2**63:
            raise ValueError(f"{argument} has the value {most}; expected integers below 2**63")
    return array


def tensor_or_integers(argument: str, values: Any, keep_tensor: bool) -> Any:
    """Integers as a numpy array, or with ``keep_tensor`` a tensor if they are one.

    Fetching a tensor would wait for its device.
    """
    if not (keep_tensor and is_tensor(values)):
        return as_integers(argument, values)
    _check_readable(argument, values)
    if values.numel() and str(values.dtype).removeprefix("torch.") not in _TENSOR_INTEGERS:
        raise ValueError(f"{argument} has dtype {values.dtype}; expected integers, such as int64")
    return values


def tensor_or_float32(argument: str, values: Any, keep_tensor: bool) -> Any:
    """Real numbers as a float32 array, or with ``keep_tensor`` the tensor itself if they are one."""
    if not (keep_tensor and is_tensor(values)):
        return as_float32(argument, values)
    check_real(argument, values)
    return values


def check_length(argument: str, values: Any, length: int, meaning: str) -> None:
    if tuple(values.shape) != (length,):
        raise ValueError(f"{argument} has shape {tuple(values.shape)}; expected ({length},), {meaning}")


def target_ids(targets: Any, num_rows: int) -> NDArray[np.int64]:
    ids = as_integers("targets", targets)
    check_length("targets", ids, num_rows, "one id per row of scores")
    return np.require(ids, np.int64, ["C", "A"])


def several_target_ids(ids: NDArray[Any], num_rows: int) -> NDArray[np.int64]:
    """Return ids (B, T) of the targets of each row, all different, padded with -1."""
    if len(ids) != num_rows:
        raise ValueError(
            f"targets has shape {ids.shape}; expected ({num_rows},) or ({num_rows}, T), ids for each row of "
            "scores"
        )
    if ids.size and ids.min() < -1:
        raise ValueError(f"targets has the id {int(ids.min())}; expected item ids, or -1 as padding")
    ordered = np.sort(ids, axis=1)
    repeated = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if repeated.any():
        row, place = np.argwhere(repeated)[0].tolist()
        raise ValueError(f"targets[{row}] has the id {ordered[row, place]} twice; give each target once")
    return np.require(ids, np.int64, ["C", "A"])


def excluded_ids(exclude: Any, num_rows: int, keep_tensor: bool, argument: str = "exclude") -> Any:
    """Return ids (B, E): an int64 array, or with ``keep_tensor`` a tensor if it is one."""
    if exclude is None:
        exclude = np.empty((num_rows, 0), dtype=np.int64)
    ids = tensor_or_integers(argument, exclude, keep_tensor)
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
    if not 0 <= integer("seed", seed) < 2**64:
        raise ValueError(f"seed is {seed}; expected 0 to 2**64 - 1")
    numbers = np.arange(num_rows) if rows is None else row_numbers(rows)
    check_length("rows", numbers, num_rows, "one number per row of scores")
    return natural(argument, count), integer("seed", seed), np.require(numbers, np.uint64, ["C", "A"])


def row_numbers(rows: Any) -> NDArray[Any]:
    """Numbers of rows, 0 to 2**64 - 1, in their own type."""
    numbers = as_array("rows", rows)
    if not numbers.size:
        return np.empty(numbers.shape, np.uint64)
    if numbers.dtype.kind not in "iu":
        raise ValueError(f"rows has dtype {numbers.dtype}; expected integers")
    if int(numbers.min()) < 0:
        raise ValueError(f"rows has the value {int(numbers.min())}; expected 0 or more")
    return numbers


def numbers_of(argument: str, values: Any, ids: Any, keep_tensor: bool) -> Any:
    """Return float32 numbers (B, E), one for each id; with ``keep_tensor``, tensors stay tensors."""
    numbers = tensor_or_float32(argument, values, keep_tensor)
    numbers = numbers.float() if is_tensor(numbers) else numbers
    numbers = numbers[:, None] if numbers.ndim == 1 else numbers
    if tuple(numbers.shape) != tuple(ids.shape):
        raise ValueError(
            f"{argument} has shape {tuple(numbers.shape)} and seen {tuple(ids.shape)}; "
            "give one number for each entry of seen"
        )
    return numbers


def temperature_values(temperatures: Any, count: int) -> NDArray[np.float64]:
    if temperatures is not None:
        check_real("temperatures", temperatures)
    given = np.ones(count) if temperatures is None else as_array("temperatures", temperatures)
    values: NDArray[np.float64] = np.ascontiguousarray(given, np.float64)
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
    if not hasattr(views, "__len__") or len(views) == 0:
        raise ValueError("views is empty or no list; give one score matrix or more")
    shape = matrix_shape("views[0]", views[0])
    for place, view in enumerate(views):
        if matrix_shape(f"views[{place}]", view) != shape:
            raise ValueError(
                f"views[{place}] has shape {matrix_shape(f'views[{place}]', view)} and views[0] {shape}; "
                "all views must have one shape"
            )
    return shape


def view_weights(weights: Any, num_views: int) -> NDArray[np.float32]:
    factors = as_float32("weights", weights)
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
    if not 0 <= integer(argument, value) < 2**63:
        raise ValueError(f"{argument} is {value}; expected 0 to 2**63 - 1")
    return integer(argument, value)


def thread_count(threads: int | None) -> int | None:
    if threads is None:
        return None
    if integer("threads", threads) < 1:
        raise ValueError(f"threads is {threads}; expected 1 or more, or None for all cores")
    # Beyond the limits of any system.
    at_most("threads", integer("threads", threads), 2**16, "a pool", "threads")
    return integer("threads", threads)


def overwritten_in_torch(scores: Any) -> bool:
    """Whether scores that are overwritten are no matter for the core: on a device, or not float32.

    Raises:
        ValueError: a tensor of integers.
    """
    if not is_tensor(scores):
        return False
    if not scores.is_floating_point():
        raise ValueError(f"scores has dtype {scores.dtype}; expected floating-point numbers to overwrite")
    return on_device(scores) or str(scores.dtype) != "torch.float32"


def loss_weights(weights: Any, in_torch: bool) -> Any:
    """Return the weights of positives: float32 for the core, as they are for torch."""
    if not in_torch:
        return as_float32("weights", weights)
    check_real("weights", weights)
    return weights if is_tensor(weights) else as_array("weights", weights)


def check_candidates(candidates: Any, num_rows: int, num_items: int) -> None:
    """Check the shape of the candidates of a loss: ids (B, C), or bits (B, ceil(V / 8))."""
    if candidates is None:
        return
    bits = str(candidates.dtype).removeprefix("torch.") == "uint8"
    shape = tuple(candidates.shape)
    expected = num_rows, -(-num_items // 8) if bits else shape[-1] if shape else 0
    if shape != expected:
        raise ValueError(
            f"candidates has shape {shape}; expected {expected}, one row of {'bits' if bits else 'ids'} "
            "for each row of scores"
        )


def check_range(argument: str, ids: Any, least: int, num_items: int) -> None:
    """Check that ids, an array or a tensor, are ``least`` to ``num_items - 1``."""
    if ids is None or 0 in ids.shape:
        return
    for found in (int(ids.min()), int(ids.max())):
        if not least <= found < num_items:
            raise ValueError(f"{argument} has the id {found}; expected {least} to {num_items - 1}")


def writeable(value: Any) -> Any:
    """The value, or a copy of a read-only array, about which torch would warn."""
    return value.copy() if isinstance(value, np.ndarray) and not value.flags.writeable else value
