"""The rooms that need numpy alone import nothing else, and work where nothing else can be imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SMOKE = Path(__file__).parents[1] / "wheel_smoke.py"
LISTED = """
import sys
before = set(sys.modules)
import {rooms}
names = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(*sorted(names - set(sys.stdlib_module_names)))
"""


def python(*arguments: str | Path) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("room", ["ranking", "sessions", "metrics"])
def test_a_room_imports_numpy_alone(room: str) -> None:
    assert python("-c", LISTED.format(rooms=f"alterrec.{room}")) == "alterrec numpy\n"


def test_the_list_shows_what_else_is_imported() -> None:
    assert python("-c", LISTED.format(rooms="alterrec.ranking, pytest")).split()[:2] == [
        "_pytest",
        "alterrec",
    ]


def test_they_work_where_nothing_else_can_be_imported() -> None:
    """Types and stub beside them: the file is what `wheels.yml` runs on every wheel."""
    assert python(SMOKE).endswith(": works\n")
