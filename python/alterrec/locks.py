"""Lock files: which process works on what, where several processes share a folder.

A lock file names its owner (:mod:`alterrec.processes`), who touches it every few seconds. It is stale if that
process no longer exists on this host, or if nobody has touched the file for long, as after another host has
crashed. A lock that is wrongly taken over costs time only: runs are deterministic, their files are replaced
whole, and an owner stops when it notices the loss.

The lease of filelock 4.3 was tried instead. A process killed between creating the file and writing its owner
into it (10 of 60 kills of a process that does nothing else) leaves an empty file which nobody takes over.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alterrec.errors import InputError
from alterrec.files import make_folder, system_reason
from alterrec.processes import is_gone, this_process

TOUCH_SECONDS = 5.0
STALE_SECONDS = 120.0
# An owner writes its name microseconds after it has created the file.
EMPTY_SECONDS = 2.0
POLL_SECONDS = 0.02


class LockFile:
    """An acquired lock; made by :meth:`acquire` and :meth:`try_acquire`."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text
        self._touched = time.monotonic()

    @classmethod
    def acquire(cls, path: Path) -> LockFile:
        """Wait until no other process holds the lock, and take it."""
        lock = cls.acquire_within(path, math.inf)
        assert lock is not None
        return lock

    @classmethod
    def acquire_within(cls, path: Path, seconds: float = EMPTY_SECONDS + 1) -> LockFile | None:
        """Take the lock; None if another process holds it for so long.

        The default is as long as an empty lock of a process that was killed while writing it is not stale.
        """
        until = time.monotonic() + seconds
        while (lock := cls.try_acquire(path)) is None and time.monotonic() < until:
            time.sleep(POLL_SECONDS)
        return lock

    @classmethod
    def try_acquire(cls, path: Path) -> LockFile | None:
        """Take the lock; None if another process holds it.

        Raises:
            InputError: the file cannot be written.

        Example:
            >>> import tempfile
            >>> path = Path(tempfile.mkdtemp()) / "run.lock"
            >>> lock = LockFile.try_acquire(path)
            >>> LockFile.try_acquire(path) is None
            True
            >>> lock.release()
            >>> path.exists()
            False
        """
        text = json.dumps(this_process() | {"token": secrets.token_hex(8)})
        if _create(path, text) or (_remove_stale(path) and _create(path, text)):
            return cls(path, text)
        return None

    def touch(self) -> bool:
        """Keep the lock from becoming stale; False if another process has taken it over."""
        if time.monotonic() - self._touched < TOUCH_SECONDS:
            return True
        try:
            if _read(self._path) != self._text:
                return False
            os.utime(self._path)
        except OSError:
            # The folder is gone or unreachable, so nobody can say that the lock is still ours.
            return False
        self._touched = time.monotonic()
        return True

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Touch the lock from a thread while the block runs, then release it."""
        done = threading.Event()

        def keep() -> None:
            while not done.wait(TOUCH_SECONDS) and self.touch():
                pass

        thread = threading.Thread(target=keep, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self.release()

    def release(self) -> None:
        """Remove the file, unless another process has taken the lock over."""
        if _read(self._path) == self._text:
            self._path.unlink(missing_ok=True)


def is_stale(path: Path) -> bool:
    """Return whether the owner of a lock is gone; False if there is no lock."""
    try:
        age = time.time() - path.stat().st_mtime
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return False
    try:
        return age > STALE_SECONDS or is_gone(json.loads(text))
    except (ValueError, KeyError, TypeError):
        # The owner is just writing it, or could not finish that.
        return age > EMPTY_SECONDS


def is_held(path: Path) -> bool:
    """Return whether a process holds a lock, as far as can be told without taking it."""
    return path.exists() and not is_stale(path)


def _create(path: Path, text: str) -> bool:
    make_folder(path.parent)
    try:
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return False
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {system_reason(error)}") from None
    try:
        content = text.encode()
        while content:
            content = content[os.write(file, content) :]
    except OSError as error:
        # An empty lock would hold others up for a moment.
        path.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written: {system_reason(error)}") from None
    finally:
        os.close(file)
    return True


def _remove_stale(path: Path) -> bool:
    """Remove a stale lock; if several processes try, only one succeeds.

    The process that removes it holds a second file, named after the content of this lock. A process that has
    found the old lock stale and comes late thus finds a new one in its place, and leaves it alone.
    """
    text = _read(path)
    if text is None or not is_stale(path):
        return False
    removal = path.with_name(f"{path.name}.{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}")
    if not _create(removal, ""):
        if is_stale(removal):
            removal.unlink(missing_ok=True)
        return False
    try:
        if _read(path) != text:
            return False
        path.unlink(missing_ok=True)
        return True
    finally:
        removal.unlink(missing_ok=True)


def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return None
