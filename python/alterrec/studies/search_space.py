"""Parse search spaces: the values that a search may try for a recipe key.

``LOW..HIGH`` is a range that includes both ends, sampled uniformly, or on a log scale with ``:log`` appended.
It is a range of integers if both ends are integers and the field takes integers. Anything else is a list of
choices separated by commas, or by ``|`` for a field that is itself a list. The recipe defines the types and
checks the values.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from alterrec.errors import InputError
from alterrec.models.reads import check_settings
from alterrec.recipe import Recipe, recipe_fields, resolve

EXAMPLE = "optim.lr=0.0001..0.01:log"
# Keys that change the measurement, so that trials would not be comparable. Those of the table `run` change
# nothing that is learned except the seed, and a lucky seed is not a setting.
MEASUREMENT_KEYS = ("schedule.metric", "data.targets", "data.exclude_seen")
# Number of values of a range that are checked before anything is trained.
PROBES = 16

_RANGE = re.compile(r"(?P<low>.+?)\.\.(?P<high>.+?)(?P<log>:log)?")


class Listed(NamedTuple):
    """A list of values without order.

    Example:
        >>> str(Listed((32, 64))), str(Listed((True, False)))
        ('32,64', 'true,false')
    """

    values: tuple[bool | int | float | str, ...]

    def __str__(self) -> str:
        separator = "|" if any("," in str(value) for value in self.values) else ","
        return separator.join(_text(value) for value in self.values)


class Range(NamedTuple):
    """All values from ``low`` to ``high``; only integers if both are.

    Example:
        >>> str(Range(0.0001, 0.01, log=True)), Range(1, 5).whole
        ('0.0001..0.01:log', True)
    """

    low: float
    high: float
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether the values are integers."""
        return isinstance(self.low, int)

    def __str__(self) -> str:
        return f"{self.low}..{self.high}{':log' if self.log else ''}"


Space = Listed | Range


def read_search(
    model: str, presets: Sequence[str], settings: Mapping[str, Any], search: Mapping[str, str]
) -> dict[str, Space]:
    """Parse the space of each searched key and check its choices, or values throughout its range.

    Each value is checked together with the first value of every other key.

    Args:
        model, presets, settings: as for :func:`~alterrec.recipe.resolve`; ``settings`` are fixed.
        search: recipe key -> text.

    Raises:
        InputError: the key is unknown, fixed or cannot be searched, the text is not a space, or the recipe
            refuses a value.

    Example:
        >>> search = {"optim.lr": "1e-4..0.01:log", "model.dim": "32,64"}
        >>> spaces = read_search("id_only", ["best"], {}, search)
        >>> print(*(f"{key}={space}" for key, space in spaces.items()))
        optim.lr=0.0001..0.01:log model.dim=32,64
        >>> read_search("id_only", ["best"], {}, {"optim.lr": "0.1..0.01"})
        Traceback (most recent call last):
            ...
        alterrec.errors.InputError: --search optim.lr=0.1..0.01: the ends are 0.1 and 0.01; use finite \
numbers, the lower one first
    """
    if not search:
        raise InputError(f"nothing to search; give a key and its values, for example --search {EXAMPLE}")
    for key in search:
        if key.startswith("run.") or key in MEASUREMENT_KEYS:
            effect = (
                "does not change what is learned" if key.startswith("run.") else "changes what is measured"
            )
            raise InputError(
                f"--search {key}: the key {effect}; choose another key of `alterrec list recipes`"
            )
        if key in settings:
            raise InputError(f"{key} is both set and searched; choose one of the two")
    first = {key: _parts(key, text)[0] for key, text in search.items()}

    def checked(key: str, text: Any) -> Any:
        return resolve(model, presets, {**settings, **first, key: text}).value(key)

    spaces: dict[str, Space] = {}
    for key, text in search.items():
        try:
            low_or_first, *others = (checked(key, part) for part in _parts(key, text))
            if _range_text(key, text):
                spaces[key] = found = _range(low_or_first, others[0], text.endswith(":log"))
                for probe in _probes(found):
                    checked(key, probe)
            else:
                spaces[key] = _choices([low_or_first, *others])
        except InputError as error:
            raise InputError(f"--search {key}={text}: {error}") from None
    check_settings([model], presets, settings, {key: _parts(key, text) for key, text in search.items()})
    return spaces


def _parts(key: str, text: str) -> list[str]:
    """Return the texts of both ends of a range, or of the choices."""
    if found := _range_text(key, text):
        return [found["low"].strip(), found["high"].strip()]
    default = recipe_fields().get(key, ("", ""))[1]
    return [part.strip() for part in text.split("|" if isinstance(default, tuple) else ",")]


def _range_text(key: str, text: str) -> re.Match[str] | None:
    """Parse a text as a range; only numbers have ranges, since ``..`` also occurs in paths."""
    table, _, field = key.partition(".")
    kind = getattr(Recipe.model_fields.get(table), "annotation", None)
    info = getattr(kind, "model_fields", {}).get(field)
    numeric = info is not None and re.search(r"\b(int|float)\b", str(info.annotation)) is not None
    return _RANGE.fullmatch(text) if numeric else None


def _range(low: Any, high: Any, log: bool) -> Range:
    if type(low) is not type(high) or not isinstance(low, int | float):
        raise InputError(f"the ends are {low} and {high}; use two numbers, both integers or both decimal")
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(f"the ends are {low} and {high}; use finite numbers, the lower one first")
    if log and low <= 0:
        raise InputError(f"the low end is {low}; with :log it must be above 0")
    return Range(low, high, log)


def _choices(values: list[Any]) -> Listed:
    # Optuna cannot store a tuple as a choice; the recipe parses its text again.
    plain = tuple(",".join(value) if isinstance(value, tuple) else value for value in values)
    if len(plain) < 2:
        raise InputError(
            f"there is only one value; give two or more, or a range such as {EXAMPLE}, or use --set"
        )
    repeated = [value for place, value in enumerate(plain) if value in plain[:place]]
    if repeated:
        raise InputError(f"{_text(repeated[0])} occurs twice; give each value once")
    return Listed(plain)


def _probes(space: Range) -> list[float]:
    """Return values throughout a range, including both ends."""
    shares = [step / (PROBES - 1) for step in range(PROBES)]
    if space.whole:
        return [round(space.low + share * (space.high - space.low)) for share in shares]
    return [space.low, *(space.low + share * (space.high - space.low) for share in shares[1:-1]), space.high]


def _text(value: bool | int | float | str) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
