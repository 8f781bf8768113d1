"""The HTTP service as an ASGI application: paths, their documentation, and the page to try sessions."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Collection
from http import HTTPStatus
from importlib import resources
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from alterrec import __version__
from alterrec.errors import InputError
from alterrec.report.presentation import page_style
from alterrec.serving import messages
from alterrec.serving.guard import Guard, RefusedError
from alterrec.serving.service import RecommendationService

# The page loads nothing but its own style and script, and runs no other.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY = {
    "Content-Security-Policy": PAGE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
BODIES: dict[str, type[messages.RequestBody]] = {
    "/recommend": messages.RecommendRequest,
    "/similar": messages.SimilarRequest,
    "/explain": messages.ExplainRequest,
}
# Items that one search finds, at most.
MOST_FOUND = 100


def _failures(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    reasons = {
        HTTPStatus.REQUEST_TIMEOUT: "The request did not arrive in time.",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body of the request is too large.",
        HTTPStatus.UNPROCESSABLE_ENTITY: "The request is malformed, or asks for what is not allowed.",
        HTTPStatus.SERVICE_UNAVAILABLE: "Too many requests wait; try again.",
        HTTPStatus.GATEWAY_TIMEOUT: "There was no answer in time.",
    }
    return {
        int(status): {"model": messages.ErrorAnswer, "description": reasons[status]} for status in statuses
    }


WRONG = _failures(HTTPStatus.UNPROCESSABLE_ENTITY)
ASKED = _failures(
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)


def create_app(
    service: RecommendationService,
    *,
    hosts: Collection[str] | None = None,
    report: Callable[[str], None] = print,
) -> Guard:
    """Return the ASGI application of a service, for any ASGI server.

    Args:
        service: what answers.
        hosts: host names that requests may be addressed to. Default: all.
        report: function that is given one line about each fault of alterrec. Default: ``print``.
    """
    app = FastAPI(
        title="alterrec",
        version=__version__,
        summary="Recommendations for sessions",
        description=_description(service),
        # Both load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    app.add_exception_handler(RequestValidationError, _explain_refusal)
    app.add_exception_handler(HTTPException, _explain_status)
    app.add_exception_handler(InputError, _explain_input)
    app.add_exception_handler(RefusedError, _explain_input)

    async def explain_fault(request: Request, error: Exception) -> Response:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        report(f"internal error in {request.url.path}, please report it: {reason}")
        if os.environ.get("ALTERREC_TRACEBACK") == "1":
            report("".join(traceback.format_exception(error)))
        return RefusedError(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "the service failed, which is a fault of alterrec; its log has the reason",
        ).response()

    app.add_exception_handler(Exception, explain_fault)

    @app.post("/recommend", responses=ASKED, operation_id="recommend", tags=["recommendations"])
    async def recommend(asked: messages.RecommendRequest) -> messages.RecommendAnswer:
        """Recommend the next items of sessions.

        Items of sessions that the run does not know are skipped and counted. If nothing in a session is
        known, or it is empty, the answer has the most popular items and says so.
        """
        return await service.recommend(asked)

    @app.post("/similar", responses=ASKED, operation_id="similar", tags=["recommendations"])
    async def similar(asked: messages.SimilarRequest) -> messages.SimilarAnswer:
        """Find the items that are most similar to each of some items."""
        return await service.similar(asked)

    @app.post("/explain", responses=ASKED, operation_id="explain", tags=["recommendations"])
    async def explain(asked: messages.ExplainRequest) -> messages.ExplainAnswer:
        """Say where the scores of some items in a session come from."""
        return await service.explain(asked)

    @app.get("/items", responses=WRONG, operation_id="items", tags=["recommendations"])
    def items(
        q: Annotated[
            str, Query(max_length=200, description="Words that the id or the text of an item contains.")
        ] = "",
        limit: Annotated[int, Query(ge=1, le=MOST_FOUND, description="Number of items to find.")] = 20,
    ) -> messages.ItemsAnswer:
        """Search the catalogue; the most popular items come first."""
        return service.search(q, limit)

    @app.get("/health", operation_id="health", tags=["operation"])
    async def health() -> messages.HealthAnswer:
        """Say which run answers."""
        return service.health()

    @app.get(
        "/metrics",
        operation_id="metrics",
        tags=["operation"],
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def metrics() -> Response:
        """Return counters and timings in the format of Prometheus."""
        return Response(service.measures.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    for path, (content, kind) in _page_files().items():
        answer = Response(content, media_type=kind, headers=SECURITY)
        app.add_api_route(path, _always(answer), include_in_schema=False)
    return Guard(app, limits=service.limits, hosts=hosts, measures=service.measures)


def _always(answer: Response) -> Callable[[], Response]:
    def page() -> Response:
        return answer

    return page


def _page_files() -> dict[str, tuple[bytes, str]]:
    """Return the files of the page: path -> content, media type."""
    folder = resources.files("alterrec.serving") / "page"
    style = page_style() + (folder / "page.css").read_text("utf-8")
    return {
        "/": ((folder / "page.html").read_bytes(), "text/html"),
        "/page.css": (style.encode(), "text/css"),
        "/icon.svg": ((folder / "icon.svg").read_bytes(), "image/svg+xml"),
        "/page.js": ((folder / "page.js").read_bytes(), "text/javascript"),
    }


def _description(service: RecommendationService) -> str:
    limits = service.limits
    return (
        f"A request may have {limits.sessions:,} sessions of {limits.items:,} items, ask for k up to "
        f"{limits.k:,}, and have {limits.body:,} bytes. What has no answer within {limits.seconds:g} s is "
        "given up. There is no authentication."
    )


async def _explain_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    asked = BODIES.get(request.url.path)
    fields = list(asked.model_fields) if asked is not None else []
    return RefusedError(
        HTTPStatus.UNPROCESSABLE_ENTITY, messages.explain_refusal(error.errors(), fields)
    ).response()


async def _explain_input(request: Request, error: Exception) -> Response:
    if isinstance(error, RefusedError):
        return error.response()
    return RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)).response()


async def _explain_status(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status, path = HTTPStatus(error.status_code), request.url.path
    if status == HTTPStatus.NOT_FOUND:
        reason = f"there is nothing at {path!a}; /openapi.json lists all paths"
    elif status == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "another method")
        reason = f"{request.method} is not allowed for {path}; use {allowed}"
    else:
        # FastAPI says so of a body that no parser of JSON understands, such as one with a thousand brackets.
        reason = "the body cannot be read; send a JSON object with the content type application/json"
    return RefusedError(status, reason, dict(error.headers or {})).response()
