"""The command line: `alterrec`, and `alterrec-train`, which is `alterrec train`.

Modules that need torch are imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import sys

import typer

# Importing a module of commands adds them to `app`, in the order in which --help lists them.
from alterrec.cli import training, studies, analyses, listings  # isort: skip  # noqa: F401
from alterrec.cli.application import app, train_app

__all__ = ["app", "main", "train_app", "train_main"]


def train_main() -> None:
    """Entry point of `alterrec-train`."""
    main(train_app)


def main(application: typer.Typer = app) -> None:
    """Entry point of `alterrec`."""
    # torch's idle workers spin by default. On two cores with other work, a hard-negative epoch of Online
    # Retail took 4.1 to 5.4 s that way and 2.4 to 2.6 s with passive waiting.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Item texts contain any character; a terminal that cannot show one shows a question mark.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    application()
