"""Who does what, where several processes work in one folder: a claim is a file that only one can create.

A claim names its host and process, and its owner touches it every few seconds. It is stale when the process
is gone from this host, or when it was not touched for long, as after a crash of another host. A wrong guess
costs time alone: runs are deterministic and their files are replaced whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BEAT_SECONDS = 5.0
STALE_SECONDS = 120.0
WAIT_SECONDS = 0.02


class Claim:
    """A held claim; made by :meth:`take`."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text
        self._touched = time.monotonic()

    @classmethod
    def wait(cls, path: Path) -> Claim:
        """The claim, as soon as no other process holds it."""
        while (claim := cls.take(path)) is None:
            time.sleep(WAIT_SECONDS)
        return claim

    @classmethod
    def take(cls, path: Path) -> Claim | None:
        """The claim, or None where another process holds it.

        Example:
            >>> import tempfile
            >>> path = Path(tempfile.mkdtemp()) / "run.lock"
            >>> held = Claim.take(path)
            >>> Claim.take(path) is None
            True
            >>> held.release()
            >>> path.exists()
            False
        """
        text = json.dumps(
            {"host": socket.gethostname(), "process": os.getpid(), "claim": secrets.token_hex(8)}
        )
        if _create(path, text) or (_remove_stale(path) and _create(path, text)):
            return cls(path, text)
        return None

    def beat(self) -> bool:
        """Say that the owner lives; False where another process has taken the claim meanwhile."""
        if time.monotonic() - self._touched < BEAT_SECONDS:
            return True
        if _read(self._path) != self._text:
            return False
        os.utime(self._path)
        self._touched = time.monotonic()
        return True

    @contextmanager
    def held(self) -> Iterator[None]:
        """Beat in a thread of its own while the block works, then give the claim up."""
        done = threading.Event()

        def beat() -> None:
            while not done.wait(BEAT_SECONDS) and self.beat():
                pass

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self.release()

    def release(self) -> None:
        """Give the claim up, if it is still ours."""
        if _read(self._path) == self._text:
            self._path.unlink(missing_ok=True)


def is_stale(path: Path) -> bool:
    """Whether the owner of a claim is gone; False where there is no claim."""
    try:
        age = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return False
    if age > STALE_SECONDS:
        return True
    try:
        owner = json.loads(_read(path) or "")
        return bool(owner["host"] == socket.gethostname() and not _runs(owner["process"]))
    except (ValueError, KeyError, TypeError):
        # It is being written this moment.
        return False


def _create(path: Path, text: str) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return False
    return True


def _remove_stale(path: Path) -> bool:
    """Take a stale claim away; of several that try, one does.

    Who removes it holds a second file, named after this very claim. So one that judged the old claim, and
    comes late, finds a new one in its place and leaves it alone.
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


def _runs(process: int) -> bool:
    if os.name != "posix":
        # There signal 0 is no question but an order; age alone decides.
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
