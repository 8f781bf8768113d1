"""The types in `_core.pyi` are those that the compiled core takes and gives.

stubtest compares names, kinds and defaults; it cannot see types, for the core has none at run time.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike

import alterrec
from alterrec import _core
from alterrec.models.service_scores import AskedSessions

STUB = Path(alterrec.__file__).with_name("_core.pyi")
NAMES: dict[str, Any] = {}
exec(compile("from __future__ import annotations\n" + STUB.read_text("utf-8"), STUB, "exec"), NAMES)

F32, I64 = np.zeros((3, 8), np.float32), np.zeros((3, 4), np.int64)
ODDS = np.zeros((3, 4), np.float32)
IDS, NONE = np.zeros(3, np.int64), np.zeros((3, 0), np.int64)
CUTS = (np.full((3, 2), 0x7FFFFF), *[np.zeros((3, 2), np.int64)] * 2)
DRAW = (4, 1, np.zeros(3, np.uint64))
STORE = _core.SessionStore.from_arrays([0, 0, 0, 1, 1], [4, 2, 3, 0, 1], timestamps=[1] * 5, user_ids=[6] * 5)
BARE = _core.SessionStore.from_arrays([0, 0], [1, 0])
COLUMNS = (5, STORE.offsets, STORE.items, STORE.session_ids, STORE.timestamps, STORE.users)
PLAN = _core.EpochPlan(
    STORE,
    2,
    9,
    shuffle=False,
    bucket=False,
    by_session=True,
    seed=0,
    epoch=0,
    shard=(0, 1),
    targets="every",
    per_session=None,
    samples=None,
)
ROWS, WIDTH, TOTAL = PLAN.sizes()[0]
_, SHARED, LONGEST = PLAN.session_sizes()[0]
FLAT = np.zeros(5 * ROWS, np.int64)
ITEMS = _core.ItemNeighbours(STORE, 2)
SESSIONS = _core.SessionNeighbours(STORE, 2)
TABLE = np.zeros((5, 1), np.float32)
SUM = _core.ScoreSum(
    [_core.QueryTable(TABLE, TABLE, True)], [1.0], None, NONE[0], (ITEMS, 0.5, None, 1.0), None
)
TWO = np.array([0, 1, 2])
ASKED = AskedSessions(TWO, IDS[:2], TWO, IDS[:2], [F32[0, :2]], [None], [None], None, True, None, None)


def int64(size: int) -> np.ndarray[Any, Any]:
    return np.zeros(size, np.int64)


# A call that works, of everything that takes arguments.
CALLS: list[tuple[str, Any, tuple[Any, ...]]] = [
    ("rank_window", _core, (F32, 1, 5, NONE, None, 1, I64.copy())),
    ("rank_window", _core, (F32, 1, 5, NONE, DRAW, 1, I64.copy())),
    ("rank_window_mask", _core, (F32, 1, 5, NONE, 1, np.zeros(F32.shape, np.bool_))),
    ("rank_window_bits", _core, (F32, 1, 5, NONE, 1, np.zeros((3, 1), np.uint8))),
    ("key_counts", _core, (F32, I64[:, :2].copy(), 8, NONE, 1, np.zeros((3, 2 * 256), np.int64))),
    ("cut_window_bits", _core, (F32, CUTS, NONE, 1, np.zeros((3, 1), np.uint8))),
    ("cut_window_members", _core, (F32, CUTS, NONE, I64 - 1, 1, I64.copy())),
    ("cross_entropy", _core, (F32.copy(), IDS[:, None], np.ones(1, np.float32), None, NONE, 1.0, 1.0, 1)),
    ("cross_entropy", _core, (F32.copy(), IDS[:, None], np.ones(1, np.float32), I64, NONE, 1.0, 1.0, 1)),
    ("softmax", _core, (F32.copy(), NONE, None, 1)),
    ("softmax", _core, (F32.copy(), NONE, np.zeros((3, 1), np.uint8), 1)),
    ("mixture_cross_entropy", _core, (F32.copy(), I64, ODDS, I64, ODDS[0], NONE, None, 1.0, 1)),
    ("mark", _core, (np.zeros((3, 1), np.uint8), IDS, IDS)),
    ("mixture_scores", _core, (F32, I64, ODDS, 1, F32.copy())),
    ("top_ranked", _core, (F32, 4, NONE, None, I64.copy())),
    ("target_counts", _core, (F32, IDS, NONE, True, 1)),
    ("fused_target_counts", _core, ([F32, F32], np.ones(2, np.float32), IDS, NONE, True, 1)),
    ("seen_target_counts", _core, ([F32, F32], np.ones(2, np.float32), IDS, I64, [ODDS] * 3, np.ones(3), 1)),
    ("seen_target_counts", _core, ([F32, F32], np.ones(2, np.float32), IDS, I64, None, np.ones(3), 1)),
    ("repeat_scores", _core, (F32, I64, ODDS, 1.0, 1)),
    ("log_normaliser", _core, (F32, I64, np.ones(2), 1)),
    ("window_positions", _core, (DRAW, 9, 1, I64.copy())),
    ("uniform_items", _core, (DRAW, 9, 1, I64.copy())),
    ("random_words", _core, (1, IDS, IDS, 1, np.zeros((3, 2), np.uint64))),
    ("instruction_sets", _core, ()),
    ("use_instructions", _core, (None,)),
    ("derive_seed", _core, (1, [2, 3])),
    ("SessionStore.from_arrays", STORE, ([0, 0], [1, 0])),
    ("SessionStore._from_columns", STORE, COLUMNS),
    ("SessionStore.session", STORE, (0,)),
    ("SessionStore.item_counts", STORE, ()),
    ("SessionStore.repeat_share", STORE, ()),
    ("SessionStore.prefixes", STORE, ("last",)),
    ("EpochPlan.sizes", PLAN, ()),
    ("EpochPlan.fill_padded", PLAN, (0, 0, FLAT, int64(ROWS * WIDTH))),
    ("EpochPlan.fill_packed", PLAN, (0, FLAT, int64(TOTAL), int64(TOTAL), int64(ROWS + 1))),
    ("EpochPlan.session_sizes", PLAN, ()),
    ("EpochPlan.fill_sessions", PLAN, (0, 0, FLAT, int64(ROWS), int64(SHARED * LONGEST))),
    ("ItemNeighbours.covisited", ITEMS, (STORE, 3, [1.0], [0.5])),
    ("ItemNeighbours.arrays", ITEMS, ()),
    ("ItemNeighbours.from_arrays", ITEMS, (5, *ITEMS.arrays())),
    ("ItemNeighbours.scores", ITEMS, ([[1]], [1], 0.5)),
    ("SessionNeighbours.scores", SESSIONS, ([[1]], [1])),
    ("ScoreSum.best", SUM, (ASKED, 2, 1)),
    ("ScoreSum.scores", SUM, (ASKED, [IDS[:1], IDS[:1]], 1)),
    ("cut_sessions", _core, (np.array([1, 0, 1], np.uint32), IDS, 9, 1)),
    ("IdNumbers.number", _core.IdNumbers(), (b"aba", np.array([1, 1, 1], np.uint32))),
    ("cut_sessions", _core, ([1, 0, 1], None, None, None)),
    ("session_graphs", _core, ([[1, 2]], [2], 3)),
    ("transition_graph", _core, (STORE, 2)),
]
# The tests of stores write and open files; constructors have been called above.
ELSEWHERE = {"SessionStore.open", "SessionStore.save"}


def stub_of(path: str) -> Any:
    owner, _, name = path.rpartition(".")
    return vars(NAMES[owner])[name] if owner else NAMES[name]


def hints_of(function: Any) -> dict[str, Any]:
    return typing.get_type_hints(inspect.unwrap(getattr(function, "__func__", function)), NAMES)


def dtype_of(hint: Any) -> np.dtype[Any] | None:
    """The dtype of an `NDArray[...]`, else None."""
    if typing.get_origin(hint) is not np.ndarray:
        return None
    return np.dtype(typing.get_args(typing.get_args(hint)[1])[0])


def conforms(value: Any, hint: Any) -> bool:
    """Whether a value is of a type; for the types that the stub uses."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if (dtype := dtype_of(hint)) is not None:
        return isinstance(value, np.ndarray) and value.dtype == dtype
    if origin is tuple:
        return isinstance(value, tuple) and all(map(conforms, value, parts))
    if origin in (list, Sequence):
        return isinstance(value, list) and all(conforms(part, parts[0]) for part in value)
    if origin in (types.UnionType, typing.Union):
        return any(conforms(value, part) for part in parts)
    # The stub's own classes stand for those of the core.
    return type(value) is getattr(_core, getattr(hint, "__name__", ""), hint)


def other_dtypes(value: Any, hint: Any) -> list[Any]:
    """The value with one of its arrays in another dtype, where the type says which dtype it has."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint in (ArrayLike, ArrayLike | None):
        return []
    if dtype_of(hint) is not None:
        assert conforms(value, hint), value
        return [value.astype(np.int16)]
    if origin in (types.UnionType, typing.Union):
        assert conforms(value, hint), value
        return [other for part in parts if conforms(value, part) for other in other_dtypes(value, part)]
    if origin is tuple:
        pairs = list(zip(value, parts, strict=True))
        changes = [(place, other) for place, pair in enumerate(pairs) for other in other_dtypes(*pair)]
        return [(*value[:place], other, *value[place + 1 :]) for place, other in changes]
    if origin is Sequence and dtype_of(parts[0]) is not None:
        return [[value[0], *other_dtypes(value[1], parts[0]), *value[2:]]]
    return []


def bound(name: str, owner: Any) -> Callable[..., Any]:
    return typing.cast(Callable[..., Any], getattr(owner, name.rpartition(".")[2]))


@pytest.mark.parametrize(("name", "owner", "arguments"), CALLS, ids=[call[0] for call in CALLS])
def test_results_are_of_the_stubs_types(name: str, owner: Any, arguments: tuple[Any, ...]) -> None:
    result = bound(name, owner)(*arguments)
    assert conforms(result, hints_of(stub_of(name))["return"]), result


@pytest.mark.parametrize(("name", "owner", "arguments"), CALLS, ids=[call[0] for call in CALLS])
def test_arrays_of_another_type_than_the_stubs_are_refused(
    name: str, owner: Any, arguments: tuple[Any, ...]
) -> None:
    function, hints = bound(name, owner), hints_of(stub_of(name))
    for place, parameter in enumerate(inspect.signature(function).parameters):
        if place == len(arguments):
            break
        for other in other_dtypes(arguments[place], hints[parameter]):
            with pytest.raises(TypeError):
                function(*arguments[:place], other, *arguments[place + 1 :])


@pytest.mark.parametrize("owner", [STORE, BARE, PLAN], ids=["store", "bare store", "plan"])
def test_properties_are_of_the_stubs_types(owner: Any) -> None:
    stub = NAMES[type(owner).__name__]
    properties = {name: value.fget for name, value in vars(stub).items() if isinstance(value, property)}
    assert properties
    for name, getter in properties.items():
        assert conforms(getattr(owner, name), hints_of(getter)["return"]), name


def test_every_function_and_method_is_called() -> None:
    functions = {name for name in _core.__all__ if inspect.isbuiltin(getattr(_core, name))}
    classes = [getattr(_core, name) for name in _core.__all__ if isinstance(getattr(_core, name), type)]
    methods = {
        f"{owner.__name__}.{name}"
        for owner in classes
        for name in vars(owner)
        if callable(getattr(owner, name)) and not name.startswith("__")
    }
    assert functions | methods == {call[0] for call in CALLS} | ELSEWHERE


def test_another_type_does_not_conform() -> None:
    hint = hints_of(stub_of("SessionStore.session"))["return"]
    assert conforms(np.zeros(1, np.uint32), hint)
    assert not conforms(np.zeros(1, np.int64), hint)
    assert not conforms([0], hint)
