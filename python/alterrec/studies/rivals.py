"""Which rows of a study are held against which others, metric by metric."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from alterrec.evaluation.significance import Floats
from alterrec.models.catalogue import Kind

# From the kind of every row, and per-session values (N, K) of those that have any, to (row, a rival for each
# metric).
Rivals = Callable[[Mapping[str, Kind], Mapping[str, Floats]], Iterator[tuple[str, list[str]]]]


def best_baseline(kinds: Mapping[str, Kind], values: Mapping[str, Floats]) -> Iterator[tuple[str, list[str]]]:
    """Each of our rows against the baseline that is best in the metric on test.

    Example:
        >>> kinds = {"alterrec": "ours", "sasrec": "baseline", "itemknn": "baseline"}
        >>> values = {"alterrec": np.array([[1.0, 1.0]]), "sasrec": np.array([[0.5, 0.1]])}
        >>> values["itemknn"] = np.array([[0.4, 0.2]])
        >>> list(best_baseline(kinds, values))
        [('alterrec', ['sasrec', 'itemknn'])]
    """
    names = [label for label in values if kinds[label] == "baseline"]
    if not names:
        return
    best_K = np.argmax([values[name].mean(0) for name in names], axis=0)
    for label in values:
        if kinds[label] == "ours":
            yield label, [names[best] for best in best_K]


def pairs(rivals: Mapping[str, tuple[str, ...]]) -> Rivals:
    """Each row of a table against the rows that the table names, as far as they have values.

    Example:
        >>> chosen = pairs({"alterrec": ("independent", "alterrec_random")})
        >>> values = {name: np.zeros((3, 2)) for name in ("alterrec", "independent")}
        >>> list(chosen({}, values))
        [('alterrec', ['independent', 'independent'])]
    """

    def chosen(kinds: Mapping[str, Kind], values: Mapping[str, Floats]) -> Iterator[tuple[str, list[str]]]:
        for label, others in rivals.items():
            for rival in others:
                if label in values and rival in values:
                    yield label, [rival] * values[label].shape[1]

    return chosen


def nobody(kinds: Mapping[str, Kind], values: Mapping[str, Floats]) -> Iterator[tuple[str, list[str]]]:
    """No row against any."""
    return iter(())
