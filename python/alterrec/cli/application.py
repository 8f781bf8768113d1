"""The Typer applications, the exit codes, and what turns an exception into one of them."""

from __future__ import annotations

import functools
import os
import shlex
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, ParamSpec

import typer

from alterrec import __version__, signals
from alterrec.console import discard_output, flush, print_line, report, silence, warn
from alterrec.errors import WRONG_INPUT, InputError, PeerError
from alterrec.job import current_job

# Exit codes, with WRONG_INPUT (2) and those of signals: 130 is Ctrl-C, 143 SIGTERM.
DONE, INTERNAL_ERROR = 0, 1
# Commands that several processes of torchrun share.
SHARED = ("train", "evaluate", "recommend")

Arguments = ParamSpec("Arguments")

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich" if sys.stdout is not None and sys.stdout.isatty() else None,
    help="Session-based recommenders from item IDs and item text.",
    epilog="Try `alterrec train`, which needs no data: there is a built-in catalogue. With a log of your "
    "own: prepare, audit, train, recommend. `alterrec COMMAND --help` has examples.",
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
        def interruptible() -> int:
            _take_part(command.__name__)
            with signals.at_work():
                return command(*args, **kwargs)

        raise typer.Exit(exit_code(interruptible))

    return run


def _take_part(command: str) -> None:
    """Make all processes of a job but the first one silent; InputError if the command needs no others.

    The first process of each machine prints errors, which the others of the job may not have.
    """
    job = current_job()
    if not job.is_first:
        silence(errors=job.local_rank > 0)
    if job.world > 1 and command not in SHARED:
        raise InputError(
            f"{command} runs in one process, but torchrun started {job.world}; run it without torchrun"
        )


def exit_code(command: Callable[[], int]) -> int:
    """Run a command and return its exit code; if it fails, standard error has one line.

    Code 1 means a fault of alterrec. What the machine refuses (files, folders, memory) is for the user to
    mend, so it has the code of wrong input, as :func:`outside_cause` decides.
    """
    try:
        code = command()
        flush()
    except InputError as error:
        warn(f"error: {error}")
        code = WRONG_INPUT
    except PeerError as error:
        advice = "the same command with --resume continues a training from its last checkpoint"
        warn(f"error: {error}; {advice}")
        code = INTERNAL_ERROR
    except KeyboardInterrupt as error:
        warn("; ".join(filter(None, ("stopped before there was a result", str(error)))))
        code = signals.exit_code()
    except BrokenPipeError:
        discard_output()
        code = DONE
    except SystemExit:
        raise
    # Rust libraries panic with an exception that Python does not count as an Exception.
    except BaseException as error:
        from alterrec.files import is_panic

        if not isinstance(error, Exception) and not is_panic(error):
            raise
        if os.environ.get("ALTERREC_TRACEBACK") == "1":
            traceback.print_exc()
        cause = outside_cause(error)
        if signals.were_received():
            # A library can turn the KeyboardInterrupt in one of its callbacks into another error.
            warn("stopped before there was a result")
            code = signals.exit_code()
        elif cause:
            warn(f"error: {cause}")
            code = WRONG_INPUT
        else:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            report(f"internal error, please report it: {reason} (ALTERREC_TRACEBACK=1 shows where)")
            code = INTERNAL_ERROR
        # What is still buffered would fail again at exit.
        with suppress(InputError):
            flush()
    return code


def outside_cause(error: BaseException) -> str:
    """Say what the machine refused, if that is why a command failed; empty for a fault of alterrec.

    Example:
        >>> outside_cause(PermissionError(13, "Permission denied", "/sys/run"))
        '/sys/run: no permission; choose a folder that you can write to'
        >>> outside_cause(KeyError("id"))
        ''
    """
    from alterrec.files import first_line, system_reason

    if isinstance(error, OSError) and error.errno is not None:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{system_reason(error)}"
    out_of_memory = isinstance(error, MemoryError) or "out of memory" in str(error).lower()
    # torch raises its own error for the memory of a device, and a RuntimeError for that of the machine.
    if out_of_memory or "can't allocate memory" in str(error):
        return (
            f"there is not enough memory ({first_line(error)}); set run.memory_budget, lower model.dim or "
            "optim.batch_size, or use a larger machine"
        )
    return ""


def command_line() -> str:
    """Return the command that was typed, as reports quote it."""
    return shlex.join(["alterrec", *sys.argv[1:]])
