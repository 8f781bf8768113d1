"""Systems without training: popularity, neighbours of items or sessions by counts, and text neighbours."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alterrec._core import ItemNeighbours, SessionNeighbours
from alterrec.data.times import units_per_day
from alterrec.models.base import RepeatScale, Tables
from alterrec.models.batches import SessionBatch
from alterrec.sessions import SessionStore

# Recent popularity counts the last days of training, or a last share if times have no known unit.
RECENT_DAYS = (7, 1, 3, 30)
RECENT_SHARES = (1 / 10, 1 / 30, 1 / 3)
# How many neighbours of an item are kept.
NEIGHBOURS = 500
# Weights of the items 1, 2, ... places after an item.
NEXT_FIRST = (3.0, 0.1, 0.1, 0.1, 0.1)
BY_DISTANCE = (1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 5)


class Untrained(ABC):
    """A system of one part whose scores come from counts, not from item vectors."""

    def __init__(self) -> None:
        self.weights = {"model": 1.0}
        self.scales: dict[str, RepeatScale] = {}
        self.removed: Tensor | None = None

    def prepare(self) -> dict[str, Tables]:
        """Return nothing: there are no item tables."""
        return {}

    @abstractmethod
    def scores(self, batch: SessionBatch) -> Tensor:
        """Scores (N, V) float32."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Return what a run folder stores; ``from_tensors`` of the class is the inverse."""

    def part_scores(self, batch: SessionBatch, tables: Mapping[str, Tables]) -> dict[str, Tensor]:
        return {"model": self.scores(batch)}

    def summands(self, parts: dict[str, Tensor], batch: SessionBatch) -> dict[str, Tensor]:
        return parts


class Popularity(Untrained):
    """Items by their number of interactions in training.

    Example:
        >>> batch = SessionBatch.of_prefixes(torch.tensor([[1]]), torch.tensor([1]))
        >>> Popularity(torch.tensor([3.0, 1.0])).scores(batch)
        tensor([[3., 1.]])
    """

    def __init__(self, counts_V: Tensor) -> None:
        super().__init__()
        self.counts_V = counts_V.to(torch.float32)

    @classmethod
    def candidates(cls, train: SessionStore) -> Iterator[Self]:
        yield cls(torch.from_numpy(train.item_counts()))

    def scores(self, batch: SessionBatch) -> Tensor:
        # A copy even for one row: callers overwrite scores.
        return self.counts_V.repeat(len(batch.length_N), 1)

    def tensors(self) -> dict[str, Tensor]:
        return {"counts": self.counts_V}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        return cls(tensors["counts"])


class RecentPopularity(Popularity):
    """Items by their number of interactions in the last part of training.

    The part is the last 7 days before the last interaction of training; on validation, 1, 3 and 30 days are
    tried too. If the sessions have no timestamps, or timestamps in an unknown unit such as ranks, it is the
    last tenth of the interactions, and a thirtieth and a third are tried. Interactions are ordered by their
    timestamps, and without them by the place of their session in the data. Items that were equally frequent
    in the part are ordered by their number of interactions in the whole training data.

    Example:
        >>> days = np.array([20_000, 20_001, 20_009, 20_010]) * 86_400
        >>> store = SessionStore.from_arrays([0, 0, 1, 1], [0, 0, 1, 2], timestamps=days, num_items=4)
        >>> week = next(RecentPopularity.candidates(store))
        >>> week.scores(SessionBatch.of_prefixes(torch.tensor([[1]]), torch.tensor([1])))
        tensor([[0.4000, 1.2000, 1.2000, 0.0000]])
    """

    @classmethod
    def candidates(cls, train: SessionStore) -> Iterator[Self]:
        counts_V = train.item_counts()
        below_one_V = counts_V / (train.num_interactions + 1)
        for items in _recent_items(train):
            yield cls(torch.from_numpy(np.bincount(items, minlength=train.num_items) + below_one_V))


class Trend(Untrained):
    """How much more often an item was seen recently than in all of training: a part of a sum.

    ``log((recent + 1) / (share * all + 1))``, where ``recent`` counts the interactions of an item in the last
    ``share`` of all interactions, ordered by time, and ``all`` those in training. Networks know how popular
    items are, but not that this changes.

    Example:
        >>> batch = SessionBatch.of_prefixes(torch.tensor([[1]]), torch.tensor([1]))
        >>> store = SessionStore.from_arrays([0, 0, 1, 1], [0, 0, 0, 1])
        >>> Trend.fit(store, share=0.5).scores(batch)
        tensor([[-0.2231,  0.2877]])
    """

    def __init__(self, trend_V: Tensor) -> None:
        super().__init__()
        self.trend_V = trend_V.to(torch.float32)

    @classmethod
    def fit(cls, train: SessionStore, share: float) -> Self:
        items = _by_time(train)[0]
        recent = items[len(items) - round(share * len(items)) :]
        recent_V = np.bincount(recent, minlength=train.num_items)
        return cls(torch.from_numpy(np.log((recent_V + 1) / (share * train.item_counts() + 1))))

    def scores(self, batch: SessionBatch) -> Tensor:
        return self.trend_V.repeat(len(batch.length_N), 1)

    def tensors(self) -> dict[str, Tensor]:
        return {"trend": self.trend_V}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        return cls(tensors["trend"])


def _recent_items(train: SessionStore) -> Iterator[NDArray[np.uint32]]:
    """Yield the items of the interactions that are recent, once for each definition of recent."""
    items, times = _by_time(train)
    day = None if times is None or not len(times) else units_per_day(int(times[-1]))
    if times is None or day is None:
        for share in RECENT_SHARES:
            yield items[len(items) - round(share * len(items)) :]
    else:
        for days in RECENT_DAYS:
            yield items[times > times[-1] - days * day]


def _by_time(train: SessionStore) -> tuple[NDArray[np.uint32], NDArray[np.int64] | None]:
    """Return the items by time, with their times; without times, in the order of the store and None."""
    items, times = train.items, train.timestamps
    if times is None:
        return items, None
    order = np.argsort(times, kind="stable")
    return items[order], times[order]


class NeighbourLists(Untrained):
    """Base class of systems that add up the neighbours of the items of a prefix.

    The score of item j is the sum, over the items i of the prefix, of ``decay`` ** (distance of i from the
    end) times the similarity of j to i.

    Args:
        neighbours: for each item some other items and their similarities to it.
        num_items: size of the catalogue.
        decay: 0 to 1; 1 counts all items of the prefix alike.
        offset: scores are the logs of the sums plus this offset, as a part of a sum with log probabilities.
            None: they are the sums.
    """

    def __init__(
        self, neighbours: ItemNeighbours, num_items: int, decay: float, offset: float | None = None
    ) -> None:
        super().__init__()
        self.neighbours = neighbours
        self.num_items = num_items
        self.decay = decay
        self.offset = offset

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "neighbours": self.neighbours.arrays()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        lists = ItemNeighbours.from_arrays(state["num_items"], *state["neighbours"])
        self.__dict__.update(state, neighbours=lists)

    def as_log(self, offset: float) -> Self:
        """Return the same system with the logs of its scores plus ``offset``."""
        return type(self)(self.neighbours, self.num_items, self.decay, offset)

    def as_sums(self) -> Self:
        """Return the same system with sums as its scores."""
        return type(self)(self.neighbours, self.num_items, self.decay)

    def with_items(self, near_NV: Any) -> Self:
        """Return the same system with N further items, each a mean of known items in all lists.

        Args:
            near_NV: weights of the known items, a sparse matrix of scipy.

        Example:
            >>> import scipy.sparse
            >>> knn = ItemKnn.fit(SessionStore.from_arrays([0, 0], [0, 1], num_items=2), 0.0, decay=1.0)
            >>> grown = knn.with_items(scipy.sparse.csr_matrix([[0.5, 0.0]]))  # half of item 0
            >>> grown.scores(SessionBatch.of_prefixes(torch.tensor([[1]]), torch.tensor([1])))
            tensor([[1.0000, 0.0000, 0.5000]])
        """
        import scipy.sparse  # type: ignore[import-untyped]

        offsets, ids, similarities = self.neighbours.arrays()
        known = scipy.sparse.csr_matrix((similarities, ids, offsets), shape=2 * (self.num_items,))
        ranked_VN = known @ near_NV.T
        whole = scipy.sparse.bmat(
            [[known, ranked_VN], [near_NV @ known, near_NV @ ranked_VN]], format="csr", dtype=np.float32
        )
        whole.sort_indices()
        total = len(whole.indptr) - 1
        lists = ItemNeighbours.from_arrays(
            total, whole.indptr.astype(np.int64), whole.indices.astype(np.uint32), whole.data
        )
        return type(self)(lists, total, self.decay, self.offset)

    def scores(self, batch: SessionBatch) -> Tensor:
        """Scores (N, V); sums of 0 for items that are no neighbour of an item of the prefix."""
        items_NL, length_N = batch.prefixes(pad=0).cpu().numpy(), batch.length_N.cpu().numpy()
        scores = torch.from_numpy(self.neighbours.scores(items_NL, length_N, self.decay))
        if self.offset is not None:
            scores = scores.add_(self.offset).log_()
        return scores.to(batch.items_RL.device)

    def of_session(self, items_L: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the scores (V,) of one session, as :meth:`scores` does for a batch."""
        scores_V = self.neighbours.scores(items_L[None], np.array([len(items_L)]), self.decay)[0]
        if self.offset is not None:
            np.log(np.add(scores_V, np.float32(self.offset), out=scores_V), out=scores_V)
        return scores_V

    def tensors(self) -> dict[str, Tensor]:
        offsets, ids, similarities = self.neighbours.arrays()
        log = {} if self.offset is None else {"log_offset": torch.tensor(self.offset, dtype=torch.float64)}
        return log | {
            "offsets": torch.from_numpy(offsets),
            "ids": torch.from_numpy(ids.astype(np.int64)),
            "similarities": torch.from_numpy(similarities),
            "decay": torch.tensor(self.decay, dtype=torch.float64),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        offsets = tensors["offsets"].numpy()
        ids = tensors["ids"].numpy().astype(np.uint32)
        num_items = len(offsets) - 1
        core = ItemNeighbours.from_arrays(num_items, offsets, ids, tensors["similarities"].numpy())
        offset = tensors["log_offset"].item() if "log_offset" in tensors else None
        return cls(core, num_items, tensors["decay"].item(), offset)


class ItemKnn(NeighbourLists):
    """Items that share training sessions with the prefix's items, recent ones counting more.

    ``sum over prefix items of decay ** distance from the end * c_ij / (sqrt(c_i c_j) + shrinkage)``
    with c counted in sessions.

    Example:
        >>> store = SessionStore.from_arrays(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 2]))
        >>> knn = ItemKnn.fit(store, shrinkage=0.0, decay=0.5)
        >>> knn.scores(SessionBatch.of_prefixes(torch.tensor([[1]]), torch.tensor([1]))).argmax().item()
        0
    """

    @classmethod
    def candidates(cls, train: SessionStore) -> Iterator[Self]:
        for shrinkage in (0.0, 10.0, 50.0):
            first = cls.fit(train, shrinkage, decay=1.0)
            for decay in (0.5, 0.7, 0.8, 0.9, 1.0):
                yield cls(first.neighbours, train.num_items, decay)

    @classmethod
    def fit(cls, train: SessionStore, shrinkage: float, decay: float, k: int = NEIGHBOURS) -> Self:
        """The ``k`` nearest neighbours of every item."""
        return cls(ItemNeighbours(train, k, shrinkage), train.num_items, decay)


class Covisitation(NeighbourLists):
    """Items that were visited shortly after or before the prefix's items, recent ones counting more.

    ``sum over prefix items i of decay ** distance from the end
    * sum_d after_d (n_d(i, j) + backward * n_d(j, i)) / n(i)``,
    where n_d(i, j) counts how often j was d places after i in a training session, and n(i) how often i
    occurred. ``after`` is 3 for the next place and 0.1 for the four places behind it, or 1 / d for the first
    five places; ``backward`` is 0.1, 0.5 or 1. Validation chooses among these.

    Such counts are among the candidate lists of the solutions that won the KDD Cup 2023 on Amazon-M2
    ("Winning Amazon KDD Cup'23", KDD Cup 2023).

    Example:
        >>> store = SessionStore.from_arrays([0, 0, 0], [0, 1, 2])
        >>> model = Covisitation.fit(store, after=(3.0, 0.1), backward=0.5, decay=0.5)
        >>> model.scores(SessionBatch.of_prefixes(torch.tensor([[0, 1]]), torch.tensor([2])))
        tensor([[1.5000, 1.5000, 3.0500]])
    """

    @classmethod
    def candidates(cls, train: SessionStore) -> Iterator[Self]:
        for after in (NEXT_FIRST, BY_DISTANCE):
            for backward in (0.1, 0.5, 1.0):
                first = cls.fit(train, after, backward, decay=0.5)
                for decay in (0.3, 0.5, 0.8):
                    yield cls(first.neighbours, train.num_items, decay)

    @classmethod
    def fit(cls, train: SessionStore, after: Sequence[float], backward: float, decay: float) -> Self:
        """Count with weights ``after`` of the places after an item, and ``backward`` times them before it."""
        before = [backward * weight for weight in after]
        return cls(ItemNeighbours.covisited(train, NEIGHBOURS, after, before), train.num_items, decay)


class SessionKnn(Untrained):
    """V-SKNN: items of the training sessions most similar to the prefix, late items counting more.

    Ludewig and Jannach, "Evaluation of session-based recommendation algorithms", UMUAI 2018.

    Example:
        >>> store = SessionStore.from_arrays(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 2]))
        >>> knn = SessionKnn(store, k=1)
        >>> knn.scores(SessionBatch.of_prefixes(torch.tensor([[1]]), torch.tensor([1])))[0, 2].item()
        0.0
    """

    def __init__(self, train: SessionStore, k: int) -> None:
        super().__init__()
        self.train = train
        self.k = k
        self.neighbours = SessionNeighbours(train, k)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "neighbours"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, neighbours=SessionNeighbours(state["train"], state["k"]))

    @classmethod
    def candidates(cls, train: SessionStore) -> Iterator[Self]:
        for k in (100, 500):
            yield cls(train, k)

    def scores(self, batch: SessionBatch) -> Tensor:
        """Scores (N, V); 0 for items of no neighbour session."""
        items_NL, length_N = batch.prefixes(pad=0).cpu().numpy(), batch.length_N.cpu().numpy()
        return torch.from_numpy(self.neighbours.scores(items_NL, length_N)).to(batch.items_RL.device)

    def tensors(self) -> dict[str, Tensor]:
        """Return what a run folder stores: the training sessions, which are the model."""
        return {
            "lengths": torch.from_numpy(self.train.lengths),
            "items": torch.from_numpy(self.train.items.astype(np.int64)),
            "num_items": torch.tensor(self.train.num_items),
            "k": torch.tensor(self.k),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        lengths = tensors["lengths"].numpy()
        sessions = np.repeat(np.arange(len(lengths)), lengths)
        num_items = int(tensors["num_items"])
        train = SessionStore.from_arrays(sessions, tensors["items"].numpy(), num_items=num_items)
        return cls(train, int(tensors["k"]))


class TextNeighbours(Untrained):
    """Items whose text vectors are nearest to that of the prefix's last item, by cosine.

    An item without text has a vector of zeros and so the cosine 0 with all; where it is the last one, all
    others tie.

    Example:
        >>> near = TextNeighbours(torch.tensor([[1.0, 0.0], [2.0, 0.2], [0.0, 1.0]]))
        >>> near.scores(SessionBatch.of_prefixes(torch.tensor([[2, 0]]), torch.tensor([2]))).argsort()
        tensor([[0, 2, 1]])
    """

    def __init__(self, vectors_VF: Tensor) -> None:
        super().__init__()
        self.vectors_VF = torch.nn.functional.normalize(vectors_VF.to(torch.float32), dim=1)

    def scores(self, batch: SessionBatch) -> Tensor:
        """Cosines (N, V); the last item itself, nearest of all, is put last."""
        items_NL, length_N = batch.prefixes(pad=0), batch.length_N
        last_N = items_NL.gather(1, length_N[:, None] - 1)[:, 0]
        scores_NV = self.vectors_VF[last_N] @ self.vectors_VF.T
        return scores_NV.scatter(1, last_N[:, None], -1.0)

    def tensors(self) -> dict[str, Tensor]:
        return {"vectors": self.vectors_VF}


class Blend(Untrained):
    """Two systems' scores, each over its own largest in a row, summed by weight.

    Example:
        >>> first, second = Popularity(torch.tensor([4.0, 2.0])), Popularity(torch.tensor([0.0, 1.0]))
        >>> batch = SessionBatch.of_prefixes(torch.tensor([[1]]), torch.tensor([1]))
        >>> Blend(first, second, 0.5).scores(batch)
        tensor([[1., 1.]])
    """

    def __init__(self, first: Untrained, second: Untrained, weight: float) -> None:
        super().__init__()
        self.first, self.second, self.weight = first, second, weight

    def scores(self, batch: SessionBatch) -> Tensor:
        first_NV, second_NV = (_unit(part.scores(batch)) for part in (self.first, self.second))
        return first_NV + self.weight * second_NV

    def tensors(self) -> dict[str, Tensor]:
        parts = {"first": self.first, "second": self.second}
        return {
            f"{name}/{key}": value for name, part in parts.items() for key, value in part.tensors().items()
        }


def _unit(scores_NV: Tensor) -> Tensor:
    return scores_NV / scores_NV.amax(1, keepdim=True).clamp_min(1e-12)
