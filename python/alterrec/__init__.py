"""Session-based recommenders that combine item IDs and item text so that neither dominates the other.

``alterrec.ranking``, ``alterrec.sessions`` and ``alterrec.metrics`` need only numpy; everything else is
imported on first use.
"""

from __future__ import annotations

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
    from alterrec.studies.study import load_study, run_study

__all__ = [
    "__version__",
    "audit",
    "balance",
    "compare",
    "fit",
    "load",
    "load_study",
    "prepare",
    "result",
    "run_study",
]

_MODULES = {
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


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'alterrec' has no attribute {name!r}")
