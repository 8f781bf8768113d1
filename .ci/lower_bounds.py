"""Print the oldest versions that pyproject.toml allows, as a constraints file of pip.

Only what the package itself needs, and what its users install by an extra, has bounds that users rely on.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

EXTRAS = ("hub", "multilingual", "onnx", "serve", "tensorboard", "tune")


def lower_bounds(project: dict[str, object]) -> list[str]:
    """Return ``name==version`` for each requirement ``name>=version``."""
    extras = project["optional-dependencies"]
    assert isinstance(extras, dict)
    needed = [*project["dependencies"], *(each for extra in EXTRAS for each in extras[extra])]  # type: ignore[misc]
    found = (re.fullmatch(r"([\w.-]+)>=([\w.]+)(,<.+)?", each) for each in needed)
    return [f"{match[1]}=={match[2]}" for match in found if match]


if __name__ == "__main__":
    root = Path(__file__).resolve().parent.parent
    print("\n".join(lower_bounds(tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"])))
