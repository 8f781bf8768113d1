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
# Before version 2, numpy's own extension has modules of Cython.
print(*sorted(name for name in names - set(sys.stdlib_module_names) if "cython" not in name))
"""
ADDED = """
import sys, numpy
before = set(sys.modules)
import alterrec.{module}
print(*sorted(set(sys.modules) - before))
"""


def python(*arguments: str) -> str:
    """The output of a fresh interpreter."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("module", ["ranking", "sessions", "graphs", "logs", "metrics"])
def test_a_module_imports_numpy_alone(module: str) -> None:
    assert python("-c", LISTED.format(modules=f"alterrec.{module}")) == "alterrec numpy\n"


def test_the_list_shows_what_else_is_imported() -> None:
    assert python("-c", LISTED.format(modules="alterrec.ranking, pytest")).split()[:2] == [
        "_pytest",
        "alterrec",
    ]


@pytest.mark.parametrize(
    ("module", "own"),
    [
        ("ranking", ["_core", "_ranking_arguments", "_ranking_mixtures", "_ranking_seen", "ranking"]),
        ("sessions", ["_core", "_ranking_arguments", "sessions"]),
    ],
)
def test_a_module_imports_little_after_numpy(module: str, own: list[str]) -> None:
    """The import takes 0.01 s after numpy's; its modules are counted, because times vary."""
    names = python("-c", ADDED.format(module=module)).split()
    assert [name for name in names if name.startswith("alterrec.")] == [f"alterrec.{name}" for name in own]
    # An older numpy has imported __future__ itself.
    assert {name.partition(".")[0] for name in names} - {"__future__"} == {"alterrec", "numpy"}
