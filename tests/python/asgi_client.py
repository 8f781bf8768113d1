"""Call an ASGI application in this process, without a network and without another package."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from alterrec.serving.guard import Guard


class Reply(NamedTuple):
    """What an application answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def call(
    app: Guard,
    method: str,
    path: str,
    body: Any = None,
    *,
    headers: dict[str, str] | None = None,
    parts: Sequence[bytes] | None = None,
    pause: float = 0.0,
) -> Reply:
    """Send a request and return the reply.

    Args:
        app: the application.
        method, path: of the request; the path may have a query.
        body: bytes, or a value that is sent as JSON. Default: none.
        headers: in place of the usual ones.
        parts: the body as parts, in place of ``body``.
        pause: seconds before each part.
    """
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    usual = {"host": "localhost:8000", "content-type": "application/json"}
    path, _, query = path.partition("?")
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(k.encode(), v.encode()) for k, v in (usual | (headers or {})).items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }
    waiting = list(parts if parts is not None else [content])
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if pause:
            await asyncio.sleep(pause)
        if not waiting:
            return {"type": "http.disconnect"}
        part = waiting.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(waiting)}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start, *rest = sent
    return Reply(
        start["status"],
        {key.decode(): value.decode() for key, value in start["headers"]},
        b"".join(message.get("body", b"") for message in rest),
    )


def ask(app: Guard, method: str, path: str, body: Any = None, **more: Any) -> Reply:
    """Send one request and wait for the reply."""
    return asyncio.run(call(app, method, path, body, **more))
