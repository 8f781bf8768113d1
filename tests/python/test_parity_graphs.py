"""The global graph against the edges that the public HG-GNN builds from the same sessions."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from alterrec.graphs import transition_graph
from alterrec.sessions import SessionStore

FOLDER = Path(os.environ.get("ALTERREC_PARITY", Path(__file__).parents[1] / "data" / "parity"))
FILES = sorted(FOLDER.glob("hggnn*.npz"))


def test_parity_files_are_there() -> None:
    assert FILES, f"no hggnn*.npz in {FOLDER}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_parity_edges_of_the_global_graph(path: Path) -> None:
    """Ours are the public edges without those of its padding node and of its user 0, which are no more
    than a self-loop each: item i is public node i + 1, user u public user u + 1."""
    with np.load(path, allow_pickle=False) as file:
        sessions, users = file["input.graph_sessions"], file["input.graph_users"]
        sources, targets = file["input.edge_src"], file["input.edge_dst"]
        num_items, offset = int(file["setting.items"]), int(file["setting.user_offset"])
        kept, num_nodes = int(file["setting.neighbours_kept"]), int(file["setting.nodes"])
    real = sessions > 0
    store = SessionStore.from_arrays(
        np.nonzero(real)[0],
        sessions[real] - 1,
        user_ids=np.repeat(users - 1, real.sum(1)),
        num_items=num_items,
    )
    graph = transition_graph(store, kept)
    public = np.concatenate([np.arange(1, num_items + 1), np.arange(offset + 1, num_nodes)])
    assert len(graph.offsets) == len(public) + 1
    ours = Counter(
        zip(public[graph.ids].tolist(), np.repeat(public, np.diff(graph.offsets)).tolist(), strict=True)
    )
    never_used = {(0, 0): 1, (offset, offset): 1}
    assert ours + Counter(never_used) == Counter(zip(sources.tolist(), targets.tolist(), strict=True))
