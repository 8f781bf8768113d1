"""Ages of training sessions, and the samples that an epoch uses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from worlds import small_dataset

from alterrec import fit
from alterrec.data.times import used_shares
from alterrec.sessions import PrefixBatches, SessionStore
from alterrec.training.trainer import _recent_samples

DAY = 86_400
START = 20_000 * DAY


def store(times: list[int] | None, sessions: list[int]) -> SessionStore:
    items = np.arange(len(sessions)) % 7
    return SessionStore.from_arrays(sessions, items, timestamps=times, num_items=7)


def test_the_share_halves_with_each_half_life() -> None:
    times = [START + day * DAY for day in (0, 1, 4, 5, 8, 8)]
    # Sessions end on days 1, 5 and 8: ages 1, 3/7 and 0 of a period of 7 days.
    found = used_shares(store(times, [0, 0, 1, 1, 2, 2]), half_life=0.25)
    assert found == pytest.approx([2**-4.0, 2 ** -(3 / 7 / 0.25), 1.0])


@pytest.mark.parametrize(
    ("times", "half_life"),
    [(None, 0.5), ([1, 2, 3, 4], 0.5), ([START] * 4, 0.5), ([START, START, START + DAY, START + DAY], 0.0)],
    ids=["no times", "ranks", "one moment", "no half-life"],
)
def test_all_samples_are_used_where_age_is_unknown(times: list[int] | None, half_life: float) -> None:
    assert used_shares(store(times, [0, 0, 1, 1]), half_life) is None


def test_samples_are_used_as_often_as_their_share_says() -> None:
    data = small_dataset(sessions=2000)
    shares = np.where(np.arange(data.train.num_sessions) < 1000, 0.25, 1.0)

    def used(seed: int) -> Any:
        batches = PrefixBatches(data.train, 512, 50, seed=0, layout="by_session")
        return np.concatenate([_recent_samples(batch, shares, seed).sessions for batch in batches])

    old = data.train.lengths[:1000].sum() - 1000
    found = used(3)
    assert (found < 1000).sum() == pytest.approx(0.25 * old, rel=0.1)
    assert (found >= 1000).sum() == data.train.lengths[1000:].sum() - 1000
    # Another epoch uses others, and the same epoch the same.
    assert not np.array_equal(np.sort(found), np.sort(used(4)))
    assert np.array_equal(found, used(3))


def test_a_run_trains_on_fewer_samples(tmp_path: Path) -> None:
    sessions = np.repeat(np.arange(60), 3)
    times = START + sessions * DAY
    rows = ["session_id,item_id,timestamp"]
    rows += [
        f"s{s},i{(s + k) % 9},{t + k}"
        for (s, t), k in zip(zip(sessions, times, strict=True), [0, 1, 2] * 60, strict=True)
    ]
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "items.csv").write_text(
        "item_id,title\n" + "\n".join(f"i{i},name {i}" for i in range(9)) + "\n"
    )
    small = {"model.dim": 4, "schedule.epochs": 1, "run.baselines": False, "run.report": False}
    samples = {}
    for half_life in (0.0, 0.1):
        run = fit(
            tmp_path,
            "id_only",
            out=tmp_path / str(half_life),
            overrides=small | {"data.half_life": half_life},
        )
        (line,) = (run.path / "curves.jsonl").read_text().splitlines()
        samples[half_life] = int(line.split('"samples": ')[1].split(",")[0])
    assert samples[0.0] == 120
    assert samples[0.1] < 60
