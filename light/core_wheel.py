"""Build backend of alterrec-core: the wheel of alterrec, reduced to the modules that need only numpy.

``pip install ./light`` builds the wheel of alterrec and reduces it. To reduce wheels that exist:

    python light/core_wheel.py FOLDER WHEEL...

Both distributions therefore contain the same extension and the same files.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import sys
import tomllib
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZIP_DEFLATED, ZipFile

LIGHT = Path(__file__).resolve().parent
MODULES = (
    "graphs",
    "list_metrics",
    "logs",
    "metrics",
    "ranking",
    "rectools_sampler",
    "sessions",
    "torch_data",
    "torch_ops",
    "vocabulary",
)
# Imported by every user, and by type checkers; `__init__` imports the modules of alterrec only on first use.
ALWAYS = ("__init__.py", "_core.pyi", "py.typed")
# Tells alterrec/__init__.py that this distribution is installed.
MARK = "alterrec/_alterrec_core.txt"


def get_requires_for_build_wheel(config_settings: dict[str, object] | None = None) -> list[str]:
    import maturin

    return list(maturin.get_requires_for_build_wheel(config_settings))


def build_wheel(
    wheel_directory: str,
    config_settings: dict[str, object] | None = None,
    metadata_directory: str | None = None,
) -> str:
    import maturin

    folder = Path(wheel_directory).resolve()
    with TemporaryDirectory() as built, chdir(LIGHT.parent):
        return reduce_wheel(Path(built) / maturin.build_wheel(built, config_settings), folder).name


def reduce_wheel(wheel: Path, folder: Path) -> Path:
    """Write the wheel of alterrec-core that has the version and the extension of a wheel of alterrec."""
    name, version, tags = wheel.name.split("-", 2)
    assert name == "alterrec", f"{wheel.name} is not a wheel of alterrec"
    reduced = folder / f"alterrec_core-{version}-{tags}"
    old, new = f"alterrec-{version}.dist-info", f"alterrec_core-{version}.dist-info"
    with ZipFile(wheel) as full, ZipFile(reduced, "w", ZIP_DEFLATED) as light:
        modules = needed_files(full)
        record = ""
        for info in full.infolist():
            content = full.read(info)
            if info.filename in (f"{old}/RECORD", f"{old}/entry_points.txt"):
                continue
            if info.filename == f"{old}/METADATA":
                content = metadata(content.decode()).encode()
            if info.filename.startswith(f"{old}/"):
                info.filename = new + info.filename.removeprefix(old)
            elif info.filename not in modules:
                continue
            record += record_line(info.filename, content)
            light.writestr(info, content, ZIP_DEFLATED)
        mark = f"alterrec-core {version}\n".encode()
        light.writestr(MARK, mark)
        light.writestr(f"{new}/RECORD", f"{record}{record_line(MARK, mark)}{new}/RECORD,,\n")
    return reduced


def needed_files(wheel: ZipFile) -> set[str]:
    """Return the files of MODULES, of all that they import, and of the extension."""
    names = set(wheel.namelist())
    found: set[str] = set()
    waiting = [f"alterrec/{module}.py" for module in MODULES]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting.extend(names.intersection(imported_files(wheel.read(file))))
    extension = {name for name in names if name.startswith("alterrec/_core.")}
    return found | extension | {f"alterrec/{name}" for name in ALWAYS}


def imported_files(source: bytes) -> Iterator[str]:
    """Yield the files of the modules of alterrec that a module may import."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or "", *(f"{node.module}.{name.name}" for name in node.names)]
        else:
            continue
        yield from (f"{module.replace('.', '/')}.py" for module in modules if module.startswith("alterrec."))


def metadata(full: str) -> str:
    """Return the metadata of alterrec with name, summary, requirements and description of alterrec-core."""
    project = tomllib.loads((LIGHT / "pyproject.toml").read_text("utf-8"))["project"]
    headers, _, _ = full.partition("\n\n")
    replaced = ("Name", "Summary", "Requires-Dist", "Provides-Extra")
    kept = [line for line in headers.splitlines() if line.partition(":")[0] not in replaced]
    return "\n".join(
        [
            kept[0],
            f"Name: {project['name']}",
            f"Summary: {project['description']}",
            *kept[1:],
            *(f"Requires-Dist: {each}" for each in project["dependencies"]),
            "",
            (LIGHT / project["readme"]).read_text("utf-8"),
        ]
    )


def record_line(name: str, content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(content)}\n"


if __name__ == "__main__":
    target, *wheels = map(Path, sys.argv[1:])
    target.mkdir(parents=True, exist_ok=True)
    for each in wheels:
        print(reduce_wheel(each, target))
