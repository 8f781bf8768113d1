"""The rules of docs/architecture.md: imports go to lower layers, class names are unique, files are short."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import alterrec

PACKAGE = Path(alterrec.__file__).parent
LAYERS = {
    "_core": 0,
    "errors": 0,
    "job": 0,
    "_metrics_several": 0,
    "_ranking_arguments": 0,
    "_ranking_torch": 0,
    "processes": 0,
    "signals": 0,
    "files": 1,
    "progress": 1,
    "_ranking_mixtures": 1,
    "_ranking_seen": 1,
    "_ranking_torch_windows": 1,
    "metrics": 1,
    "parallel": 1,
    "recipe_systems": 1,
    "graphs": 2,
    "locks": 2,
    "_ranking_cuts": 2,
    "ranking": 2,
    "recipe_settings": 2,
    "record_json": 2,
    "logs": 2,
    "sessions": 2,
    "shards": 2,
    "stored": 2,
    "trackers": 2,
    "rectools_sampler": 3,
    "sharded_windows": 3,
    "torch_data": 3,
    "torch_ops": 3,
    "tensor_files": 3,
    "vocabulary": 3,
    "manifest": 3,
    "list_metrics": 3,
    "recipe": 3,
    "recipe_digests": 4,
    "data": 4,
    "nn": 4,
    "models": 5,
    "evaluation": 6,
    "results": 7,
    "study_records": 8,
    "training": 9,
    "comparable": 9,
    "report": 9,
    "analyses": 10,
    "runs": 11,
    "exports": 12,
    "serving": 12,
    "studies": 12,
    "console": 13,
    "cli": 14,
    "__main__": 15,
    "worker": 16,
}
TORCH_FREE = ("report", "results", "metrics", "recipe", "recipe_digests", "recipe_settings", "recipe_systems")
CORE_USERS = {
    "__init__.py",
    "_ranking_cuts.py",
    "_ranking_mixtures.py",
    "_ranking_seen.py",
    "graphs.py",
    "ranking.py",
    "logs.py",
    "sessions.py",
    "models/neighbours.py",
    "models/service_scores.py",
}
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def imported(file: str) -> Iterator[str]:
    """Dotted names that a file imports, at any level of nesting."""
    for node in ast.walk(ast.parse((PACKAGE / file).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def package(file: str) -> str:
    return file.removesuffix(".py").split("/")[0]


def own_imports(file: str) -> set[str]:
    """Packages and top-level modules of alterrec that a file imports from."""
    return {name.split(".")[1] for name in imported(file) if name.startswith("alterrec.")}


def test_every_file_has_a_layer() -> None:
    assert len(FILES) > 20
    assert {package(file) for file in FILES} - {"__init__"} <= LAYERS.keys()


@pytest.mark.parametrize("file", [file for file in FILES if file != "__init__.py"])
def test_a_package_imports_only_from_lower_layers(file: str) -> None:
    here = package(file)
    upward = {other for other in own_imports(file) - {here, "__version__"} if LAYERS[other] >= LAYERS[here]}
    assert not upward


def test_only_a_few_modules_import_the_core() -> None:
    assert {file for file in FILES if "_core" in own_imports(file)} == CORE_USERS


@pytest.mark.parametrize("file", [file for file in FILES if package(file) in ("training", "evaluation")])
def test_trainer_and_evaluator_never_name_a_model(file: str) -> None:
    """They use the protocol in models/base; names of systems are in the catalogue and in recipes."""
    assert not {name for name in imported(file) if name.startswith("alterrec.models.catalogue")}


@pytest.mark.parametrize("file", [file for file in FILES if package(file) in TORCH_FREE])
def test_reports_metrics_and_recipes_never_import_torch(file: str) -> None:
    assert "torch" not in {name.split(".")[0] for name in imported(file)}


@pytest.mark.parametrize(
    "modules",
    [
        "alterrec.ranking, alterrec.sessions, alterrec.graphs, alterrec.logs, alterrec.metrics",
        "alterrec.cli",
        "alterrec.studies.tune",
        "alterrec.analyses.run_page",
    ],
)
def test_importing_these_does_not_import_torch(modules: str) -> None:
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_wrong_setting_is_refused_before_the_readers_are_imported() -> None:
    code = "import sys; from alterrec.cli import main\ntry: main()\nfinally: print('polars' in sys.modules)"
    command = [sys.executable, "-c", code, "train", "--data", "nowhere", "--set", "dim=3"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "False\n")
    assert "did you mean 'model.dim'?" in done.stderr


def test_a_class_name_has_one_meaning() -> None:
    names = [
        node.name
        for file in FILES
        for node in ast.walk(ast.parse((PACKAGE / file).read_text("utf-8")))
        if isinstance(node, ast.ClassDef)
    ]
    assert not {name for name in names if names.count(name) > 1}


@pytest.mark.parametrize("file", FILES)
def test_a_file_is_short_enough_to_read(file: str) -> None:
    assert len((PACKAGE / file).read_text("utf-8").splitlines()) <= 500


def test_only_the_wrappers_use_pyo3() -> None:
    rust = Path(__file__).parents[2] / "rust"
    files = list(rust.glob("*.rs"))
    assert len(files) > 5
    assert not [path.name for path in files if "pyo3" in path.read_text("utf-8")]
