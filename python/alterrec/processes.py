"""Name a process on this host, and tell whether a named process is gone."""

from __future__ import annotations

import functools
import hashlib
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


def this_process() -> dict[str, Any]:
    """Return what identifies this process: its host, namespace, number and start.

    Containers can share a host name, but not the namespace of process numbers. A number is used again, for
    example after a restart, so the start of the process (ticks since the host was booted) belongs to it.

    Example:
        >>> is_gone(this_process())
        False
    """
    process = os.getpid()
    return {
        "host": socket.gethostname(),
        "namespace": _namespace(),
        "process": process,
        "started": _started(process),
    }


def is_gone(owner: Mapping[str, Any]) -> bool:
    """Return whether a process is known to be gone; False if it is on another host.

    Args:
        owner: the result of :func:`this_process`; ``namespace`` and ``started`` may be missing.

    Example:
        >>> is_gone(this_process() | {"started": "another time"}), is_gone({"host": "far", "process": 1})
        (True, False)
    """
    here = owner["host"] == socket.gethostname() and owner.get("namespace", _namespace()) == _namespace()
    if not here:
        return False
    if not _exists(owner["process"]):
        return True
    then, now = owner.get("started"), _started(owner["process"])
    return then is not None and now is not None and then != now


def process_tag() -> str:
    """Return a short text for names of files: this host and process.

    Example:
        >>> is_gone_tag(process_tag())
        False
    """
    return f"{_host_digest()}-{os.getpid():x}"


def is_gone_tag(tag: str) -> bool:
    """Return whether the process of a tag is known to be gone."""
    host, _, process = tag.partition("-")
    return host == _host_digest() and not _exists(int(process, 16))


@functools.cache
def _host_digest() -> str:
    return hashlib.blake2b(f"{socket.gethostname()} {_namespace()}".encode(), digest_size=4).hexdigest()


@functools.cache
def _namespace() -> str:
    with suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return ""


def _started(process: int) -> str | None:
    """Return when a process was started, as Linux counts it; None elsewhere."""
    with suppress(OSError, IndexError):
        # The name of the program, in parentheses, may contain spaces.
        return Path(f"/proc/{process}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[19]
    return None


def _exists(process: int) -> bool:
    if os.name != "posix":
        # On Windows signal 0 would end the process; only the age of a file decides there.
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
