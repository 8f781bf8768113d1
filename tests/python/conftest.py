"""Fixtures shared by the tests: a tiny shop on disk, and the command line in this process."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import settings

from alterrec import cli


def pytest_configure() -> None:
    """Set the environment of all tests and of the processes they start, before torch and numba are imported.

    One torch thread per process, because pytest runs one process per core and the models are tiny. Numba's
    compiler is off because compiling ranx takes 90 s, while ranx without it takes 0.1 s on 200 sessions.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("NUMBA_DISABLE_JIT", "1")


# A shared machine makes single examples slow; the same examples each time keep CI's verdict about the change.
settings.register_profile("alterrec", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("alterrec")

WARES = ("tent", "lamp", "mug", "knife", "rope")
KINDS = ("red", "blue", "green", "large", "small", "light")
# Enough of a training for every part to run, in about a second.
TINY = (
    "--set=model.dim=8",
    "--set=schedule.epochs=6",
    "--set=optim.batch_size=64",
    "--set=run.baselines=false",
    "--set=run.threads=1",
)


class Outcome(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def shop_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 items with titles, the last one cold, and 150 sessions that stay with one kind of ware."""
    folder = tmp_path_factory.mktemp("shop")
    titles = [f"{kind} {ware}" for ware in WARES for kind in KINDS]
    rows = "".join(f"i{number},{title}\n" for number, title in enumerate(titles))
    (folder / "items.csv").write_text("item_id,title\n" + rows, "utf-8")
    rng = np.random.default_rng(7)
    first = 0
    for split, sessions in (("train", 110), ("valid", 20), ("test", 20)):
        lines = ["session_id,item_id,timestamp"]
        for session in range(first, first + sessions):
            ware = rng.integers(len(WARES))
            members = len(KINDS) - (split == "train" and ware == len(WARES) - 1)
            picks = ware * len(KINDS) + rng.choice(members, size=rng.integers(2, 5), replace=False)
            lines += [f"s{session},i{item},{100 * session + place}" for place, item in enumerate(picks)]
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n", "utf-8")
        first += sessions
    return folder


@pytest.fixture
def shop(shop_source: Path, tmp_path: Path) -> Path:
    """A copy of the shop that a test may spoil."""
    return Path(shutil.copytree(shop_source, tmp_path / "shop"))


@pytest.fixture
def alterrec(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Outcome]:
    """`alterrec ARGUMENTS` in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, entry: Callable[[], None] = cli.main) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["alterrec", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            entry()
        out, err = capsys.readouterr()
        code = ended.value.code
        return Outcome(code if isinstance(code, int) else 0, out, err)

    return run
