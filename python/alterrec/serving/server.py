"""Serve a run by HTTP until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn

from alterrec import signals
from alterrec.errors import InputError
from alterrec.serving.app import create_app
from alterrec.serving.limits import Limits
from alterrec.serving.live_run import LiveRun
from alterrec.serving.service import RecommendationService

# How long a connection may be without a complete request. Usual proxies close theirs before, after 60 s.
IDLE_SECONDS = 75
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


def serve(
    run: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    say: Callable[[str], None] = print,
    warn: Callable[[str], None] = print,
) -> int:
    """Serve a run until SIGTERM or Ctrl-C; SIGHUP loads the run again.

    Args:
        run: folder of a finished run, or a link to one.
        host: address to listen at. Default: this machine alone; requests must then name it localhost or
            127.0.0.1.
        port: number of the port, 0 for a free one. Default: 8000.
        limits: what a request may ask for. Default: :class:`~alterrec.serving.limits.Limits`.
        say: function that is given a line when the service is ready, and after a reload. Default: ``print``.
        warn: function that is given a line about what is wrong. Default: ``print``.

    Returns:
        The exit code of the signal, after all requests that had begun were answered.

    Raises:
        InputError: the port cannot be used, or as :func:`alterrec.load`.
    """
    with _listening_socket(host, port) as bound:
        address, number = bound.getsockname()[:2]
        loopback = ipaddress.ip_address(address).is_loopback
        if not loopback:
            warn(
                f"warning: {host} can be reached from other machines, and there is no authentication; allow "
                "only trusted ones in the firewall, or put a proxy with authentication in front"
            )
        service = RecommendationService(LiveRun(run), limits)
        app = create_app(service, hosts=LOOPBACK_NAMES if loopback else None, report=warn)
        config = uvicorn.Config(
            app,
            lifespan="off",
            http="h11",
            ws="none",
            log_config=None,
            log_level="error",
            access_log=False,
            timeout_keep_alive=IDLE_SECONDS,
            server_header=False,
            # A stop must end before a container is killed.
            timeout_graceful_shutdown=int(signals.GRACE_SECONDS) - 1,
        )
        shown = f"[{address}]" if ":" in address else address
        line = f"serving {service.live.now.name} at http://{shown}:{number}"
        asyncio.run(_run(_Server(config, lambda: say(line)), bound, service, say, warn))
    return signals.exit_code()


async def _run(
    server: _Server,
    bound: socket.socket,
    service: RecommendationService,
    say: Callable[[str], None],
    warn: Callable[[str], None],
) -> None:
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()

    async def reload_when_asked() -> None:
        while True:
            await asked.wait()
            asked.clear()
            line = await asyncio.to_thread(service.reload)
            (warn if service.live.failure else say)(line)

    def stop() -> None:
        server.force_exit = server.should_exit
        server.should_exit = True

    def hang_up() -> None:
        loop.call_soon_threadsafe(asked.set)

    reloads = asyncio.create_task(reload_when_asked())
    with signals.handled_by(stop=stop, hang_up=hang_up):
        await server.serve([bound])
    reloads.cancel()


class _Server(uvicorn.Server):
    """A server that leaves signals to its caller and says when it is ready."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready
        # Connection -> the last request that was answered on it, and since when nothing came after that.
        self._idle: dict[Any, tuple[Any, float]] = {}

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:
            self._close_silent()
        return await super().on_tick(counter)

    def _close_silent(self) -> None:
        """Close connections on which no request is complete for long, for example because it comes slowly."""
        now = time.monotonic()
        idle = {}
        connection: Any
        for connection in list(self.server_state.connections):
            last = connection.cycle
            if last is not None and not last.response_complete:
                continue
            before, since = self._idle.get(connection, (last, now))
            idle[connection] = (last, since if before is last else now)
            if now - idle[connection][1] > IDLE_SECONDS:
                connection.transport.close()
        self._idle = idle

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listening_socket(host: str, port: int) -> socket.socket:
    """Return a socket that has the address, so that a used port is found before the run is loaded."""
    if not 0 <= port <= 65535:
        raise InputError(f"the port is {port}; use 1 to 65535, or 0 for a free one")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # Named TCP, so that asyncio sends at once; otherwise each answer waits 40 ms for an acknowledgement.
        bound = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise InputError(f"the host is {host!r}, which is not an address of this machine ({error})") from None
    try:
        if os.name == "posix":
            # A port that a service has left a moment ago is free.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise InputError(
            f"port {port} of {host} cannot be used ({error.strerror or error}); choose another "
            "--port or --host"
        ) from None
    return bound
