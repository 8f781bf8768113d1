"""The command `alterrec serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from alterrec.cli import options
from alterrec.cli.application import app, guarded
from alterrec.console import print_line, warn, working
from alterrec.errors import InputError


@app.command()
@guarded
def serve(
    run: options.RunFolder,
    host: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="Address to listen at; 0.0.0.0 is every one of this machine."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at; 0 takes a free one.")] = 8000,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            "--limit",
            metavar="NAME=VALUE",
            help="A limit of a request: body (bytes), sessions, items (of a session), k, seconds; or of all: "
            "waiting, batch (sessions). Repeatable.",
        ),
    ] = None,
) -> int:
    """Serve the recommendations of a run by HTTP.

    The paths are /recommend, /similar, /explain, /items, /health, /metrics (Prometheus) and /openapi.json;
    the address itself opens a page on which sessions can be tried. Requests that arrive together are computed
    as one batch. Needs pip install 'alterrec[serve]'.

    Only this machine is served unless --host names another address; there is no authentication. RUN may be a
    link: kill -HUP loads the run that is there by then, without a dropped request, and keeps the old one if
    that is broken. SIGTERM and Ctrl-C answer what has begun, then stop.

    \b
    Examples:
      alterrec serve runs/alterrec-my_sessions-seed0
      alterrec serve runs/current --host 0.0.0.0 --port 80 --limit sessions=100 --limit seconds=2
    """
    given = options.parse_pairs(limit, "--limit", "sessions=100")
    with working("loading the model"):
        try:
            from alterrec.serving import server
            from alterrec.serving.limits import Limits
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] not in ("fastapi", "uvicorn", "prometheus_client"):
                raise
            raise InputError(
                f"alterrec serve needs {error.name}; install it with pip install 'alterrec[serve]'"
            ) from None
        limits = Limits.of(given)
    return server.serve(run, host=host, port=port, limits=limits, say=print_line, warn=warn)
