"""What the shell completes: names of systems, presets, studies, data formats and recipe keys.

Each function returns the names that begin with what is typed, with a line about each for shells that show it.
"""

from __future__ import annotations

from collections.abc import Iterable

Names = list[tuple[str, str]]


def systems(incomplete: str) -> Names:
    """Return names of systems.

    Example:
        >>> [name for name, _ in systems("sas")]
        ['sasrec']
    """
    from alterrec.models.catalogue import MODELS

    return _beginning(incomplete, ((name, entry.summary) for name, entry in MODELS.items()))


def presets(incomplete: str) -> Names:
    """Return names of presets."""
    from alterrec.recipe import ORIGINAL, recipe_names

    names = (*recipe_names("presets"), *recipe_names("data"), ORIGINAL)
    return _beginning(incomplete, ((name, "") for name in names))


def keys(incomplete: str) -> Names:
    """Return recipe keys, each with an equals sign.

    Example:
        >>> [key for key, _ in keys("schedule.ga")]
        ['schedule.gap=']
    """
    from alterrec.recipe import recipe_fields

    fields = recipe_fields().items()
    return _beginning(incomplete, ((f"{key}=", description) for key, (description, _) in fields))


def studies(incomplete: str) -> Names:
    """Return names of studies."""
    from alterrec.studies.study import STUDIES

    return _beginning(incomplete, ((name, entry.summary) for name, entry in STUDIES.items()))


def formats(incomplete: str) -> Names:
    """Return names of data formats."""
    from alterrec.data.formats import FORMATS
    from alterrec.data.readers import PREPARED, READERS

    known = {name: entry.summary for name, entry in (READERS | FORMATS).items()}
    return _beginning(incomplete, [*known.items(), (PREPARED, "a folder made by alterrec prepare")])


def _beginning(incomplete: str, names: Iterable[tuple[str, str]]) -> Names:
    return [(name, text) for name, text in names if name.startswith(incomplete)]
