"""Processes of a job on this machine, which are started once and run one function after the other.

A process imports torch once, so that a test file with many cases takes seconds.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import socket
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Self


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _serve(rank: int, world: int, port: int, pipe: Connection) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    import torch

    from alterrec import parallel

    torch.set_num_threads(1)
    with parallel.joined_job():
        while True:
            call = pipe.recv()
            if call is None:
                return
            function, arguments = call
            try:
                pipe.send((function(*arguments), None))
            except BaseException:
                pipe.send((None, traceback.format_exc()))


class ProcessGroup:
    """``world`` processes with one thread each; call :meth:`run` with a function of a module."""

    def __init__(self, world: int) -> None:
        context = multiprocessing.get_context("spawn")
        port, self._pipes, self._processes = free_port(), [], []
        for rank in range(world):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(rank, world, port, theirs), daemon=True)
            process.start()
            self._pipes.append(ours)
            self._processes.append(process)

    def run(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Return what each process returns; AssertionError with the traceback of the first that fails."""
        for pipe in self._pipes:
            pipe.send((function, arguments))
        values: dict[int, Any] = {}
        while len(values) < len(self._pipes):
            # In the order of arrival: if one fails, the others wait for it.
            for pipe in multiprocessing.connection.wait(self._pipes):
                value, error = pipe.recv()
                if error:
                    # The others wait for it and can do nothing else.
                    for process in self._processes:
                        process.kill()
                    raise AssertionError(error)
                values[self._pipes.index(pipe)] = value
        return [values[rank] for rank in range(len(self._pipes))]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self._pipes:
            with suppress(OSError):
                pipe.send(None)
        for process in self._processes:
            process.join(30)
