"""FDSA on categories, from columns of a data set to a saved run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from worlds import NUM_ITEMS, small_dataset

from alterrec.data.dataset import Dataset, ItemText
from alterrec.errors import InputError
from alterrec.runs.fit import fit
from alterrec.runs.measure import evaluate_run

SMALL = {
    "fdsa.features": "attributes",
    "model.dim": 8,
    "schedule.epochs": 1,
    "run.baselines": False,
    "run.report": False,
    "run.threads": 1,
}


def films() -> Dataset:
    fields = {
        "title": [f"film {item}" for item in range(NUM_ITEMS)],
        "studio": [f"studio {item // 10}" for item in range(NUM_ITEMS)],
        "genre": [f"genre {item % 3}, genre {item % 5}" for item in range(NUM_ITEMS)],
    }
    return replace(small_dataset(), text=ItemText(fields))


def test_a_run_on_attributes_comes_back_from_its_folder(tmp_path: Path) -> None:
    run = fit(films(), "fdsa", out=tmp_path, overrides=SMALL | {"data.categories": ("studio", "genre")})
    again = evaluate_run(tmp_path, films())
    assert again["test"]["score"]["ndcg@20"] == pytest.approx(run.result["test"]["score"]["ndcg@20"])


def test_attributes_need_categories(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the items have no categories; .*data.categories=COLUMN"):
        fit(films(), "fdsa", out=tmp_path, overrides=SMALL)
    with pytest.raises(InputError, match=r"column 'gener' is missing; .*did you mean 'genre'"):
        fit(films(), "fdsa", out=tmp_path, overrides=SMALL | {"data.categories": ("gener",)})
