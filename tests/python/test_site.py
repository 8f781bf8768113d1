"""What the site is made of: schemas and pages that are generated from the code, and public docstrings."""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pydantic
import pytest
from conftest import Outcome

import alterrec
from alterrec import (
    graphs,
    logs,
    metrics,
    ranking,
    rectools_sampler,
    sessions,
    torch_data,
    torch_ops,
    vocabulary,
)
from alterrec.data.readers import load_dataset
from alterrec.data.synthetic import synthetic_dataset
from alterrec.recipe import recipe_fields, resolve
from alterrec.runs.fit import fit
from alterrec.runs.saved_model import SavedModel
from alterrec.studies.tune import tune

DOCS = Path(__file__).parents[2] / "docs"
generated_by_locked_pydantic = pytest.mark.skipif(
    tuple(map(int, pydantic.VERSION.split(".")[:2])) < (2, 14),
    reason="earlier versions of pydantic describe the same types in other words",
)


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """The module `docs/generate.py`."""
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@generated_by_locked_pydantic
def test_schemas_are_current(generate: ModuleType) -> None:
    made = {name: json.loads((DOCS / "schemas" / name).read_text("utf-8")) for name in generate.schemas()}
    assert made == generate.schemas(), "run python docs/generate.py"
    assert {path.name for path in (DOCS / "schemas").iterdir()} == set(made)


@generated_by_locked_pydantic
def test_schemas_say_what_a_number_is(generate: ModuleType) -> None:
    result = generate.schemas()["result.schema.json"]
    assert result["properties"]["stopped"]["description"] == "`finished`, `patience` or `interrupted`."
    assert "Attributes:" not in json.dumps(result)
    assert (
        "description"
        in generate.schemas()["recipe.schema.json"]["$defs"]["OptimSettings"]["properties"]["lr"]
    )


def test_readme_is_short() -> None:
    assert len((DOCS.parent / "README.md").read_text("utf-8").splitlines()) <= 150


def test_files_of_a_run_fit_the_schemas(generate: ModuleType, shop_source: Path, tmp_path: Path) -> None:
    validate = pytest.importorskip("jsonschema").validate
    run = fit(shop_source, "itemknn", out=tmp_path / "run", overrides={"run.report": False})
    schemas = generate.schemas()
    validate(json.loads((run.path / "result.json").read_text("utf-8")), schemas["result.schema.json"])
    recipe = tomllib.loads((run.path / "recipe.toml").read_text("utf-8"))
    validate(recipe, schemas["recipe.schema.json"])
    recipe["schedule"]["gap"] = -1
    with pytest.raises(Exception, match="minimum"):
        validate(recipe, schemas["recipe.schema.json"])


def test_generated_pages_name_every_command_key_and_system(
    generate: ModuleType, alterrec: Callable[..., Outcome]
) -> None:
    commands = generate.cli()
    _, out, _ = alterrec("--help")
    for name in ("train", "prepare", "study", "list"):
        assert name in out
        assert f"## alterrec {name}\n" in commands
    assert "| `--data` `PATH` |" in commands
    assert "alterrec train --data my_sessions" in commands
    keys = generate.recipes()
    assert all(f"| `{key}` |" in keys for key in recipe_fields())
    assert f"| `{resolve('alterrec').model_name}` | ours | yes |" in generate.systems()


def public_functions() -> Iterator[Any]:
    """The functions and methods of the reference, from the names that its pages and modules give."""
    light = (ranking, metrics, sessions, graphs, logs, vocabulary, torch_data, torch_ops, rectools_sampler)
    for module in (alterrec, *light):
        for name in module.__all__:
            found = getattr(module, name)
            if inspect.isroutine(found) or (inspect.isclass(found) and not issubclass(found, tuple)):
                yield found
    yield from (load_dataset, synthetic_dataset, tune, SavedModel.recommend)


@pytest.mark.parametrize("function", list(public_functions()), ids=lambda function: function.__qualname__)
def test_public_docstrings_describe_every_argument(function: Any) -> None:
    text = inspect.getdoc(function) or ""
    assert text.split("\n\n")[0].endswith((".", ":"))
    described = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    lines = re.findall(r"^    (\w[\w, ]*):", described[1], re.MULTILINE) if described else []
    names = set(re.findall(r"\w+", " ".join(lines)))
    try:
        parameters = [each.name for each in inspect.signature(function).parameters.values()]
    except ValueError:  # a compiled class states its signature in the first line of its constructor
        return
    missing = [name for name in parameters if name not in names | {"self"}]
    # A function of one or two arguments may name them in its first sentence.
    assert not missing or (len(parameters) <= 2 and not names), missing
    assert names <= set(parameters), names - set(parameters)
