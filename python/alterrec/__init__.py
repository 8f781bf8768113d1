"""Session-based recommenders that combine item IDs and item text so that neither dominates the other.

``alterrec.ranking``, ``alterrec.sessions``, ``alterrec.metrics`` and others need only numpy; everything is
imported on first use. The distribution alterrec-core has only these modules and what they need.
"""

from __future__ import annotations

import os
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

from alterrec._core import __version__

if TYPE_CHECKING:
    from alterrec.analyses.audit import audit
    from alterrec.analyses.balance import balance
    from alterrec.analyses.compare import compare
    from alterrec.analyses.preparation import prepare
    from alterrec.analyses.run_page import result
    from alterrec.runs.fit import fit
    from alterrec.runs.saved_model import load
    from alterrec.serving.growth import add_items, remove_items
    from alterrec.studies.study import load_study, run_study

__all__ = [
    "__version__",
    "add_items",
    "audit",
    "balance",
    "compare",
    "fit",
    "load",
    "load_study",
    "prepare",
    "remove_items",
    "result",
    "run_study",
]

_MODULES = {
    "add_items": "alterrec.serving.growth",
    "remove_items": "alterrec.serving.growth",
    "balance": "alterrec.analyses.balance",
    "audit": "alterrec.analyses.audit",
    "compare": "alterrec.analyses.compare",
    "fit": "alterrec.runs.fit",
    "load": "alterrec.runs.saved_model",
    "load_study": "alterrec.studies.study",
    "run_study": "alterrec.studies.study",
    "prepare": "alterrec.analyses.preparation",
    "result": "alterrec.analyses.run_page",
}
# Modules that work without the others.
_PARTS = ("graphs", "list_metrics", "logs", "metrics", "ranking", "sessions", "vocabulary")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_PARTS})


def _has(file: str) -> bool:
    return os.path.exists(os.path.join(os.path.dirname(__file__), file))


_IS_LIGHT = _has("_alterrec_core.txt")  # a file of alterrec-core alone; __main__.py is one of alterrec alone

if _IS_LIGHT and _has("__main__.py"):
    warnings.warn(
        "alterrec and alterrec-core are both installed. They contain the same files, so removing or "
        "upgrading one breaks the other. Run `pip uninstall alterrec alterrec-core` and install one of them",
        stacklevel=2,
    )


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return import_module(f"alterrec.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module 'alterrec' has no attribute {name!r}")
    try:
        return getattr(import_module(_MODULES[name]), name)
    except ModuleNotFoundError as error:
        if _IS_LIGHT and (error.name or "").startswith("alterrec."):
            raise ImportError(
                f"alterrec.{name} is not in alterrec-core, which has only the modules that need numpy "
                "alone; run `pip uninstall alterrec-core` and install alterrec"
            ) from None
        raise
