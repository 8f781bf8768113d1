"""The command line: `alterrec`, and `alterrec-train`, which is `alterrec train`.

Modules that need torch are imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import sys

import typer

# Importing a module of commands adds them to `app`, in the order in which --help lists them.
# isort: off
from alterrec.cli import preparing, training, recommending, catalogues, studies  # noqa: F401
from alterrec.cli import analyses, listings, export, importing, serving  # noqa: F401

# isort: on
from alterrec import signals
from alterrec.cli.application import DONE, app, exit_code, train_app
from alterrec.console import open_streams, warn
from alterrec.errors import WRONG_INPUT

__all__ = ["app", "main", "train_app", "train_main"]


def train_main() -> None:
    """Entry point of `alterrec-train`."""
    main(train_app)


def main(application: typer.Typer = app) -> None:
    """Entry point of `alterrec`."""
    open_streams()
    # torch's idle workers spin by default. On two cores with other work, a hard-negative epoch of Online
    # Retail took 4.1 to 5.4 s that way and 2.4 to 2.6 s with passive waiting.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Item texts contain any character; a terminal that cannot show one shows a question mark.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    for argument in sys.argv[1:]:
        if not _is_text(argument):
            warn(
                f"error: the argument {argument!r} is not text in the locale's encoding "
                f"({sys.getfilesystemencoding()}); set PYTHONUTF8=1, or use names of ASCII letters"
            )
            sys.exit(WRONG_INPUT)
    # Commands turn their own errors into exit codes; this is for what the parser prints, such as --help.
    with signals.handled():
        sys.exit(exit_code(lambda: application() or DONE))


def _is_text(argument: str) -> bool:
    """Whether an argument could be decoded; otherwise it has bytes that no library takes for a path.

    Example:
        >>> _is_text("data"), _is_text("data" + chr(0xDCC3))
        (True, False)
    """
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True
