"""The compiled core; use `alterrec.ranking` and `alterrec.sessions`, which check and convert."""

from collections.abc import Sequence
from os import PathLike
from typing import ClassVar, Literal, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "EpochPlan",
    "ItemNeighbours",
    "SessionNeighbours",
    "SessionStore",
    "__version__",
    "cross_entropy",
    "derive_seed",
    "fused_target_counts",
    "instruction_sets",
    "rank_window",
    "rank_window_bits",
    "rank_window_mask",
    "session_graphs",
    "target_counts",
    "top_ranked",
    "transition_graph",
    "uniform_items",
    "use_instructions",
    "window_positions",
]

__version__: str

# Sessions and neighbours.

@final
class SessionStore:
    """Sessions of items, stored as one column of items and the offset of each session; immutable."""

    __hash__: ClassVar[None]  # type: ignore[assignment]
    @staticmethod
    def from_arrays(
        session_ids: ArrayLike,
        item_ids: ArrayLike,
        *,
        timestamps: ArrayLike | None = None,
        user_ids: ArrayLike | None = None,
        num_items: int | None = None,
    ) -> SessionStore:
        """Groups interactions into sessions; rows of a session need not lie together."""
    @staticmethod
    def _from_columns(
        num_items: int,
        offsets: NDArray[np.int64],
        items: NDArray[np.uint32],
        session_ids: NDArray[np.int64],
        timestamps: NDArray[np.int64] | None,
        users: NDArray[np.int64] | None,
    ) -> SessionStore: ...
    @staticmethod
    def open(path: str | PathLike[str]) -> SessionStore:
        """Opens a file written by ``save``, memory-mapped."""
    def save(self, path: str | PathLike[str]) -> None:
        """Writes the store to a file, all or not at all."""
    @property
    def num_sessions(self) -> int: ...
    @property
    def num_interactions(self) -> int: ...
    @property
    def num_items(self) -> int: ...
    @property
    def has_timestamps(self) -> bool: ...
    @property
    def has_users(self) -> bool: ...
    @property
    def offsets(self) -> NDArray[np.int64]: ...
    @property
    def items(self) -> NDArray[np.uint32]: ...
    @property
    def session_ids(self) -> NDArray[np.int64]: ...
    @property
    def timestamps(self) -> NDArray[np.int64] | None: ...
    @property
    def users(self) -> NDArray[np.int64] | None: ...
    @property
    def lengths(self) -> NDArray[np.int64]: ...
    def session(self, index: int) -> NDArray[np.uint32]:
        """The items of the session at an index."""
    def item_counts(self) -> NDArray[np.int64]:
        """(V,) how often each item occurs."""
    def repeat_share(self) -> float:
        """The share of targets (every prefix) that occur in their prefix already."""
    def prefixes(self, targets: Literal["every", "last"] = "every") -> NDArray[np.int64]:
        """(P, 2) rows (session index, end)."""
    def __len__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...

@final
class EpochPlan:
    """The samples of one epoch and shard in their order, cut into batches; fills arrays with them."""

    def __new__(
        cls,
        store: SessionStore,
        batch_size: int,
        max_len: int,
        *,
        shuffle: bool,
        bucket: bool,
        by_session: bool,
        seed: int,
        epoch: int,
        shard: tuple[int, int],
        targets: str,
        per_session: int | None,
        samples: ArrayLike | None,
    ) -> EpochPlan: ...
    @property
    def num_batches(self) -> int: ...
    @property
    def num_samples(self) -> int: ...
    def sizes(self) -> list[tuple[int, int, int]]:
        """For each batch: rows, items kept of its longest prefix, items kept of all its prefixes."""
    def fill_padded(self, batch: int, pad: int, rows: NDArray[np.int64], items: NDArray[np.int64]) -> None:
        """Fills rows with lengths, targets, samples, sessions, users; items with rows * width of them."""
    def fill_packed(
        self,
        batch: int,
        rows: NDArray[np.int64],
        items: NDArray[np.int64],
        positions: NDArray[np.int64],
        offsets: NDArray[np.int64],
    ) -> None:
        """Fills rows likewise, the items of all prefixes, their positions, and the rows + 1 offsets."""
    def session_sizes(self) -> list[tuple[int, int, int]]:
        """For each batch: samples, rows that sessions share, items kept of the longest."""
    def fill_sessions(
        self,
        batch: int,
        pad: int,
        rows: NDArray[np.int64],
        row_of: NDArray[np.int64],
        items: NDArray[np.int64],
    ) -> None:
        """Fills rows likewise, row_of with the row of each sample, and items with a row a session."""

def derive_seed(seed: int, words: Sequence[int]) -> int:
    """A new seed from a seed and words that name its purpose."""

@final
class ItemNeighbours:
    """Item-kNN: of each item the k items most similar by the sessions they share."""

    def __new__(
        cls, store: SessionStore, k: int, shrinkage: float = 0.0, *, threads: int | None = None
    ) -> ItemNeighbours: ...
    @staticmethod
    def from_arrays(
        num_items: int,
        offsets: NDArray[np.int64],
        ids: NDArray[np.uint32],
        similarities: NDArray[np.float32],
        *,
        threads: int | None = None,
    ) -> ItemNeighbours:
        """The inverse of ``arrays``."""
    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.float32]]:
        """Offsets (V+1,), ids and similarities: item i's neighbours are ids[offsets[i]:offsets[i + 1]]."""
    def scores(self, items: ArrayLike, lengths: ArrayLike, decay: float) -> NDArray[np.float32]:
        """(B, V) scores of right-padded prefixes: items (B, L), lengths (B,)."""

@final
class SessionNeighbours:
    """V-SKNN: items of the past sessions nearest to the prefix."""

    def __new__(
        cls, store: SessionStore, k: int = 500, sample: int = 5000, *, threads: int | None = None
    ) -> SessionNeighbours: ...
    def scores(self, items: ArrayLike, lengths: ArrayLike) -> NDArray[np.float32]:
        """(B, V) scores of right-padded prefixes: items (B, L), lengths (B,)."""

# Graphs.

def session_graphs(
    items: ArrayLike, lengths: ArrayLike, num_items: int
) -> tuple[
    NDArray[np.int64],
    NDArray[np.int64],
    NDArray[np.int64],
    tuple[NDArray[np.int64], NDArray[np.int64]],
    tuple[NDArray[np.int64], NDArray[np.int64]],
]:
    """Nodes (T,), starts (N+1,), node of each place (N, L), predecessors and successors (offsets, ids)."""

def transition_graph(store: SessionStore, predecessors: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Offsets (V+U+1,) and ids of the edges that end in each item and user."""

# Ranking.

def rank_window(
    scores: NDArray[np.float32],
    start: int,
    stop: int,
    exclude: NDArray[np.int64],
    draw: tuple[int, int, NDArray[np.uint64]] | None,
    threads: int | None,
    out: NDArray[np.int64],
) -> None:
    """Fills out with the ids at ranks start..stop-1; draw is (count, seed, rows)."""

def rank_window_mask(
    scores: NDArray[np.float32],
    start: int,
    stop: int,
    exclude: NDArray[np.int64],
    threads: int | None,
    out: NDArray[np.bool_],
) -> None:
    """Fills out with whether each item is at ranks start..stop-1."""

def rank_window_bits(
    scores: NDArray[np.float32],
    start: int,
    stop: int,
    exclude: NDArray[np.int64],
    threads: int | None,
    out: NDArray[np.uint8],
) -> None:
    """Fills out with the bits of the window, (rows, ceil(V / 8)): bit i % 8 of byte i // 8 is item i."""

def cross_entropy(
    scores: NDArray[np.float32],
    positives: NDArray[np.int64],
    weights: NDArray[np.float32],
    candidates: NDArray[np.int64] | NDArray[np.uint8] | None,
    exclude: NDArray[np.int64],
    each: float,
    factor: float,
    threads: int | None,
) -> NDArray[np.float64]:
    """The loss of each row; scores become factor times its gradient."""

def top_ranked(
    scores: NDArray[np.float32],
    k: int,
    exclude: NDArray[np.int64],
    threads: int | None,
    out: NDArray[np.int64],
) -> None:
    """Fills out with the ids of the k highest-ranked items in rank order."""

def target_counts(
    scores: NDArray[np.float32],
    targets: NDArray[np.int64],
    exclude: NDArray[np.int64],
    threads: int | None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(greater, tied), each (1, B)."""

def fused_target_counts(
    views: Sequence[NDArray[np.float32]],
    weights: NDArray[np.float32],
    targets: NDArray[np.int64],
    exclude: NDArray[np.int64],
    threads: int | None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(greater, tied), each (views + 1, B), the weighted sum last."""

def window_positions(
    draw: tuple[int, int, NDArray[np.uint64]], population: int, threads: int | None, out: NDArray[np.int64]
) -> None:
    """Fills out with the positions in an ascending window that rank_window draws."""

def uniform_items(
    draw: tuple[int, int, NDArray[np.uint64]], num_items: int, threads: int | None, out: NDArray[np.int64]
) -> None:
    """Fills out with ids drawn with replacement from the catalogue."""

def instruction_sets() -> list[str]:
    """The names of the instruction sets that this processor has, best first."""

def use_instructions(name: str | None) -> None:
    """Runs all kernels on the set of this name from now on; None is the best again."""
