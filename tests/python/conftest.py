"""Fixtures shared by the tests: a tiny shop on disk, and the command line in this process."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import settings
from shop import write_shop

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
    """The folder of :func:`shop.write_shop`."""
    return write_shop(tmp_path_factory.mktemp("shop"))


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
