"""The rooms that need numpy alone import nothing else; that they work so is tested in `test_wheel.py`."""

from __future__ import annotations

import subprocess
import sys

import pytest

LISTED = """
import sys
before = set(sys.modules)
import {rooms}
names = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(*sorted(names - set(sys.stdlib_module_names)))
"""


def python(*arguments: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("room", ["ranking", "sessions", "graphs", "metrics"])
def test_a_room_imports_numpy_alone(room: str) -> None:
    assert python("-c", LISTED.format(rooms=f"alterrec.{room}")) == "alterrec numpy\n"


def test_the_list_shows_what_else_is_imported() -> None:
    assert python("-c", LISTED.format(rooms="alterrec.ranking, pytest")).split()[:2] == [
        "_pytest",
        "alterrec",
    ]
