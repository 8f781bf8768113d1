"""The distribution alterrec-core: which files it has, and what it says if alterrec is installed, too.

`.ci/light` builds and installs the real one.
"""

from __future__ import annotations

import base64
import csv
import email
import hashlib
import importlib.util
import io
import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

import alterrec

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("core_wheel", ROOT / "light" / "core_wheel.py")
assert SPEC is not None
assert SPEC.loader is not None
core_wheel = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(core_wheel)

METADATA = """Metadata-Version: 2.4
Name: alterrec
Version: 9.9
Requires-Dist: torch>=2.4
Requires-Dist: optuna>=4.3 ; extra == 'tune'
Provides-Extra: tune
License-File: LICENSE
Summary: Session-based recommenders
Requires-Python: >=3.11

# alterrec
"""
INFO = {
    "METADATA": METADATA,
    "WHEEL": "Wheel-Version: 1.0\nTag: cp311-abi3-linux_x86_64\n",
    "entry_points.txt": "[console_scripts]\nalterrec=alterrec.__main__:main\n",
    "licenses/LICENSE": "the license",
    "RECORD": "",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is made from one with all files of this package."""
    folder = tmp_path_factory.mktemp("wheels")
    full = folder / "alterrec-9.9-cp311-abi3-linux_x86_64.whl"
    package = Path(alterrec.__file__).parent
    with ZipFile(full, "w") as file:
        for path in package.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                file.write(path, f"alterrec/{path.relative_to(package).as_posix()}")
        for name, content in INFO.items():
            file.writestr(f"alterrec-9.9.dist-info/{name}", content)
    reduced: Path = core_wheel.reduce_wheel(full, folder)
    return reduced


@pytest.fixture
def site(wheel: Path, tmp_path: Path) -> Path:
    """A folder with the installed files."""
    ZipFile(wheel).extractall(tmp_path)
    return tmp_path


def run(site: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a fresh interpreter that finds alterrec-core first."""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, cwd=site, check=False
    )


def test_it_has_the_light_modules_and_what_they_import(wheel: Path) -> None:
    assert wheel.name == "alterrec_core-9.9-cp311-abi3-linux_x86_64.whl"
    names = {name for name in ZipFile(wheel).namelist() if name.startswith("alterrec/")}
    modules = {name.removeprefix("alterrec/").removesuffix(".py") for name in names if name.endswith(".py")}
    assert {"__init__", *core_wheel.MODULES, "errors", "_ranking_torch"} <= modules
    assert not {"__main__", "recipe", "files", "runs/fit", "nn/losses"} & modules
    assert not [name for name in modules if "/" in name]
    assert {"alterrec/py.typed", "alterrec/_core.pyi", "alterrec/_alterrec_core.txt"} < names
    assert [name for name in names if name.startswith("alterrec/_core.abi3") or name.endswith(".pyd")]


def test_its_metadata_name_numpy_alone(wheel: Path) -> None:
    info = "alterrec_core-9.9.dist-info"
    with ZipFile(wheel) as file:
        found = email.message_from_bytes(file.read(f"{info}/METADATA"))
        assert {name for name in file.namelist() if "dist-info" in name} == {
            f"{info}/{name}" for name in ("METADATA", "WHEEL", "licenses/LICENSE", "RECORD")
        }
    assert (found["Name"], found["Version"], found["Requires-Python"]) == ("alterrec-core", "9.9", ">=3.11")
    assert found.get_all("Requires-Dist") == ["numpy>=1.26"]
    assert found.get_all("Provides-Extra") is None
    assert found.get_payload().startswith("# alterrec-core\n")


def test_its_record_lists_each_file_with_its_hash(wheel: Path) -> None:
    with ZipFile(wheel) as file:
        rows = list(csv.reader(io.StringIO(file.read("alterrec_core-9.9.dist-info/RECORD").decode())))
        assert sorted(name for name, _, _ in rows) == sorted(file.namelist())
        for name, digest, size in rows:
            if not name.endswith("RECORD"):
                content = file.read(name)
                expected = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
                assert (digest, size) == (f"sha256={expected}", str(len(content)))


def test_only_a_wheel_of_alterrec_can_be_reduced(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="is not a wheel of alterrec"):
        core_wheel.reduce_wheel(tmp_path / "numpy-2.0-cp311-abi3-linux_x86_64.whl", tmp_path)


def test_it_passes_the_check_of_a_wheel(site: Path) -> None:
    done = run(site, Path(__file__).with_name("wheel_smoke.py"), "alterrec-core")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""


def test_it_says_what_it_does_not_have(site: Path) -> None:
    done = run(site, "-c", "import alterrec; alterrec.fit")
    assert done.stderr.splitlines()[-1] == (
        "ImportError: alterrec.fit is not in alterrec-core, which has only the modules that need numpy "
        "alone; run `pip uninstall alterrec-core` and install alterrec"
    )


def test_a_missing_dependency_is_named_as_it_is(site: Path) -> None:
    (site / "alterrec" / "runs").mkdir()
    (site / "alterrec" / "runs" / "fit.py").write_text("import no_such_dependency\n", "utf-8")
    done = run(site, "-c", "import alterrec; alterrec.fit")
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'no_such_dependency'"


def test_both_distributions_at_once_are_warned_about(site: Path) -> None:
    (site / "alterrec" / "__main__.py").touch()
    done = run(site, "-c", "import alterrec.ranking; print('imported')")
    assert done.stdout == "imported\n"
    assert "UserWarning: alterrec and alterrec-core are both installed." in done.stderr
    assert "pip uninstall alterrec alterrec-core" in done.stderr


def test_both_allow_the_same_versions() -> None:
    import tomllib

    full, light = (
        tomllib.loads((ROOT / path).read_text("utf-8")) for path in ("pyproject.toml", "light/pyproject.toml")
    )
    assert set(light["project"]["dependencies"]) < set(full["project"]["dependencies"])
    for key in ("requires-python", "license"):
        assert light["project"][key] == full["project"][key]
    assert light["build-system"]["requires"] == full["build-system"]["requires"]
