"""What the built-in catalogue was planted for, on a small one: fusion helps, naive fusion starves text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alterrec import fit
from alterrec.data.synthetic import synthetic_dataset

SMALL: dict[str, Any] = {
    "schedule.epochs": 8,
    "run.baselines": False,
    "run.report": False,
    "run.threads": 1,
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, dict[str, float]]]:
    """Test metrics by system and view."""
    data = synthetic_dataset(seed=0, items=1500, sessions=10_000)
    folder: Path = tmp_path_factory.mktemp("runs")
    # Each network has as many epochs as one that is trained alone.
    two = {"fusion.neighbours": False, "schedule.epochs": 2 * SMALL["schedule.epochs"]}
    systems = {"alterrec": two, "id_only": {}, "text_only": {}, "nfrec_concat": {}}
    return {
        name: fit(data, name, out=folder / name, overrides=SMALL | own).result["test"]
        for name, own in systems.items()
    }


def test_the_sum_of_id_and_text_beats_either_trained_alone(
    results: dict[str, dict[str, dict[str, float]]],
) -> None:
    fused = results["alterrec"]["score"]
    for alone in ("id_only", "text_only"):
        for metric in ("hits@20", "ndcg@20"):
            assert fused[metric] > 1.02 * results[alone]["score"][metric], (alone, metric)


def test_naive_fusion_leaves_its_text_part_behind(results: dict[str, dict[str, dict[str, float]]]) -> None:
    part, alone = results["nfrec_concat"]["text"], results["text_only"]["score"]
    assert part["ndcg@20"] < 0.85 * alone["ndcg@20"]
    assert part["hits@20"] < 0.85 * alone["hits@20"]


def test_text_under_alternation_is_not_left_behind(results: dict[str, dict[str, dict[str, float]]]) -> None:
    assert results["alterrec"]["text"]["ndcg@20"] > 0.9 * results["text_only"]["score"]["ndcg@20"]
