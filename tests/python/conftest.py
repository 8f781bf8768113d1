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


# No deadline, because a shared machine makes single examples slow. In CI the examples are the same in every
# run, so that a failure comes from the change and not from new examples.
settings.register_profile("alterrec", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("alterrec")

PRODUCTS = ("tent", "lamp", "mug", "knife", "rope")
KINDS = ("red", "blue", "green", "large", "small", "light")
# A training run in which every part of the code runs, in about a second.
TINY = (
    "--set=model.dim=8",
    "--set=schedule.epochs=6",
    "--set=optim.batch_size=64",
    "--set=run.baselines=false",
    "--set=run.threads=1",
)


class Outcome(NamedTuple):
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def shop_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 items with titles, the last one cold, and 150 sessions with one kind of product each."""
    folder = tmp_path_factory.mktemp("shop")
    titles = [f"{kind} {product}" for product in PRODUCTS for kind in KINDS]
    rows = "".join(f"i{number},{title}\n" for number, title in enumerate(titles))
    (folder / "items.csv").write_text("item_id,title\n" + rows, "utf-8")
    rng = np.random.default_rng(7)
    first = 0
    for split, sessions in (("train", 110), ("valid", 20), ("test", 20)):
        lines = ["session_id,item_id,timestamp"]
        for session in range(first, first + sessions):
            product = rng.integers(len(PRODUCTS))
            members = len(KINDS) - (split == "train" and product == len(PRODUCTS) - 1)
            picks = product * len(KINDS) + rng.choice(members, size=rng.integers(2, 5), replace=False)
            lines += [f"s{session},i{item},{100 * session + place}" for place, item in enumerate(picks)]
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n", "utf-8")
        first += sessions
    return folder


@pytest.fixture
def shop(shop_source: Path, tmp_path: Path) -> Path:
    """A copy of the shop that a test may modify."""
    return Path(shutil.copytree(shop_source, tmp_path / "shop"))


@pytest.fixture
def alterrec(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Outcome]:
    """A function that runs `alterrec ARGUMENTS` in this process, in a temporary folder."""
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
