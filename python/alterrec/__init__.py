"""Session-based recommenders that fuse item IDs and item text without letting one drown the other.

``alterrec.ranking``, ``alterrec.sessions`` and ``alterrec.metrics`` need numpy alone; everything
else is imported when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from alterrec._core import __version__

if TYPE_CHECKING:
    from alterrec.experiments.audit import audit
    from alterrec.experiments.balance import balance
    from alterrec.experiments.run import fit
    from alterrec.experiments.study import load_study, run_study
    from alterrec.recommend import load
    from alterrec.report.compare import compare
    from alterrec.report.result import result

__all__ = ["__version__", "audit", "balance", "compare", "fit", "load", "load_study", "result", "run_study"]

_HOMES = {
    "balance": "alterrec.experiments.balance",
    "audit": "alterrec.experiments.audit",
    "compare": "alterrec.report.compare",
    "fit": "alterrec.experiments.run",
    "load": "alterrec.recommend",
    "load_study": "alterrec.experiments.study",
    "run_study": "alterrec.experiments.study",
    "result": "alterrec.report.result",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'alterrec' has no attribute {name!r}")
