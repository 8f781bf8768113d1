"""What a search may try: the values of recipe keys, as text that people type.

``LOW..HIGH`` is a range with both ends, drawn evenly, or evenly in the logarithm with ``:log`` behind it; of
whole numbers where both ends are and the field takes them. Everything else is choices between commas, or
between ``|`` for a field that is itself a list. Types and allowed values are those of the recipe.
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
# Keys that change what is measured, so that no search can compare. Those of the table `run` change nothing
# that is learned but the seed, and a lucky seed is no setting.
MEASURES = ("schedule.metric", "data.targets", "data.exclude_seen")
# Values of a range that are checked before anything is trained.
PROBES = 16

_RANGE = re.compile(r"(?P<low>.+?)\.\.(?P<high>.+?)(?P<log>:log)?")


class Choices(NamedTuple):
    """Some values, without order.

    Example:
        >>> str(Choices((32, 64))), str(Choices((True, False)))
        ('32,64', 'true,false')
    """

    values: tuple[bool | int | float | str, ...]

    def __str__(self) -> str:
        apart = "|" if any("," in str(value) for value in self.values) else ","
        return apart.join(_text(value) for value in self.values)


class Range(NamedTuple):
    """All values from ``low`` to ``high``, whole numbers where both are.

    Example:
        >>> str(Range(0.0001, 0.01, log=True)), Range(1, 5).whole
        ('0.0001..0.01:log', True)
    """

    low: float
    high: float
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether its values are whole numbers."""
        return isinstance(self.low, int)

    def __str__(self) -> str:
        return f"{self.low}..{self.high}{':log' if self.log else ''}"


Space = Choices | Range


def read_search(
    model: str, presets: Sequence[str], settings: Mapping[str, Any], search: Mapping[str, str]
) -> dict[str, Space]:
    """The space of each searched key, checked: choices and values throughout each range are allowed.

    A value is tried with the first value of every other key.

    Args:
        model, presets, settings: as for :func:`~alterrec.recipe.resolve`; ``settings`` are fixed.
        search: recipe key -> text.

    Raises:
        InputError: an unknown key, one that is fixed or cannot be searched, a text that is no space, or a
            value that the recipe refuses.

    Example:
        >>> search = {"optim.lr": "1e-4..0.01:log", "model.dim": "32,64"}
        >>> spaces = read_search("id_only", ["best"], {}, search)
        >>> print(*(f"{key}={space}" for key, space in spaces.items()))
        optim.lr=0.0001..0.01:log model.dim=32,64
        >>> read_search("id_only", ["best"], {}, {"optim.lr": "0.1..0.01"})
        Traceback (most recent call last):
            ...
        alterrec.errors.InputError: --search optim.lr=0.1..0.01: its ends are 0.1 and 0.01; allowed: finite \
ones, the lower one first
    """
    if not search:
        raise InputError(f"nothing to search; allowed: a key and its values, as --search {EXAMPLE}")
    for key in search:
        _check_key(key, settings)
    first = {key: _texts(key, text)[0] for key, text in search.items()}

    def value(key: str, text: Any) -> Any:
        return resolve(model, presets, {**settings, **first, key: text}).value(key)

    spaces: dict[str, Space] = {}
    for key, text in search.items():
        try:
            low_or_first, *others = (value(key, part) for part in _texts(key, text))
            if _is_range(key, text):
                spaces[key] = found = _range(low_or_first, others[0], text.endswith(":log"))
                for probe in _probes(found):
                    value(key, probe)
            else:
                spaces[key] = _choices([low_or_first, *others])
        except InputError as error:
            raise InputError(f"--search {key}={text}: {error}") from None
    check_settings([model], presets, settings, {key: _texts(key, text) for key, text in search.items()})
    return spaces


def _check_key(key: str, settings: Mapping[str, Any]) -> None:
    if key.startswith("run.") or key in MEASURES:
        why = "is no choice of what is learned" if key.startswith("run.") else "changes what is measured"
        raise InputError(f"--search {key}: it {why}; allowed: other keys of `alterrec list recipes`")
    if key in settings:
        raise InputError(f"{key} is both set and searched; allowed: one of the two")


def _texts(key: str, text: str) -> list[str]:
    """The ends of a range, or the choices."""
    if _is_range(key, text):
        found = _RANGE.fullmatch(text)
        assert found is not None
        return [found["low"].strip(), found["high"].strip()]
    default = recipe_fields().get(key, ("", ""))[1]
    return [part.strip() for part in text.split("|" if isinstance(default, tuple) else ",")]


def _is_range(key: str, text: str) -> bool:
    """Only numbers have ranges; in a path two dots are something else."""
    table, _, field = key.partition(".")
    kind = getattr(Recipe.model_fields.get(table), "annotation", None)
    info = getattr(kind, "model_fields", {}).get(field)
    numeric = info is not None and re.search(r"\b(int|float)\b", str(info.annotation)) is not None
    return numeric and _RANGE.fullmatch(text) is not None


def _range(low: Any, high: Any, log: bool) -> Range:
    if type(low) is not type(high) or not isinstance(low, int | float):
        raise InputError(f"its ends are {low} and {high}; allowed: two whole numbers or two others")
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(f"its ends are {low} and {high}; allowed: finite ones, the lower one first")
    if log and low <= 0:
        raise InputError(f"its low end is {low}; allowed with :log: above 0")
    return Range(low, high, log)


def _choices(values: list[Any]) -> Choices:
    # A tuple cannot be stored as a choice; the recipe reads its text again.
    plain = tuple(",".join(value) if isinstance(value, tuple) else value for value in values)
    if len(plain) < 2:
        raise InputError(
            f"there is one value; allowed: two or more, a range of numbers as {EXAMPLE}, or --set for one"
        )
    twice = [value for place, value in enumerate(plain) if value in plain[:place]]
    if twice:
        raise InputError(f"{_text(twice[0])} is there twice; allowed: once")
    return Choices(plain)


def _probes(space: Range) -> list[float]:
    """Values throughout a range, both ends among them."""
    shares = [step / (PROBES - 1) for step in range(PROBES)]
    if space.whole:
        return [round(space.low + share * (space.high - space.low)) for share in shares]
    return [space.low, *(space.low + share * (space.high - space.low) for share in shares[1:-1]), space.high]


def _text(value: bool | int | float | str) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
