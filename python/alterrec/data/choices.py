"""The choices of a preparation: the user's over those of the format, checked, with where each came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from alterrec.data.formats.source import Choices
from alterrec.errors import InputError

Origin = Literal["format", "user", "default"]

DEFAULTS = Choices(
    sessions="given",
    gap=1800.0,
    events=(),
    collapse=False,
    min_item_count=0,
    min_session=1,
    split="time",
    valid=0.1,
    test=0.1,
    fraction=1,
)
LAST_DAYS = Choices(valid=1, test=1)
SESSIONS = ("given", "gap", "day", "user")
SPLITS_BY = ("time", "days", "files", "seed", "last-item")


@dataclass(frozen=True)
class ChoiceRecord:
    """A choice that was made, and whose it was: the format's, the user's, or ours where neither chose."""

    value: str | float | int | bool | list[str]
    origin: Origin


def resolve_choices(
    given: Choices, usual: Choices, parts: tuple[str, ...]
) -> tuple[Choices, dict[str, ChoiceRecord]]:
    """Return the choices that are made, and a record of those that are read.

    Args:
        given: the user's choices.
        usual: those of the format.
        parts: the names of the parts of the source.

    Raises:
        InputError: a choice is out of range, or another choice makes it meaningless.

    Example:
        >>> choices, made = resolve_choices(Choices(gap=60.0), Choices(sessions="day"), ("interactions",))
        >>> choices.sessions, made["gap"].origin, made["collapse"].origin
        ('gap', 'user', 'default')
    """
    if given.gap is not None and given.sessions is None:
        given = replace(given, sessions="gap")
    chosen = given.over(usual).over(DEFAULTS)
    if (chosen.split == "days") != (usual.split == "days"):
        # Shares are no days, and days are no shares.
        usual = replace(usual, valid=None, test=None)
    defaults = LAST_DAYS.over(DEFAULTS) if chosen.split == "days" else DEFAULTS
    chosen = given.over(usual).over(defaults)
    unread = _unread(chosen, parts)
    for name, why in unread.items():
        if getattr(given, name) is not None:
            raise InputError(f"{name} is not read, because {why}; leave out --{name}")
    _check(chosen, unread)
    made = {}
    for name, value in asdict(chosen).items():
        if name not in unread:
            mine = getattr(given, name) is not None
            origin: Origin = "user" if mine else "format" if getattr(usual, name) is not None else "default"
            made[name] = ChoiceRecord(list(value) if isinstance(value, tuple) else value, origin)
    return chosen, made


def _unread(choices: Choices, parts: tuple[str, ...]) -> dict[str, str]:
    """The choices that the others leave without effect, and why."""
    unread: dict[str, str] = {}
    if choices.sessions != "gap":
        unread["gap"] = f"sessions is {choices.sessions!r}"
    if choices.split == "last-item":
        unread |= dict.fromkeys(("valid", "test"), "the last items of users are the targets")
    if choices.split in ("files", "seed"):
        have: dict[str, str] = {
            name: f"the data has a {name} file" for name in ("valid", "test") if name in parts
        }
        if choices.split == "seed":
            have.pop("valid", None)
        unread |= have
    return unread


def _check(choices: Choices, unread: Mapping[str, str]) -> None:
    """Check the values of the choices that are read."""
    for name, known in (("sessions", SESSIONS), ("split", SPLITS_BY)):
        if getattr(choices, name) not in known:
            raise InputError(f"{name} is {getattr(choices, name)!r}; choose one of {', '.join(known)}")
    days = choices.split == "days"
    shares = "a number of days above 0" if days else "a share above 0 and below 1"
    limits: dict[str, tuple[Callable[[Any], bool], str]] = {
        "gap": (lambda gap: 0 <= gap < 2**31, "a number of seconds from 0 to 2**31"),
        "min_item_count": (lambda count: 0 <= count < 2**31, "0 or more"),
        "min_session": (lambda count: 1 <= count < 2**31, "1 or more"),
        "fraction": (lambda fraction: 1 <= fraction < 2**31, "1 or more"),
        "valid": (lambda share: 0 < share < (10**6 if days else 1), shares),
        "test": (lambda share: 0 < share < (10**6 if days else 1), shares),
    }
    for name, (fits, expected) in limits.items():
        value = getattr(choices, name)
        if name not in unread and not fits(value):
            raise InputError(f"{name} is {value}; expected {expected}")
    cut = [value for name in ("valid", "test") if name not in unread and (value := getattr(choices, name))]
    if not days and sum(cut) >= 1:
        raise InputError(
            f"valid {choices.valid} and test {choices.test} leave nothing to train on; choose shares whose "
            "sum is below 1"
        )
    if choices.split == "last-item" and choices.sessions != "user":
        raise InputError(
            f"split is 'last-item', but sessions is {choices.sessions!r}; expected --sessions user, because "
            "the last item of each user is a target"
        )
