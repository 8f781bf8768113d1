"""Write files atomically, and read them with errors that name the file and the place in it."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from alterrec.errors import InputError

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
_NO_SPACE = 2**16  # bytes; every file that failed to be written was larger


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
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except Exception as error:
        code = _error_number(error, path.parent)
        if code not in _REASONS:
            raise
        raise InputError(f"{path}: cannot be written: {_REASONS[code]}") from error
    finally:
        # If the path cannot be written to, removing fails too; the first error is the one to report.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


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
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(
            f"no {path.name} in {str(path.parent)!r}; give the folder of a finished run"
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is damaged: not UTF-8 at byte {error.start}; repeat the run") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def parse_json(adapter: TypeAdapter[T], text: str, where: str) -> T:
    """Parse and check JSON.

    Raises:
        InputError: the text is damaged; the message names ``where`` and the place in it.
    """
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        found = "" if isinstance(first["input"], (dict, list)) else f" (found {str(first['input'])[:60]!r})"
        raise InputError(
            f"{where} is damaged: {place + ': ' if place else ''}{first['msg']}{found}; "
            "copy the folder again or repeat the run"
        ) from None


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
