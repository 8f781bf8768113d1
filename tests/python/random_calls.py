"""Calls of the public kernels with random arguments, most of which are wrong in one place."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from alterrec import list_metrics, metrics, ranking
from alterrec.graphs import session_graphs, transition_graph
from alterrec.logs import IdNumbers, cut_sessions
from alterrec.sessions import PrefixBatches, SessionStore, derive_seed, random_words

Rng = np.random.Generator
DTYPES = ("f2", "f4", "f8", ">f4", "i1", "i4", "i8", "u1", "u2", "u8", "?", "c8", "O", "M8[s]", "U2")
NUMBERS = (
    -(2**70),
    -1,
    0,
    1,
    2,
    3,
    7,
    2**31,
    2**60,
    2**63,
    2**64 - 1,
    2**70,
    1.5,
    None,
    "2",
    True,
    np.int8(2),
    [],
)


def number(rng: Rng, low: int, high: int) -> Any:
    return int(rng.integers(low, high + 1)) if rng.random() < 0.9 else NUMBERS[rng.integers(len(NUMBERS))]


def scores(rng: Rng, rows: int, columns: int) -> Any:
    values = rng.normal(size=(rows, columns)).round(1)
    if rng.random() < 0.1 and values.size:
        values.flat[rng.integers(values.size)] = rng.choice([np.nan, np.inf, -np.inf, 1e39, -0.0, 1e-46])
    with np.errstate(over="ignore"):
        return changed(rng, values.astype("f4" if rng.random() < 0.7 else "f8"))


def ids(rng: Rng, shape: tuple[int, ...], low: int, high: int) -> Any:
    values = rng.integers(low, max(high, low + 1), shape)
    if rng.random() < 0.1 and values.size:
        values.flat[rng.integers(values.size)] = rng.choice([-2, -1, 10**6, 2**62, -(2**63)])
    return changed(rng, values)


def changed(rng: Rng, values: np.ndarray) -> Any:
    """The array as another type, shape, layout or container; half of the time as it is."""
    kind = rng.integers(24)
    if kind == 0:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with np.errstate(all="ignore"):
                return values.astype(DTYPES[rng.integers(len(DTYPES))])
    if kind == 1:
        return values.tolist()
    if kind == 2:
        return np.asfortranarray(values)
    if kind == 3:
        return values[::-1]
    if kind == 4:
        return np.repeat(values, 2, axis=-1)[..., ::2] if values.ndim else values
    if kind == 5:
        values = values.copy()
        values.flags.writeable = False
        return values
    if kind == 6:
        return np.ma.masked_array(values, rng.random(values.shape) < 0.5)
    if kind == 7:
        return values[..., None] if rng.random() < 0.5 else values.ravel()
    if kind == 8:
        return values[:0]
    if kind == 9:
        return np.array([2**64 - 1] * len(values), np.uint64) if values.ndim else values
    if kind == 10:
        return [None, "abc", 7, [[1], [1, 2]], object(), {}][rng.integers(6)]
    if kind in (11, 12):
        return torch.from_numpy(values.copy())
    if kind == 13:
        tensor = torch.from_numpy(values.copy())
        return (tensor.to("meta"), tensor.to_sparse(), tensor.bool(), tensor.to(torch.bfloat16))[
            rng.integers(4)
        ]
    if kind == 14 and values.dtype.kind == "f":
        return torch.from_numpy(values.copy()).requires_grad_()
    return values


class Calls:
    """Random calls by name, from one generator."""

    def __init__(self, rng: Rng) -> None:
        self.rng = rng
        self.rows, self.items = int(rng.integers(0, 4)), int(rng.integers(1, 12))

    def keywords(self, **values: Callable[[], Any]) -> dict[str, Any]:
        """Some of the optional arguments."""
        return {name: make() for name, make in values.items() if self.rng.random() < 0.4}

    def scores(self) -> Any:
        return scores(self.rng, self.rows, self.items)

    def excluded(self) -> Any:
        return ids(self.rng, (self.rows, int(self.rng.integers(0, 3))), -1, self.items)

    def targets(self, columns: int | None = None) -> Any:
        return ids(self.rng, (self.rows,) if columns is None else (self.rows, columns), 0, self.items)

    def number(self, high: int) -> Any:
        return number(self.rng, 0, high)

    def reals(self, *shape: int) -> Any:
        return changed(self.rng, self.rng.random(shape))

    def bits(self) -> Any:
        return changed(self.rng, self.rng.integers(0, 256, (self.rows, -(-self.items // 8))).astype(np.uint8))

    def store(self) -> SessionStore:
        count = int(self.rng.integers(0, 20))
        users = self.rng.integers(-1, 3, 5)
        names = self.rng.integers(0, 5, count)
        own = {"user_ids": users[names]} if self.rng.random() < 0.5 else {}
        return SessionStore.from_arrays(
            names, self.rng.integers(0, self.items, count), num_items=self.items, **own
        )

    def window(self) -> tuple[Any, ...]:
        return self.scores(), self.number(3), self.number(self.items)

    def call(self, name: str) -> Any:
        """Call one function."""
        return getattr(self, f"call_{name}")()

    def call_rank_window(self) -> Any:
        draw = self.keywords(sample=lambda: self.number(3), seed=lambda: self.number(9), rows=self.targets)
        threads = self.keywords(threads=lambda: [1, 2, None, 0, -1, 1.5, 2**70][self.rng.integers(7)])
        return ranking.rank_window(*self.window(), **self.keywords(exclude=self.excluded), **draw, **threads)

    def call_rank_window_mask(self) -> Any:
        return ranking.rank_window_mask(*self.window(), **self.keywords(exclude=self.excluded))

    def call_rank_window_bits(self) -> Any:
        return ranking.rank_window_bits(*self.window(), **self.keywords(exclude=self.excluded))

    def call_top_ranked(self) -> Any:
        return ranking.top_ranked(
            self.scores(), self.number(self.items), **self.keywords(exclude=self.excluded)
        )

    def rule(self) -> Any:
        return ["missed", "ranked", "other", None][self.rng.integers(4)]

    def call_target_counts(self) -> Any:
        more = self.keywords(exclude=self.excluded, excluded_target=self.rule)
        return ranking.target_counts(self.scores(), self.one_or_several(), **more)

    def one_or_several(self) -> Any:
        """Targets, one for each row or several of them with padding."""
        if self.rng.random() < 0.5:
            return self.targets()
        return ids(self.rng, (self.rows, int(self.rng.integers(0, 3))), -1, self.items)

    def views(self) -> Any:
        return [self.scores() for _ in range(self.rng.integers(0, 3))]

    def call_fused_target_counts(self) -> Any:
        views = self.views()
        more = self.keywords(exclude=self.excluded, excluded_target=self.rule)
        return ranking.fused_target_counts(views, self.reals(len(views)), self.targets(), **more)

    def call_seen_target_counts(self) -> Any:
        views, seen = self.views(), self.excluded()
        shape = np.shape(seen) if isinstance(seen, np.ndarray) else (self.rows, 1)
        more = self.keywords(
            log_odds=lambda: self.reals(*shape), temperatures=lambda: self.reals(len(views) + 1)
        )
        return ranking.seen_target_counts(views, self.reals(len(views)), self.targets(), seen, **more)

    def call_repeat_scores(self) -> Any:
        seen = self.excluded()
        shape = np.shape(seen) if isinstance(seen, np.ndarray) else (self.rows, 1)
        temperature = self.keywords(
            temperature=lambda: [1.0, 0.0, -1, 1e300, np.nan, "1"][self.rng.integers(6)]
        )
        return ranking.repeat_scores(self.scores(), seen, self.reals(*shape), **temperature)

    def call_log_normaliser(self) -> Any:
        return ranking.log_normaliser(
            self.scores(), self.excluded(), self.reals(int(self.rng.integers(0, 3)))
        )

    def factor(self) -> Any:
        return [1.0, 0, -2, 0.5, np.inf, 1e300, "1", None][self.rng.integers(8)]

    def candidates(self) -> Any:
        return self.bits() if self.rng.random() < 0.5 else self.excluded()

    def call_cross_entropy_(self) -> Any:
        columns = int(self.rng.integers(0, 3))
        more = self.keywords(
            candidates=self.candidates, exclude=self.excluded, each=self.factor, factor=self.factor
        )
        return ranking.cross_entropy_(self.scores(), self.targets(columns), self.reals(columns), **more)

    def call_softmax_(self) -> Any:
        return ranking.softmax_(self.scores(), **self.keywords(exclude=self.excluded, candidates=self.bits))

    def mixed(self) -> Any:
        return ids(self.rng, (2, 2), -1, max(self.rows, 1))

    def call_mixture_cross_entropy_(self) -> Any:
        positives = ids(self.rng, (2, 1), 0, self.items)
        more = self.keywords(exclude=self.excluded, candidates=self.bits, factor=self.factor)
        arguments = self.scores(), self.mixed(), self.reals(2, 2), positives, self.reals(1)
        return ranking.mixture_cross_entropy_(*arguments, **more)

    def call_mixture_scores(self) -> Any:
        more = self.keywords(out=lambda: changed(self.rng, np.zeros((2, self.items), np.float32)))
        return ranking.mixture_scores(self.scores(), self.mixed(), self.reals(2, 2), **more)

    def call_mark_(self) -> Any:
        return ranking.mark_(
            self.bits(), ids(self.rng, (3,), -1, self.rows), ids(self.rng, (3,), -1, self.items)
        )

    def call_uniform_items(self) -> Any:
        seed = self.keywords(seed=lambda: self.number(9))
        # A count that only the memory of a larger machine could hold raises MemoryError.
        count = int(self.rng.choice([0, 1, 5, -1, 2**62]))
        return ranking.uniform_items(self.targets(), count, self.number(9), **seed)

    def call_from_arrays(self) -> Any:
        size = int(self.rng.integers(0, 9))
        column = lambda: ids(self.rng, (size,), 0, 5)  # noqa: E731
        more = self.keywords(timestamps=column, user_ids=column, num_items=lambda: self.number(9))
        return SessionStore.from_arrays(column(), column(), **more)

    def call_prefix_batches(self) -> Any:
        more = self.keywords(
            shuffle=lambda: bool(self.rng.integers(2)),
            seed=lambda: self.number(9),
            epoch=lambda: self.number(9),
            shard=lambda: (self.number(2), self.number(3)),
            targets=lambda: ["every", "last", "first", None][self.rng.integers(4)],
            per_session=lambda: self.number(3),
            samples=lambda: ids(self.rng, (2, 2), 0, 4),
            layout=lambda: ["padded", "packed", "by_session", "other"][self.rng.integers(4)],
            pad=lambda: self.number(3),
        )
        return list(PrefixBatches(self.store(), self.number(9), self.number(9), **more))

    def call_id_numbers(self) -> Any:
        lengths = self.rng.integers(0, 3, 4).astype(np.uint32)
        return IdNumbers().number(b"lamp", lengths)

    def call_cut_sessions(self) -> Any:
        size = int(self.rng.integers(0, 9))
        column = lambda: ids(self.rng, (size,), 0, 5)  # noqa: E731
        more = self.keywords(timestamps=column, gap=lambda: self.number(9), threads=lambda: self.number(2))
        return cut_sessions(column(), **more)

    def call_derive_seed(self) -> Any:
        return derive_seed(self.number(9), *[self.number(9) for _ in range(self.rng.integers(0, 3))])

    def call_random_words(self) -> Any:
        numbers, places = (ids(self.rng, (3,), 0, 9) for _ in range(2))
        return random_words(numbers, places, self.number(5), seed=self.number(9))

    def call_session_graphs(self) -> Any:
        items, lengths = ids(self.rng, (2, 3), 0, 9), ids(self.rng, (2,), 1, 4)
        return session_graphs(items, lengths, self.number(9))

    def call_transition_graph(self) -> Any:
        return transition_graph(self.store(), self.number(5))

    def call_metrics(self) -> Any:
        names = ["ndcg@20", "mrr", "hits@3", "hits", "ndcg@0", "x"]
        ties = self.keywords(
            ties=lambda: ["expected", "optimistic", "pessimistic", "x"][self.rng.integers(4)]
        )
        chosen = names[: self.rng.integers(1, 7)]
        return metrics.metrics(self.one_or_several(), self.one_or_several(), chosen, **ties)

    def call_standard_name(self) -> Any:
        return metrics.standard_name(["HR@5", "map", "gini@2", "gini", "x@1", "hits@"][self.rng.integers(6)])

    def list_arguments(self) -> tuple[Any, ...]:
        names = ["coverage@2", "gini@1", "novelty@2", "diversity@2", "popularity_bias@1", "gini@0"]
        num_items = [*[self.items] * 9, self.items + 1, 1.5, None, "2", -1, 2**60][self.rng.integers(15)]
        return names[: self.rng.integers(0, 7)], num_items

    def call_list_metrics(self) -> Any:
        more = self.keywords(
            train_counts=lambda: self.reals(self.items),
            vectors=lambda: self.reals(self.items, 2),
            targets=self.targets,
        )
        return list_metrics.list_metrics(self.targets(2), *self.list_arguments(), **more)

    def call_scores_to_lists(self) -> Any:
        more = {"train_counts": self.reals(self.items), "vectors": self.reals(self.items, 2)}
        measured = list_metrics.ListMetrics(self.list_arguments()[0], self.items, **more)
        measured.add_scores(self.scores(), self.targets(), **self.keywords(exclude=self.excluded))
        return measured.values()


NAMES = tuple(name.removeprefix("call_") for name in vars(Calls) if name.startswith("call_"))
