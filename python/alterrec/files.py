"""Write files atomically, and read them with errors that name the file and the place in it."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from alterrec import signals
from alterrec.errors import InputError
from alterrec.processes import is_gone_tag, process_tag

T = TypeVar("T")

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EFBIG: "it would be larger than the limit for files; raise the limit (ulimit -f)",
    errno.EACCES: "no permission; choose a folder that you can write to",
    errno.EPERM: "no permission; choose a folder that you can write to",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.ENOTDIR: "part of the path is a file; choose another folder",
    errno.EEXIST: "part of the path is a file; choose another folder",
    errno.EISDIR: "it is a folder; choose another name",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}
# Outside of writing, these also mean that the path or the machine is not as the user thinks.
_MORE_REASONS = {
    errno.ENOENT: "no such file or folder",
    errno.EIO: "the device reports an error",
    errno.ELOOP: "its links form a loop",
    errno.EMFILE: "too many files are open; raise the limit (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine",
    errno.ENOMEM: "there is not enough memory",
    errno.EBUSY: "it is in use",
    errno.ETIMEDOUT: "the device does not answer",
    errno.ESTALE: "the network share has gone; mount it again",
    errno.EINVAL: "the file system does not support this",
    errno.ENOTSUP: "the file system does not support this",
}
_NO_SPACE = 2**16  # bytes; every file that failed to be written was larger
_LARGEST = 2**64  # no number in a record is larger: seeds have 64 bits
# One block at a time may redirect standard error.
_panics = threading.RLock()
# Names of temporary files: the name of the file, the process that writes it, and random digits. Version 0.1.0
# did not name the process, so another program may have written a file that is named like its files.
_TEMPORARY = re.compile(r"\.(?P<stem>.+?)(\.(?P<tag>[0-9a-f]{8}-[0-9a-f]+))?\.[0-9a-f]{8}(\.\w+)?")
# After this time a temporary file is left over, wherever the process was that wrote it.
_LEFT_OVER_SECONDS = 3600.0
_swept: set[Path] = set()


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` when the block ends without an error.

    The folder is created if it does not exist. The temporary name keeps the suffix, because some writers
    choose the format by it. After an error ``path`` is unchanged and the temporary file is removed.

    Raises:
        InputError: the disk is full or the path cannot be written to.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "note.txt"
        >>> with atomic_write(target) as temporary:
        ...     _ = temporary.write_text("whole", "utf-8")
        >>> target.read_text("utf-8"), len(list(target.parent.iterdir()))
        ('whole', 1)
    """
    path = Path(path)
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent not in _swept:
            _swept.add(path.parent)
            sweep(path.parent)
        temporary.touch()
        mode = temporary.stat().st_mode
        temporary.unlink()
        yield temporary
        # Some writers make a file that only its owner can read.
        temporary.chmod(mode)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except Exception as error:
        code = _error_number(error, path.parent)
        reason = (_REASONS | _MORE_REASONS).get(code or 0)
        if reason is None:
            raise
        raise InputError(f"{path}: cannot be written: {reason}") from error
    finally:
        # If the path cannot be written to, removing fails too; the first error is the one to report.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes ``path`` when the block ends without an error.

    Until then nothing is at ``path``, so a process that is killed leaves nothing that looks whole. What
    killed processes left beside ``path`` is removed.

    Raises:
        InputError: the folder cannot be written.
        FileExistsError: there is a folder at ``path`` meanwhile, which is not empty.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "data"
        >>> with atomic_folder(target) as new:
        ...     _ = (new / "a.txt").write_text("1")
        >>> [path.name for path in target.parent.iterdir()], [path.name for path in target.iterdir()]
        (['data'], ['a.txt'])
    """
    path = Path(path)
    make_folder(path.parent)
    sweep(path.parent)
    temporary = _temporary(path)
    try:
        temporary.mkdir()
        yield temporary
        for file in temporary.iterdir():
            with file.open("rb+") as opened:
                os.fsync(opened.fileno())
        os.rename(temporary, path)
    except Exception as error:
        code = _error_number(error, path.parent)
        if code in (errno.ENOTEMPTY, errno.EEXIST):
            raise FileExistsError(code, "is there already", str(path)) from error
        reason = (_REASONS | _MORE_REASONS).get(code or 0)
        if reason is None or isinstance(error, InputError):
            raise
        raise InputError(f"{path}: cannot be written: {reason}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def make_folder(path: str | Path, *, exist_ok: bool = True) -> Path:
    """Create a folder and its parents, and return its path.

    Args:
        path: the folder.
        exist_ok: whether the folder may be there already; if not, FileExistsError is raised.

    Raises:
        InputError: the folder cannot be created or written to; the message has the reason.

    Example:
        >>> import tempfile
        >>> make_folder(Path(tempfile.mkdtemp()) / "a" / "b").is_dir()
        True
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=exist_ok)
    except FileExistsError:
        if not exist_ok:
            raise
        if os.path.lexists(path) and not path.is_dir():
            raise InputError(f"{path} is a file; choose a new or an empty folder") from None
        return make_folder(path)  # another process removed or made it meanwhile
    except OSError as error:
        raise InputError(f"the folder {path} cannot be created: {system_reason(error)}") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise InputError(f"the folder {path} cannot be written to; choose another folder") from None
    return path


def check_writable(path: str | Path) -> None:
    """Check that files can be written into a folder, or that it can be created; nothing remains of the try.

    Permissions do not tell enough: the administrator has all of them, and some file systems refuse anyway.

    Raises:
        InputError: it cannot; the message has the reason.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> check_writable(folder / "runs" / "first")
        >>> list(folder.iterdir())
        []
    """
    path = Path(path)
    missing = [folder for folder in (path, *path.parents) if not os.path.lexists(folder)]
    probe = _temporary(path / "probe")
    try:
        make_folder(path)
        probe.touch()
    except OSError as error:
        raise InputError(f"the folder {path} cannot be written to: {system_reason(error)}") from None
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
        for folder in missing:
            # Another process may have written into it meanwhile.
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def replace_together(folder: Path, last: Sequence[str] = ()) -> Iterator[Path]:
    """Yield a new folder, whose files replace those of ``folder`` when the block ends without an error.

    After an error nothing in ``folder`` has changed. A process that is killed in the moment in which the
    files are moved leaves some old files; those named in ``last``, which are moved last and in this order,
    can tell.

    Raises:
        InputError: a file cannot be replaced.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with replace_together(folder, last=["a.txt"]) as new:
        ...     write_text(new / "a.txt", "1")
        ...     write_text(new / "b.txt", "2")
        >>> sorted(path.name for path in folder.iterdir())
        ['a.txt', 'b.txt']
    """
    new = _temporary(folder / "new")
    try:
        yield new
        try:
            names = {path.name for path in new.iterdir()}
            for name in [*sorted(names.difference(last)), *(each for each in last if each in names)]:
                os.replace(new / name, folder / name)
        except OSError as error:
            raise InputError(f"{folder}: cannot be written: {system_reason(error)}") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def sweep(folder: Path, *, every: bool = False) -> None:
    """Remove temporary files in a folder that processes left when they were killed.

    Args:
        folder: the folder, which may be missing.
        every: whether no other process writes files there, so that every temporary file is left over.
            Otherwise those are removed whose process is gone from this host or wrote nothing for an hour.
    """
    with suppress(OSError):
        for path in list(folder.iterdir()):
            if is_temporary(path.name) and (every or _is_left_over(path)):
                with suppress(OSError):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


def is_temporary(name: str) -> bool:
    """Return whether a file name is that of a temporary file of :func:`atomic_write`.

    Example:
        >>> is_temporary(_temporary(Path("result.json")).name), is_temporary("result.json")
        (True, False)
    """
    return _TEMPORARY.fullmatch(name) is not None


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.stem}.{process_tag()}.{secrets.token_hex(4)}{path.suffix}")


def _is_left_over(path: Path) -> bool:
    found = _TEMPORARY.fullmatch(path.name)
    if not found or not found["tag"]:
        return False
    return is_gone_tag(found["tag"]) or time.time() - path.stat().st_mtime > _LEFT_OVER_SECONDS


def system_reason(error: OSError) -> str:
    """Say what the operating system reported, and how to fix it if that is known.

    Example:
        >>> system_reason(OSError(errno.ENOSPC, "No space left on device"))
        'the disk is full; free some space'
    """
    known = (_REASONS | _MORE_REASONS).get(error.errno or 0)
    return known or (error.strerror or str(error) or type(error).__name__)


@contextmanager
def reading(path: str | Path, advice: str = "copy it again or repeat the run") -> Iterator[None]:
    """Turn every failure to read a file into an InputError that names it.

    A damaged or forged file makes libraries raise errors of many kinds or panic (the backtrace is discarded
    here), and makes lines of alterrec fail. Tests that read undamaged files tell it from a mistake of ours.

    Args:
        path: the file (or folder) that the block reads.
        advice: what the user can do.

    Raises:
        InputError: the path is not a regular file or folder, or the block failed.

    Example:
        >>> with reading("x.json"):
        ...     json.loads("{")
        Traceback (most recent call last):
            ...
        alterrec.errors.InputError: no such file: x.json; copy it again or repeat the run
    """
    check_regular(path, advice)
    try:
        with _without_panic_messages():
            yield
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"cannot read {path}: {system_reason(error)}") from None
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        if signals.were_received():  # a library made another error of the interrupt
            raise KeyboardInterrupt from None
        raise InputError(f"{path} is damaged ({first_line(error)}); {advice}") from None


def check_regular(path: str | Path, advice: str = "copy it again or repeat the run") -> None:
    """Raise InputError if a path is no regular file or folder: a pipe blocks, and some devices never end."""
    try:
        kind = os.stat(path).st_mode
    except FileNotFoundError:
        raise InputError(f"no such file: {path}; {advice}") from None
    except (OSError, ValueError) as error:
        reason = system_reason(error) if isinstance(error, OSError) else str(error)
        raise InputError(f"cannot read {path}: {reason}") from None
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise InputError(f"cannot read {path}: it is not a regular file; {advice}")


def is_panic(error: BaseException) -> bool:
    """Whether the error is a panic of a Rust library, which Python does not count as an ``Exception``."""
    return type(error).__name__ == "PanicException"


def first_line(error: BaseException) -> str:
    """Return the first line of the message of an error, shortened, or its type if it has none.

    Example:
        >>> first_line(ValueError("no header\\nat byte 0"))
        'no header'
    """
    line = next((line for line in str(error).splitlines() if line.strip()), "").strip().rstrip(".:")
    return (f"{line[:200]}…" if len(line) > 200 else line) or type(error).__name__


@contextmanager
def _without_panic_messages() -> Iterator[None]:
    """Discard what a block writes to standard error if it fails and a Rust library has panicked in it.

    Rust prints the message of a panic before it becomes a Python exception, from any thread, to file
    descriptor 2. Only that descriptor can be redirected: every library has its own copy of Rust's runtime.
    Other output is written when the block ends.
    """
    with _panics, ExitStack() as opened:
        try:
            held = opened.enter_context(_memory_file())
            real = os.dup(2)
            opened.callback(os.close, real)
        except OSError:
            # Standard error is closed, or no file can be opened.
            yield
            return
        _flush(sys.stderr)
        # A signal in the block ends the process with a sentence.
        signals.standard_error = real
        os.dup2(held.fileno(), 2)
        failed = False
        try:
            yield
        except BaseException:
            failed = True
            # Threads of the library may still be writing.
            time.sleep(0.02)
            raise
        finally:
            _flush(sys.stderr)
            os.dup2(real, 2)
            signals.standard_error = 2
            held.seek(0)
            text = held.read()
            if text and not (failed and b" panicked at " in text):
                os.write(real, text)


def _memory_file() -> IO[bytes]:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("stderr"), "w+b")
    return tempfile.TemporaryFile()


def _flush(stream: IO[str] | None) -> None:
    with suppress(OSError, ValueError):
        if stream is not None:
            stream.flush()


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8 atomically; raises as :func:`atomic_write`."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, "utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON atomically; ValueError if it contains a NaN.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "result.json"
        >>> write_json(target, {"schema": 1})
        >>> target.read_text("utf-8")
        '{\\n  "schema": 1\\n}\\n'
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_text(path: Path) -> str:
    """Return the text of a file that a run or study has written.

    Raises:
        InputError: the file is missing, not UTF-8 or cannot be read.
    """
    if not path.exists():
        raise InputError(f"no {path.name} in {str(path.parent)!r}; give the folder of a finished run")
    with reading(path):
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is damaged: not UTF-8 at byte {error.start}; repeat the run") from None


def parse_json(adapter: TypeAdapter[T], text: str, where: str) -> T:
    """Parse and check JSON.

    Raises:
        InputError: the text is damaged; the message names ``where`` and the place in it.
    """
    try:
        value = adapter.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        found = "" if isinstance(first["input"], (dict, list)) else f" (found {str(first['input'])[:60]!r})"
        raise InputError(
            f"{where} is damaged: {place + ': ' if place else ''}{first['msg']}{found}; "
            "copy the folder again or repeat the run"
        ) from None
    _check_numbers(from_json(text), where)
    return value


def _check_numbers(value: Any, where: str) -> None:
    """Refuse numbers that no run writes: JSON has no infinity, but 1e999 is read as one."""
    todo = [value]
    while todo:
        each = todo.pop()
        if isinstance(each, dict | list):
            todo.extend(each.values() if isinstance(each, dict) else each)
        elif isinstance(each, int | float) and not -_LARGEST < each < _LARGEST:
            raise InputError(
                f"{where} is damaged: it has the number {each:.3g}; copy the folder again or repeat the run"
            )


def file_name(text: str) -> str:
    """Replace the characters of ``text`` that do not belong in the name of a file or folder.

    Example:
        >>> file_name("Online Retail: UK")
        'Online-Retail-UK'
    """
    return re.sub(r"[^\w.-]+", "-", text)


def _error_number(error: Exception, folder: Path) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    # polars and safetensors put the operating system's error into their message; torch and numpy drop it.
    found = re.search(r"os error (\d+)|\bcode: (\d+)", str(error))
    if found:
        return int(found[1] or found[2])
    return errno.ENOSPC if shutil.disk_usage(folder).free < _NO_SPACE else None
