"""Rank windows and numbers of candidates in one catalogue, without torch, so that studies can check them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from alterrec.errors import InputError
from alterrec.recipe_settings import WindowSettings
from alterrec.training.schedule import Phase


class WindowRanks(NamedTuple):
    """A rank window over one catalogue: 0-based ranks ``start`` to ``stop - 1``.

    Example:
        >>> WindowRanks.on(WindowSettings(first=6, last=0.1), num_items=1000)
        WindowRanks(start=5, stop=100)
    """

    start: int
    stop: int

    @classmethod
    def on(
        cls, window: WindowSettings, num_items: int, seen: int = 0, *, negatives: str = "window"
    ) -> WindowRanks:
        """Return the ranks of a recipe's window.

        Random negatives are only as many as the window has ranks, so for them the window ends where the
        catalogue does.

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
        return ranks


def check_catalogue(window: WindowSettings, plan: Sequence[Phase], num_items: int, seen: int = 0) -> None:
    """Check the numbers of a recipe that depend on the catalogue, before anything is trained.

    Args:
        window: the recipe's window.
        plan: the phases of the training.
        num_items: size of the catalogue.
        seen: most items of a prefix that are excluded.

    Raises:
        InputError: a rank window, its sample or the further positives do not fit into the candidates.

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
