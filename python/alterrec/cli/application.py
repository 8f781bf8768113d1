"""The Typer applications, the exit codes, and what turns an exception into one of them."""

from __future__ import annotations

import functools
import os
import shlex
import sys
import traceback
from collections.abc import Callable
from typing import Annotated, ParamSpec

import typer

from alterrec import __version__
from alterrec.console import discard_output, print_line, warn
from alterrec.errors import WRONG_INPUT, InputError

# Exit codes, with WRONG_INPUT (2); INTERRUPTED is Ctrl-C.
DONE, INTERNAL_ERROR, INTERRUPTED = 0, 1, 130

Arguments = ParamSpec("Arguments")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich" if sys.stdout is not None and sys.stdout.isatty() else None,
    help="Session-based recommenders from item IDs and item text.",
    epilog="Start with: alterrec train   (it needs no data files: it uses a built-in catalogue)",
)
train_app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=app.rich_markup_mode
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print_line(f"alterrec {__version__}")
        raise typer.Exit(DONE)


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Declare the options that come before a command."""


def guarded(command: Callable[Arguments, int]) -> Callable[Arguments, None]:
    """Make a command end with an exit code, and with one line on standard error if it fails."""

    @functools.wraps(command)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        try:
            code = command(*args, **kwargs)
            sys.stdout.flush()
        except InputError as error:
            warn(f"error: {error}")
            code = WRONG_INPUT
        except KeyboardInterrupt:
            warn("stopped before there was a result")
            code = INTERRUPTED
        except BrokenPipeError:
            discard_output()
            code = DONE
        except Exception as error:
            if os.environ.get("ALTERREC_TRACEBACK") == "1":
                traceback.print_exc()
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            warn(f"internal error, please report it: {reason} (ALTERREC_TRACEBACK=1 shows where)")
            code = INTERNAL_ERROR
        raise typer.Exit(code)

    return run


def command_line() -> str:
    """Return the command that was typed, as reports quote it."""
    return shlex.join(["alterrec", *sys.argv[1:]])
