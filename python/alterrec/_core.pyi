"""The compiled core; use it through `alterrec.ranking`, `alterrec.sessions` and `alterrec.graphs`."""

from collections.abc import Sequence
from os import PathLike
from typing import Any, ClassVar, Literal, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "EpochPlan",
    "IdNumbers",
    "ItemNeighbours",
    "QueryTable",
    "ScoreSum",
    "SessionNeighbours",
    "SessionStore",
    "__version__",
    "cross_entropy",
    "cut_sessions",
    "cut_window_bits",
    "cut_window_members",
    "derive_seed",
    "fused_target_counts",
    "instruction_sets",
    "key_counts",
    "log_normaliser",
    "mark",
    "mixture_cross_entropy",
    "mixture_scores",
    "random_words",
    "rank_window",
    "rank_window_bits",
    "rank_window_mask",
    "repeat_scores",
    "seen_target_counts",
    "session_graphs",
    "softmax",
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
    """An immutable store of sessions: one column of items and the offset of each session in it."""

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
        """Group interactions into sessions; the rows of a session need not be adjacent."""
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
        """Open a file written by ``save``, memory-mapped."""
    def save(self, path: str | PathLike[str]) -> None:
        """Write the store to a file atomically."""
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
        """Return the items of the session at an index."""
    def item_counts(self) -> NDArray[np.int64]:
        """Return how often each item occurs, (V,)."""
    def repeat_share(self) -> float:
        """Return the share of targets (over all prefixes) that occur in their prefix."""
    def prefixes(self, targets: Literal["every", "last"] = "every") -> NDArray[np.int64]:
        """Return rows (session index, end), (P, 2)."""
    def __len__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...

@final
class EpochPlan:
    """The samples of one epoch and shard, in order and divided into batches; fills the arrays of a batch."""

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
        """Return for each batch the numbers of rows, of items of the longest prefix and of all prefixes."""
    def fill_padded(self, batch: int, pad: int, rows: NDArray[np.int64], items: NDArray[np.int64]) -> None:
        """Fill rows with lengths, targets, samples, sessions and users, and items with padded prefixes."""
    def fill_packed(
        self,
        batch: int,
        rows: NDArray[np.int64],
        items: NDArray[np.int64],
        positions: NDArray[np.int64],
        offsets: NDArray[np.int64],
    ) -> None:
        """Fill rows in the same way, the items of all prefixes, their positions, and the offsets."""
    def session_sizes(self) -> list[tuple[int, int, int]]:
        """Return for each batch the numbers of samples, of rows by session, and of items of the longest."""
    def fill_sessions(
        self,
        batch: int,
        pad: int,
        rows: NDArray[np.int64],
        row_of: NDArray[np.int64],
        items: NDArray[np.int64],
    ) -> None:
        """Fill rows in the same way, row_of with the row of each sample, and items with a row per session."""

def derive_seed(seed: int, words: Sequence[int]) -> int:
    """Derive a seed from a seed and words that identify its purpose."""

@final
class QueryTable:
    """Item vectors that are scored, and the queries of items, for :class:`ScoreSum`."""

    def __new__(
        cls, table: NDArray[np.float32], queries: NDArray[np.float32] | None, excludes_seen: bool
    ) -> QueryTable: ...
    @property
    def num_items(self) -> int:
        """Number of items."""

@final
class ScoreSum:
    """The score of a system for a service: a weighted sum of tables, neighbour lists and fixed scores."""

    def __new__(
        cls,
        tables: Sequence[QueryTable],
        weights: Sequence[float],
        cold: tuple[NDArray[np.int64], int, int] | None,
        removed: NDArray[np.int64],
        neighbours: tuple[ItemNeighbours, float, float | None, float] | None,
        fixed: tuple[NDArray[np.float32], float] | None,
    ) -> ScoreSum: ...
    def best(
        self, sessions: Any, k: int, threads: int | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the ``k`` best items of each session, best first: ids (N, k) and scores (N, k)."""

    def scores(
        self, sessions: Any, items: Sequence[NDArray[np.int64]], threads: int | None
    ) -> list[NDArray[np.float32]]:
        """Return the scores of some items in each session, also of those that are never recommended."""

@final
class ItemNeighbours:
    """Item-kNN: the k most similar items of each item, measured by the sessions they share."""

    def __new__(
        cls, store: SessionStore, k: int, shrinkage: float = 0.0, *, threads: int | None = None
    ) -> ItemNeighbours: ...
    @staticmethod
    def covisited(
        store: SessionStore,
        k: int,
        after: Sequence[float],
        before: Sequence[float],
        *,
        threads: int | None = None,
    ) -> ItemNeighbours:
        """Measure similarity by the distance of two items in a session instead."""
    @staticmethod
    def from_arrays(
        num_items: int,
        offsets: NDArray[np.int64],
        ids: NDArray[np.uint32],
        similarities: NDArray[np.float32],
        *,
        threads: int | None = None,
    ) -> ItemNeighbours:
        """Rebuild from ``arrays``."""
    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.float32]]:
        """Return offsets (V+1,), ids and similarities; item i has ids[offsets[i]:offsets[i + 1]]."""
    def scores(self, items: ArrayLike, lengths: ArrayLike, decay: float) -> NDArray[np.float32]:
        """Return scores (B, V) of right-padded prefixes: items (B, L), lengths (B,)."""

@final
class SessionNeighbours:
    """V-SKNN: scores the items of the past sessions that are most similar to the prefix."""

    def __new__(
        cls, store: SessionStore, k: int = 500, sample: int = 5000, *, threads: int | None = None
    ) -> SessionNeighbours: ...
    def scores(self, items: ArrayLike, lengths: ArrayLike) -> NDArray[np.float32]:
        """Return scores (B, V) of right-padded prefixes: items (B, L), lengths (B,)."""

# Logs.

@final
class IdNumbers:
    """Numbers from 0 for ids that are texts, in the order in which they first appear."""

    def __init__(self) -> None: ...
    def number(
        self, text: bytes, lengths: NDArray[np.uint32]
    ) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Return the number of each id, and the places of ids that had no number before."""
    def __len__(self) -> int: ...

def cut_sessions(
    users: ArrayLike, timestamps: ArrayLike | None, gap: int | None, threads: int | None
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Return the rows of all sessions, session after session, and the offsets of the sessions."""

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
    """Return nodes (T,), starts (N+1,), node of each position (N, L), predecessors and successors."""

def transition_graph(store: SessionStore, predecessors: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return offsets (V+U+1,) and ids of the incoming edges of each item and user."""

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
    """Fill out with the ids at ranks start..stop-1; draw is (count, seed, rows)."""

def rank_window_mask(
    scores: NDArray[np.float32],
    start: int,
    stop: int,
    exclude: NDArray[np.int64],
    threads: int | None,
    out: NDArray[np.bool_],
) -> None:
    """Fill out with whether each item is at ranks start..stop-1."""

def rank_window_bits(
    scores: NDArray[np.float32],
    start: int,
    stop: int,
    exclude: NDArray[np.int64],
    threads: int | None,
    out: NDArray[np.uint8],
) -> None:
    """Fill out with the bits of the window, (rows, ceil(V / 8)): bit i % 8 of byte i // 8 is item i."""

def key_counts(
    scores: NDArray[np.float32],
    prefixes: NDArray[np.int64],
    known: int,
    exclude: NDArray[np.int64],
    threads: int | None,
    out: NDArray[np.int64],
) -> None:
    """Fill out, (rows, C * 256), with counts of the 8 bits after each prefix of the keys of candidates."""

def cut_window_bits(
    scores: NDArray[np.float32],
    cuts: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    exclude: NDArray[np.int64],
    threads: int | None,
    out: NDArray[np.uint8],
) -> None:
    """Fill out with the bits of the candidates between two cuts: (keys, taken, ties), each (rows, 2)."""

def cut_window_members(
    scores: NDArray[np.float32],
    cuts: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    exclude: NDArray[np.int64],
    places: NDArray[np.int64],
    threads: int | None,
    out: NDArray[np.int64],
) -> None:
    """Fill out with the ids at some places among the candidates between two cuts; -1 where a place is -1."""

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
    """Return the loss of each row and overwrite the scores with factor times the gradient."""

def softmax(
    scores: NDArray[np.float32],
    exclude: NDArray[np.int64],
    candidates: NDArray[np.uint8] | None,
    threads: int | None,
) -> NDArray[np.float64]:
    """Overwrite the scores with their softmax over the candidates and return the logsumexp of each row."""

def mixture_cross_entropy(
    scores: NDArray[np.float32],
    rows: NDArray[np.int64],
    log_weights: NDArray[np.float32],
    positives: NDArray[np.int64],
    weights: NDArray[np.float32],
    exclude: NDArray[np.int64],
    candidates: NDArray[np.uint8] | None,
    factor: float,
    threads: int | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Overwrite each row with its gradient divided by its share; return losses (N,), shares (N * J,) and
    shares of the rows (Q,)."""

def mark(bits: NDArray[np.uint8], rows: NDArray[np.int64], items: NDArray[np.int64]) -> None:
    """Set the bit of items[k] in row rows[k]; entries with -1 are skipped."""

def mixture_scores(
    probabilities: NDArray[np.float32],
    rows: NDArray[np.int64],
    weights: NDArray[np.float32],
    threads: int | None,
    out: NDArray[np.float32],
) -> None:
    """Fill out with the logarithms of the weighted sums of rows of probabilities, (N, V)."""

def top_ranked(
    scores: NDArray[np.float32],
    k: int,
    exclude: NDArray[np.int64],
    threads: int | None,
    out: NDArray[np.int64],
) -> None:
    """Fill out with the ids of the k highest-ranked items in rank order."""

def target_counts(
    scores: NDArray[np.float32],
    targets: NDArray[np.int64],
    exclude: NDArray[np.int64],
    missed: bool,
    threads: int | None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (greater, tied), each (1, B)."""

def fused_target_counts(
    views: Sequence[NDArray[np.float32]],
    weights: NDArray[np.float32],
    targets: NDArray[np.int64],
    exclude: NDArray[np.int64],
    missed: bool,
    threads: int | None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (greater, tied), each (views + 1, B), with the weighted sum last."""

def seen_target_counts(
    views: Sequence[NDArray[np.float32]],
    weights: NDArray[np.float32],
    targets: NDArray[np.int64],
    seen: NDArray[np.int64],
    log_odds: Sequence[NDArray[np.float32]] | None,
    temperatures: NDArray[np.float64],
    threads: int | None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (greater, tied), each (2 * (views + 1), B): kept, then excluded; with log_odds also repeats."""

def repeat_scores(
    scores: NDArray[np.float32],
    seen: NDArray[np.int64],
    log_odds: NDArray[np.float32],
    temperature: float,
    threads: int | None,
) -> NDArray[np.float32]:
    """Return the score of each entry of seen, row after row, (B * E,)."""

def log_normaliser(
    scores: NDArray[np.float32],
    seen: NDArray[np.int64],
    temperatures: NDArray[np.float64],
    threads: int | None,
) -> NDArray[np.float64]:
    """Return the logsumexp over the unseen items for each temperature, row after row, (B * T,)."""

def window_positions(
    draw: tuple[int, int, NDArray[np.uint64]], population: int, threads: int | None, out: NDArray[np.int64]
) -> None:
    """Fill out with the positions in an ascending window that rank_window draws."""

def random_words(
    seed: int,
    numbers: NDArray[np.int64],
    places: NDArray[np.int64],
    threads: int | None,
    out: NDArray[np.uint64],
) -> None:
    """Fill each row of out with the random words of (seed, number, place)."""

def uniform_items(
    draw: tuple[int, int, NDArray[np.uint64]], num_items: int, threads: int | None, out: NDArray[np.int64]
) -> None:
    """Fill out with ids drawn with replacement from the catalogue."""

def instruction_sets() -> list[str]:
    """Return the names of the instruction sets of this processor, best first."""

def use_instructions(name: str | None) -> None:
    """Run all kernels on the named set from now on; None means the best one."""
