"""What every request passes first: its host, its size and the time in which it arrives."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from alterrec.serving.limits import Limits
from alterrec.serving.measures import Measures

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Paths of the service; all others are counted together, so that strangers cannot make new counters.
OTHER = "other"
# How much of a body that is too large is read and forgotten, as a multiple of the limit.
LISTEN = 16


class RefusedError(Exception):
    """A request that is answered by an error.

    Args:
        status: HTTP status.
        reason: what was found, what is allowed and how to fix it.
        headers: further headers of the answer.
    """

    def __init__(self, status: HTTPStatus, reason: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.headers = headers or {}

    def response(self) -> JSONResponse:
        """Return the answer to the request."""
        return JSONResponse({"error": str(self)}, self.status, self.headers)


class Guard:
    """The outermost layer of the service.

    It reads the body of a request within the limits of size and time, before anything else is done, and
    counts requests.

    Args:
        app: the application inside.
        limits: the limits of a request.
        hosts: host names that requests may be addressed to. The page of another site that made its name
            point to this machine would send its own name. None: all.
        measures: where requests are counted.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: Limits,
        hosts: Collection[str] | None,
        measures: Measures,
    ) -> None:
        self._app = app
        self._limits = limits
        self._hosts = hosts
        self._measures = measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 0

        async def note_status(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            try:
                self._check_host(scope)
                body = await self._body(scope, receive)
                await self._app(scope, _replay(body, receive), note_status)
            except RefusedError as error:
                await error.response()(scope, receive, note_status)
            except Exception:
                # Starlette raises an exception again after its handler has answered the request.
                if not status:
                    raise
        finally:
            path = getattr(scope.get("route"), "path", OTHER)
            self._measures.requests.labels(path, str(status)).inc()
            self._measures.seconds.labels(path).observe(time.perf_counter() - began)

    def _check_host(self, scope: Scope) -> None:
        if self._hosts is None:
            return
        given = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
        name = given.rpartition(":")[0] if given.rpartition(":")[2].isdigit() else given
        if name.lower() not in self._hosts:
            raise RefusedError(
                HTTPStatus.MISDIRECTED_REQUEST,
                f"the request is addressed to {name!a}, but this service is for its own machine, as "
                "localhost or 127.0.0.1; start it with --host to serve other names",
            )

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        most = self._limits.body
        refused = RefusedError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the body of the request has more than {most:,} bytes, which is the limit; send fewer sessions "
            "in a request",
            {"Connection": "close"},
        )
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        too_large = length.isdigit() and int(length[:20]) > most
        if too_large and b"expect" in headers:
            # The client has not sent the body, and waits for permission.
            raise refused
        parts: list[bytes] = []
        size, more = 0, True
        try:
            async with asyncio.timeout(self._limits.seconds):
                # What is too large is read on for a while, and forgotten: a client whose connection is closed
                # while it sends may never see the answer.
                while more and size <= LISTEN * most:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        break
                    part = message.get("body", b"")
                    size += len(part)
                    more = message.get("more_body", False)
                    too_large = too_large or size > most
                    if not too_large:
                        parts.append(part)
        except TimeoutError:
            if not too_large:
                raise RefusedError(
                    HTTPStatus.REQUEST_TIMEOUT,
                    f"the request was not complete {self._limits.seconds:g} s after it began; send it again",
                    {"Connection": "close"},
                ) from None
        if too_large:
            raise refused
        return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a function that gives the body once, and then what comes after it."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return first.pop() if first else await receive()

    return replayed
