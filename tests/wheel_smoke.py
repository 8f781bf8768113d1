"""The rooms that need numpy alone, from an installed wheel: `python tests/wheel_smoke.py`.

Any import beyond the standard library, numpy and alterrec is refused, installed or not. Kernels are
compared with numpy in a line each; the test suite proper does the rest.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

ALLOWED = {*sys.stdlib_module_names, "numpy", "alterrec"}


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

import alterrec  # noqa: E402
from alterrec import _core  # noqa: E402
from alterrec.metrics import metrics  # noqa: E402
from alterrec.ranking import (  # noqa: E402
    fused_target_counts,
    rank_window,
    rank_window_mask,
    target_counts,
    top_ranked,
    uniform_items,
)
from alterrec.sessions import PrefixBatches, SessionStore, derive_seed  # noqa: E402


def ranking() -> None:
    scores = np.random.default_rng(0).normal(size=(7, 500)).astype(np.float32).round(2)
    targets = np.arange(7)
    order = np.argsort(-scores, axis=1, kind="stable")
    window = np.sort(order[:, 5:200])
    assert np.array_equal(rank_window(scores, 5, 200), window)
    assert np.array_equal(np.nonzero(rank_window_mask(scores, 5, 200))[1].reshape(7, -1), window)
    drawn = rank_window(scores, 5, 200, sample=20, seed=1)
    assert all(len(set(row) & set(whole)) == 20 for row, whole in zip(drawn, window, strict=True))
    assert np.array_equal(top_ranked(scores, 20)[0], order[:, :20])
    own = scores[targets, targets][:, None]
    expected = (scores > own).sum(1), (scores == own).sum(1)
    assert np.array_equal(target_counts(scores, targets), expected)
    greater, tied = fused_target_counts([scores, scores], [0.5, 0.5], targets)
    assert np.array_equal([greater[2], tied[2]], expected)
    assert uniform_items(targets, 9, 100).max() < 100
    assert 0 <= metrics(*expected)["ndcg@10"] <= 1


def sessions() -> None:
    store = SessionStore.from_arrays([0, 0, 0, 1, 1], [4, 2, 3, 0, 1])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "store"
        store.save(file)
        opened = SessionStore.open(file)
        assert opened == store
        del opened  # or Windows keeps the file
    batches = [batch.items.tolist() for batch in PrefixBatches(store, 2, 50, shuffle=False)]
    assert batches == [[[4, 0], [4, 2]], [[0]]]
    assert derive_seed(7) == 7


ranking()
sessions()
package = Path(alterrec.__file__).parent
assert (package / "py.typed").exists()
assert (package / "_core.pyi").exists()
print(f"alterrec {alterrec.__version__}, {Path(_core.__file__).name}, Python {sys.version.split()[0]}: works")
