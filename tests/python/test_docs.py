"""Run the examples of the documentation: README, the pages of docs/, and every docstring.

The blocks of a file share one namespace and one folder, which contains a small shop as `my_sessions/` and
`today.csv`. `python` blocks run as they are, those with prompts as doctests. In `console` blocks the commands
of `alterrec` run, and must print the lines below them (`...` matches anything).
"""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import shlex
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Outcome

import alterrec
from alterrec import recipe
from alterrec.data import readers
from alterrec.exports.onnx_files import OLDEST_TORCH
from alterrec.models import catalogue
from alterrec.models.reads import resolve_read

ROOT = Path(__file__).parents[2]
# Tutorials are executed and generated pages are made when the site is built, see docs/conf.py.
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "docs" / "reference" / "schemas.md",
]
GENERATED = {"cli", "recipes", "systems"}
MODULES = sorted(module.name for module in pkgutil.walk_packages(alterrec.__path__, "alterrec."))
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def workplace(alterrec: Callable[..., Outcome], shop_source: Path, tmp_path: Path) -> Callable[..., Outcome]:
    """The command line in a folder with the data that the documentation uses."""
    shutil.copytree(shop_source, tmp_path / "my_sessions")
    (tmp_path / "today.csv").write_text("session_id,item_id\nanna,i3\nanna,i1\nben,i14\n", "utf-8")
    return alterrec


def run_console(block: str, alterrec: Callable[..., Outcome]) -> None:
    """Run each `$ alterrec ...` of a block and compare what it prints."""
    checker = doctest.OutputChecker()
    for command, wanted in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
        name, *arguments = shlex.split(command, comments=True)
        if name == "alterrec":
            code, out, err = alterrec(*arguments)
            assert code == 0, f"{command}\n{err}"
            assert checker.check_output(wanted, out, FLAGS), f"{command}\n{out}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_of_a_page(
    page: Path, workplace: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = page.read_text("utf-8")
    # An example adds a reader.
    monkeypatch.setattr(readers, "READERS", dict(readers.READERS))
    if "alterrec tune" in text:
        pytest.importorskip("optuna")
    if "sentence_transformers.sentence_transformer" in text:
        pytest.importorskip("sentence_transformers.sentence_transformer", reason="its name before version 6")
    if "--to onnx" in text and tuple(map(int, torch.__version__.split(".")[:2])) < OLDEST_TORCH:
        pytest.skip("the ONNX exporter needs a newer torch")
    names: dict[str, object] = {"__name__": "__main__"}
    for language, block in BLOCK.findall(text):
        if language == "console":
            run_console(block, workplace)
        elif ">>>" in block:
            examples = doctest.DocTestParser().get_doctest(block, names, page.name, str(page), 0)
            runner = doctest.DocTestRunner(optionflags=FLAGS)
            runner.run(examples, clear_globs=False)
            names = examples.globs
            assert runner.failures == 0
        else:
            exec(compile(block, str(page), "exec"), names)


def test_the_system_of_a_page_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "extending.md").read_text("utf-8")
    (entry,) = re.findall(r'^"gru_plain": (.*),$', text, re.MULTILINE)
    (toml,) = re.findall(r"^# recipes/models/gru_plain.toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    monkeypatch.setitem(catalogue.MODELS, "gru_plain", eval(entry, {"Entry": catalogue.Entry}))
    shipped = recipe._shipped
    monkeypatch.setattr(
        recipe,
        "_shipped",
        lambda kind, name: tomllib.loads(toml) if name == "gru_plain" else shipped(kind, name),
    )
    assert resolve_read("gru_plain", overrides={"gru.hidden": 8}).id.session == "gru"


def test_the_pages_are_found_and_have_examples() -> None:
    assert len(PAGES) >= 4
    for page in ("README.md", "docs/quickstart.md"):
        assert len(BLOCK.findall((ROOT / page).read_text("utf-8"))) >= 2


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_and_headings_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)]+)", page.read_text("utf-8"))
    local = [link.partition("#") for link in links if "://" not in link]
    # Pages that are made of the code are there once the site is built, which also checks the links to them.
    local = [link for link in local if Path(link[0]).stem not in GENERATED]
    assert not [file for file, _, _ in local if not (page.parent / file).exists()]
    assert not [
        f"{file}#{anchor}"
        for file, _, anchor in local
        if anchor and anchor not in anchors(page.parent / file if file else page)
    ]


def anchors(page: Path) -> set[str]:
    """The names by which links refer to the headings of a page, formed as GitHub does."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0
    assert list(tmp_path.iterdir()) == []


def test_most_modules_have_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    modules = [importlib.import_module(name) for name in MODULES]
    counts = [sum(len(test.examples) for test in finder.find(module)) for module in modules]
    assert sum(counts) > 50
