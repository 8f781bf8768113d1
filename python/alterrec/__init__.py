"""Session-based recommenders that fuse item IDs and item text without letting one drown the other.

``alterrec.ranking``, ``alterrec.sessions`` and ``alterrec.metrics`` need numpy alone; everything
else is imported when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alterrec._core import __version__

if TYPE_CHECKING:
    from alterrec.experiments.run import fit
    from alterrec.recommend import load

__all__ = ["__version__", "fit", "load"]


def __getattr__(name: str) -> Any:
    if name == "fit":
        from alterrec.experiments.run import fit

        return fit
    if name == "load":
        from alterrec.recommend import load

        return load
    raise AttributeError(f"module 'alterrec' has no attribute {name!r}")
