"""The modules that need only numpy import nothing else; `test_wheel.py` tests that they work without more."""

from __future__ import annotations

import subprocess
import sys

import pytest

LISTED = """
import sys
before = set(sys.modules)
import {modules}
names = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(*sorted(names - set(sys.stdlib_module_names)))
"""


def python(*arguments: str) -> str:
    """The output of a fresh interpreter."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("module", ["ranking", "sessions", "graphs", "metrics"])
def test_a_module_imports_numpy_alone(module: str) -> None:
    assert python("-c", LISTED.format(modules=f"alterrec.{module}")) == "alterrec numpy\n"


def test_the_list_shows_what_else_is_imported() -> None:
    assert python("-c", LISTED.format(modules="alterrec.ranking, pytest")).split()[:2] == [
        "_pytest",
        "alterrec",
    ]
