"""`alterrec serve` as a process: it starts, reloads, refuses and stops."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from conftest import Outcome

from alterrec import fit
from alterrec.serving import server

Command = Callable[..., Outcome]
QUICK = {"run.baselines": False, "run.report": False}


@pytest.fixture(scope="module")
def runs(shop_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs `first` and `second`, and the link `current` to the first."""
    folder = tmp_path_factory.mktemp("runs")
    for name, model in (("first", "popularity"), ("second", "itemknn")):
        fit(shop_source, model, out=folder / name, overrides=QUICK)
    (folder / "current").symlink_to("first")
    return folder


class Process:
    """A running `alterrec serve`, its port, and the lines that it prints."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "alterrec", "serve", *map(str, arguments), "--port", "0"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
        )
        self.first_line = self.line()
        self.port = int(self.first_line.rpartition(":")[2])

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def post(self, connection: HTTPConnection, body: Any) -> tuple[int, Any]:
        connection.request("POST", "/recommend", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    def health(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=20) as answer:
            found: dict[str, Any] = json.load(answer)
            return found


@contextmanager
def running(*arguments: object) -> Iterator[Process]:
    started = Process(*arguments)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.communicate()


def point(link: Path, target: str) -> None:
    """Exchange a link without a moment in which it is not there."""
    new = link.with_name("new")
    new.symlink_to(target)
    new.replace(link)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="signals of POSIX")
def test_reloads_and_stops_without_a_dropped_request(runs: Path) -> None:
    with running(runs / "current") as service:
        assert service.first_line == f"serving first at http://127.0.0.1:{service.port}"
        stop = threading.Event()
        answered: list[tuple[int, str]] = []

        def client() -> None:
            connection = HTTPConnection("127.0.0.1", service.port, timeout=20)
            while not stop.is_set():
                status, answer = service.post(connection, {"sessions": [["i0", "i1"]], "k": 3})
                answered.append((status, answer.get("run", "")))
            connection.close()

        clients = [threading.Thread(target=client) for _ in range(4)]
        for each in clients:
            each.start()
        for target in ("second", "first", "second"):
            point(runs / "current", target)
            os.kill(service.process.pid, signal.SIGHUP)
            assert service.line() == f"reloaded; {target} answers now"
        # A run that is not there leaves the one before.
        point(runs / "current", "nowhere")
        os.kill(service.process.pid, signal.SIGHUP)
        assert service.process.stderr is not None
        refused = service.process.stderr.readline()
        assert refused.startswith("error: ")
        assert refused.endswith("not reloaded: the run second that was loaded before still answers\n")
        assert "nowhere" in service.health()["reload_failure"]
        time.sleep(0.1)
        stop.set()
        for each in clients:
            each.join()
        assert {status for status, _ in answered} == {200}
        assert {run for _, run in answered} == {"first", "second"}
        # A request whose body is on its way when the signal comes is answered, and nothing new is accepted.
        body = json.dumps({"sessions": [["i0"]], "k": 3}).encode()
        with socket.create_connection(("127.0.0.1", service.port), timeout=20) as late:
            head = f"POST /recommend HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
            late.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body[:5])
            time.sleep(0.2)
            os.kill(service.process.pid, signal.SIGTERM)
            time.sleep(0.4)
            with pytest.raises(OSError, match="refused"):
                socket.create_connection(("127.0.0.1", service.port), timeout=20)
            late.sendall(body[5:])
            received = b""
            while part := late.recv(65536):
                received += part
        assert received.startswith(b"HTTP/1.1 200 OK\r\n")
        out, err = service.process.communicate(timeout=120)
        assert (service.process.returncode, out, err) == (143, "", "")


def test_what_cannot_be_served_is_said_before_the_run_is_loaded(alterrec: Command, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        outcome = alterrec("serve", tmp_path / "nowhere", "--port", port)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == (
        f"error: port {port} of 127.0.0.1 cannot be used (Address already in use); choose another --port or "
        "--host\n"
    )
    for arguments, message in (
        (("--port", 70000), "the port is 70000; use 1 to 65535, or 0 for a free one"),
        (("--host", "no such host"), "the host is 'no such host', which is not an address of this machine"),
        (("--limit", "k"), "--limit is 'k'; expected key=value, for example --limit sessions=100"),
        (("--limit", "kk=1"), "'kk' is no limit; did you mean 'k'? The limits are body, sessions"),
        (("--port", 0), "nowhere has no recipe.toml; give the folder of a finished run"),
    ):
        outcome = alterrec("serve", tmp_path / "nowhere", *arguments)
        assert (outcome.code, outcome.out) == (2, ""), outcome
        assert message in outcome.err


def test_another_host_is_warned_about(alterrec: Command, tmp_path: Path) -> None:
    outcome = alterrec("serve", tmp_path / "nowhere", "--host", "0.0.0.0", "--port", 0)
    warning, error = outcome.err.splitlines()
    assert warning.startswith("warning: 0.0.0.0 can be reached from other machines, and there is no authen")
    assert error.startswith("error: ")


def test_without_the_extra_the_command_says_how_to_install_it(
    alterrec: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "alterrec.serving.server", raising=False)
    monkeypatch.delattr("alterrec.serving.server", raising=False)
    outcome = alterrec("serve", "nowhere")
    assert outcome.err == (
        "error: alterrec serve needs uvicorn; install it with pip install 'alterrec[serve]'\n"
    )
    assert outcome.code == 2


def test_connections_without_a_complete_request_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Connection:
        def __init__(self, cycle: Any) -> None:
            self.cycle, self.transport, self.closed = cycle, self, False

        def close(self) -> None:
            self.closed = True

    class Cycle:
        def __init__(self, done: bool) -> None:
            self.response_complete = done

    now = 0.0
    monkeypatch.setattr(server.time, "monotonic", lambda: now)
    config = server.uvicorn.Config(lambda: None)  # type: ignore[arg-type]
    watched = server._Server(config, lambda: None)
    states = (None, Cycle(False), Cycle(True), None)
    silent, busy, kept, slow = map(Connection, states)
    watched.server_state.connections = {silent, busy, kept, slow}  # type: ignore[assignment]
    for now in (0.0, 50.0, server.IDLE_SECONDS + 1.0):
        if now == 50.0:
            # Two requests have been answered since.
            kept.cycle = Cycle(True)
            slow.cycle = Cycle(True)
        watched._close_silent()
    assert [each.closed for each in (silent, busy, kept, slow)] == [True, False, False, False]
    now = 200.0
    watched._close_silent()
    assert [each.closed for each in (silent, busy, kept, slow)] == [True, False, True, True]
