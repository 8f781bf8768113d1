"""Check an installed wheel on a platform where numpy is the only dependency.

    pip install numpy && pip install --no-deps alterrec && python tests/python/wheel_smoke.py
    pip install alterrec-core && python tests/python/wheel_smoke.py alterrec-core

The numpy-only modules run their examples and are compared with slow versions on every instruction set.
Any import beyond the standard library and numpy is refused, installed or not.
"""

from __future__ import annotations

import doctest
import importlib
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata, resources
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

ALLOWED = {*sys.stdlib_module_names, "numpy", "alterrec", "oracle"}


class Refuse(MetaPathFinder):
    """Finds nothing, and stops the search for what is not allowed."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] not in ALLOWED:
            raise ModuleNotFoundError(f"{name} is neither numpy nor of the standard library", name=name)
        return None


sys.meta_path.insert(0, Refuse())

import numpy as np  # noqa: E402
import oracle  # noqa: E402

from alterrec import _core, ranking  # noqa: E402
from alterrec.sessions import SessionStore  # noqa: E402

MODULES = (
    "alterrec.graphs",
    "alterrec.logs",
    "alterrec.metrics",
    "alterrec.ranking",
    "alterrec.sessions",
    "alterrec.vocabulary",
)


def check_tag(distribution: str) -> None:
    """One wheel for CPython 3.11 and all that follow."""
    lines = (metadata.distribution(distribution).read_text("WHEEL") or "").splitlines()
    tags = [line.removeprefix("Tag: ") for line in lines if line.startswith("Tag: ")]
    assert tags, lines
    assert all(tag.startswith("cp311-abi3-") for tag in tags), tags


def check_types() -> None:
    """Type checkers find the package and the stub of its core."""
    for name in ("py.typed", "_core.pyi"):
        assert (resources.files("alterrec") / name).is_file(), f"{name} is missing"


def check_examples() -> None:
    for module in MODULES:
        failed, attempted = doctest.testmod(importlib.import_module(module))
        assert attempted > 0, f"{module} has no examples"
        assert failed == 0, module


def check_ranking() -> None:
    rng = np.random.default_rng(5)
    smooth = rng.standard_normal((3, 800), np.float32)
    tied = rng.integers(-3, 4, (3, 801)).astype(np.float32)
    for name in _core.instruction_sets():
        _core.use_instructions(name)
        for scores in (smooth, tied):
            exclude = rng.integers(-1, 800, (3, 4))
            targets = rng.integers(0, 800, 3)
            window = ranking.rank_window(scores, 7, 700, exclude=exclude)
            assert window.tolist() == oracle.rank_window(scores, 7, 700, exclude), name
            best, _ = ranking.top_ranked(scores, 20, exclude=exclude)
            assert best.tolist() == oracle.top_ranked(scores, 20, exclude), name
            greater, tied_with = ranking.target_counts(scores, targets, exclude=exclude)
            counts = greater.tolist(), tied_with.tolist()
            assert counts == oracle.target_counts(scores, targets, exclude), name
    _core.use_instructions(None)


def check_draws() -> None:
    rows = np.array([0, 1, 2**40])
    drawn = ranking.rank_window(np.zeros((3, 100), np.float32), 0, 100, sample=6, seed=7, rows=rows)
    assert drawn.tolist() == [oracle.window_positions(6, 100, 7, row) for row in rows.tolist()]
    drawn = ranking.uniform_items(rows, 4, 2**40, seed=7)
    assert drawn.tolist() == [oracle.uniform_items(4, 2**40, 7, row) for row in rows.tolist()]


def check_a_saved_store() -> None:
    store = SessionStore.from_arrays([0, 0, 0, 1, 1], [4, 2, 3, 0, 1])
    # Windows does not remove a file that is still mapped.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "sessions"
        store.save(path)
        assert SessionStore.open(path) == store


if __name__ == "__main__":
    check_tag(*sys.argv[1:] or ["alterrec"])
    check_types()
    check_examples()
    check_ranking()
    check_draws()
    check_a_saved_store()
    print(f"the wheel works: numpy {np.__version__}, {', '.join(_core.instruction_sets())}")
