"""Rank windows and numbers of candidates in one catalogue, without torch, so that studies can check them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from alterrec.errors import InputError
from alterrec.recipe_settings import WindowSettings
from alterrec.training.schedule import Phase

# Fewest ranks of a window in a pool. The last of them is within about a fifth of the rank that it stands for.
LEAST_RANKS = 32


class WindowRanks(NamedTuple):
    """A rank window over one catalogue: 0-based ranks ``start`` to ``stop - 1``.

    Example:
        >>> WindowRanks.on(WindowSettings(first=6, last=0.1), num_items=1000)
        WindowRanks(start=5, stop=100)
        >>> WindowRanks.on(WindowSettings(first=6, last=0.1, pool=500), num_items=1000)
        WindowRanks(start=2, stop=50)
    """

    start: int
    stop: int

    @classmethod
    def on(
        cls, window: WindowSettings, num_items: int, seen: int = 0, *, negatives: str = "window"
    ) -> WindowRanks:
        """Return the ranks of a recipe's window.

        Random negatives are only as many as the window has ranks, so for them the window ends where the
        catalogue does. With ``window.pool``, ranks are those in the pool that have the same share of it: in a
        pool of a tenth, the ranks 1 to 100 of all items are the ranks 1 to 10.

        Args:
            window: the window, as ranks or as fractions of the catalogue.
            num_items: size of the catalogue.
            seen: most items of a session that are excluded.
            negatives: those of the phase; without any that depend on the window, it has no ranks.

        Raises:
            InputError: the window does not fit into the candidates.

        Example:
            >>> WindowRanks.on(WindowSettings(first=20, last=20000), num_items=3000, negatives="random")
            WindowRanks(start=19, stop=2999)
        """
        if negatives == "full" or (negatives == "random" and window.sample):
            return cls(0, 0)
        first, last = (
            int(value) if value >= 1 else max(1, round(value * num_items))
            for value in (window.first, window.last)
        )
        candidates = num_items - window.exclude_target - seen
        if negatives == "random":
            last, candidates = min(last, num_items - 1), num_items - 1
        ranks = cls(first - 1, last)
        if not ranks.start < ranks.stop <= candidates:
            raise InputError(
                f"window.first is {window.first} and window.last is {window.last}, which are the ranks "
                f"{ranks.start + 1}.."
                f"{ranks.stop} of {candidates} candidates; use 1 <= first <= last <= {candidates}, or "
                "fractions such as --set window.last=0.1"
            )
        pool = pool_size(window, num_items)
        if negatives != "window" or not pool:
            return ranks
        ranks = cls(*(round(rank * pool / num_items) for rank in ranks))
        candidates = pool - window.exclude_target - seen
        if not ranks.start < ranks.stop <= candidates:
            found = "no rank" if ranks.start >= ranks.stop else f"the ranks {ranks.start + 1}..{ranks.stop}"
            raise InputError(
                f"window.pool is {pool}, in which the window has {found} of {max(candidates, 0)} candidates; "
                "use a larger pool, or 0 to rank all items"
            )
        return ranks


def check_catalogue(window: WindowSettings, plan: Sequence[Phase], num_items: int, seen: int = 0) -> None:
    """Check the numbers of a recipe that depend on the catalogue, before anything is trained.

    Args:
        window: the recipe's window.
        plan: the phases of the training.
        num_items: size of the catalogue.
        seen: most items of a prefix that are excluded.

    Raises:
        InputError: a rank window, its sample or the further positives do not fit into the candidates, or the
            window has too few ranks in its pool.

    Example:
        >>> from alterrec.training.schedule import phases
        >>> from alterrec.recipe import resolve
        >>> recipe = resolve("alterrec_aug", overrides={"positives.top": 30})
        >>> check_catalogue(recipe.window, phases(recipe), num_items=30)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        alterrec.errors.InputError: positives.top is 30, but besides the target there are only 29 ...
    """
    for negatives in sorted({phase.negatives for phase in plan}):
        ranks = WindowRanks.on(window, num_items, seen, negatives=negatives)
        drawn, hard = candidate_counts(negatives, window, ranks)
        most = ranks.stop - ranks.start
        pool, wanted = pool_size(window, num_items), max(hard, LEAST_RANKS)
        if negatives == "window" and pool and most < wanted:
            raise InputError(
                f"window.pool is {pool} of {num_items} items, in which the window has {most} ranks and needs "
                f"{wanted}; use a pool of {-(-pool * wanted // most)} items or more, or 0 to rank all items"
            )
        if hard > most or drawn >= num_items:
            raise InputError(
                f"window.sample is {window.sample}, of which {hard} are drawn from the {most} ranks "
                f"of the window and {drawn} from the other {num_items - 1} items; use a smaller "
                "number, or 0 for as many as the window has"
            )
    candidates = num_items - 1 - seen
    positives = max((phase.positives for phase in plan), default=0)
    if positives > candidates:
        raise InputError(
            f"positives.top is {positives}, but besides the target there are only {candidates} "
            f"candidates (a catalogue of {num_items} items, of which a prefix has seen up to {seen}); use at "
            f"most {candidates}"
        )


def pool_size(window: WindowSettings, num_items: int) -> int:
    """Return the number of items in the pool of a batch; 0 if the teacher ranks all items.

    Example:
        >>> window = WindowSettings(pool=5000)
        >>> pool_size(window, num_items=100_000), pool_size(window, num_items=4000)
        (5000, 0)
    """
    return window.pool if window.pool < num_items else 0


def shortened_window(window: WindowSettings, plan: Sequence[Phase], num_items: int) -> str:
    """Return a sentence if random negatives are fewer than the window has ranks; empty otherwise.

    Example:
        >>> window = WindowSettings(first=20, last=20000)
        >>> shortened_window(window, [Phase("training", "model", 1, "random")], num_items=3000)
        'window.last is 20000, but there are 3000 items: 2980 random negatives per sample'
    """
    if window.last <= num_items or window.sample or not any(phase.negatives == "random" for phase in plan):
        return ""
    ranks = WindowRanks.on(window, num_items, negatives="random")
    return (
        f"window.last is {window.last}, but there are {num_items} items: {ranks.stop - ranks.start} random "
        "negatives per sample"
    )


def candidate_counts(negatives: str, window: WindowSettings, ranks: WindowRanks) -> tuple[int, int]:
    """Return the number of drawn candidates and of candidates from the window."""
    total = window.sample or ranks.stop - ranks.start
    drawn = {"full": 0, "random": total, "window": round(total * window.random_share)}[negatives]
    return drawn, total - drawn if negatives == "window" else 0
