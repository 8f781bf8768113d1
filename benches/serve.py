"""Load `alterrec serve` on this machine: requests a second, latency, and what bad requests get.

    python benches/serve.py RUN                    # a folder of a finished run; about a minute
    python benches/serve.py RUN --requests 100     # as a check that it runs

Every answer is compared with that of `recommend` in this process. The clients are one process with one
thread, the service is another; on a machine of two cores each has one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import timing

from alterrec import load
from alterrec.runs.recommendations import Recommendation

K = 20
SLOW_SECONDS = 1.0


@contextmanager
def service(run: Path, *options: str) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """Start the service at a free port; end it by SIGTERM and check that it says nothing more."""
    command = [sys.executable, "-m", "alterrec", "serve", str(run), "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline().rpartition(":")[2]), process
    finally:
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
        assert process.wait() == 128 + signal.SIGTERM


def random_sessions(run: Path, number: int) -> list[list[str]]:
    """Sessions of 1 to 10 items of the catalogue."""
    items = load(run).vocabulary.item_ids
    random = np.random.default_rng(1)
    return [
        [items[item] for item in random.integers(len(items), size=random.integers(1, 11))]
        for _ in range(number)
    ]


def request_of(body: bytes) -> bytes:
    head = "POST /recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines if line)
    return int(status.split()[1]), await reader.readexactly(int(fields["content-length"]))


async def load_test(
    port: int, requests: list[bytes], clients: int
) -> tuple[float, list[float], list[tuple[int, bytes]]]:
    """Send the requests by so many clients at a time: seconds, seconds of each, status and body of each."""
    left = iter(range(len(requests)))
    seconds = [0.0] * len(requests)
    answers: list[tuple[int, bytes]] = [(0, b"")] * len(requests)

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for place in left:
            began = time.perf_counter()
            writer.write(requests[place])
            answers[place] = await answer(reader)
            seconds[place] = time.perf_counter() - began
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return time.perf_counter() - began, seconds, answers


def check(answers: list[tuple[int, bytes]], wanted: list[list[Recommendation]]) -> None:
    """Assert that every answer is that of `recommend`: the same items, and scores to five digits."""
    for (status, body), best in zip(answers, wanted, strict=True):
        assert status == 200, (status, body)
        (found,) = json.loads(body)["sessions"]
        assert [item["item_id"] for item in found["items"]] == [item.item_id for item in best]
        scores = [item["score"] for item in found["items"]]
        np.testing.assert_allclose(scores, [item.score for item in best], rtol=1e-5, atol=1e-5)


async def talk(port: int, *parts: bytes, pause: float = 0.0) -> tuple[float, int, str]:
    """Send the parts of a request; return seconds, status and error."""
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(pause)
    status, body = await answer(reader)
    writer.close()
    return time.perf_counter() - began, status, json.loads(body)["error"]


def under_load(run: Path, sessions: list[list[str]]) -> None:
    bodies = [json.dumps({"sessions": [each], "k": K}).encode() for each in sessions]
    requests = [request_of(body) for body in bodies]
    wanted = load(run).recommend(sessions, K)
    with service(run) as (port, process):
        asyncio.run(load_test(port, requests[:50], 1))
        print(f"{len(requests)} requests of one session, k {K}: all answers equal those of recommend")
        for clients in (1, 8, 64):
            whole, each, answers = asyncio.run(load_test(port, requests, clients))
            check(answers, wanted)
            p50, p99 = np.percentile(each, [50, 99]) * 1e3
            rate = len(requests) / whole
            print(f"  {clients:2} clients  {rate:7.0f} requests/s   p50 {p50:6.2f} ms   p99 {p99:6.2f} ms")

        async def with_reloads() -> list[tuple[int, bytes]]:
            test = asyncio.create_task(load_test(port, requests, 8))
            reloads = 0
            while not test.done():
                os.kill(process.pid, signal.SIGHUP)
                assert process.stdout is not None
                line = await asyncio.to_thread(process.stdout.readline)
                assert line.startswith("reloaded"), line
                reloads += 1
            print(f"  8 clients while the run is reloaded {reloads} times: no error")
            return (await test)[2]

        check(asyncio.run(with_reloads()), wanted)
        together = request_of(json.dumps({"sessions": sessions[:1000], "k": K}).encode())
        seconds = [asyncio.run(load_test(port, [together], 1))[0] for _ in range(5)]
        rate = min(len(sessions), 1000) / np.median(seconds)
        print(f"  {min(len(sessions), 1000)} sessions in one request: {rate:.0f} sessions/s")


def bad_requests(run: Path, sessions: list[list[str]]) -> None:
    limits = ("--limit", f"seconds={SLOW_SECONDS}", "--limit", "sessions=1", "--limit", "waiting=4")
    good = json.dumps({"sessions": sessions[:1]}).encode()
    huge = b" " * 3_000_000
    cases = {
        "malformed JSON": (request_of(b'{"sessions": [[1'),),
        "a wrong type": (request_of(b'{"sessions": "i1"}'),),
        "too many sessions": (request_of(json.dumps({"sessions": sessions[:2]}).encode()),),
        "3 MB": (request_of(huge),),
        "a slow body": (request_of(good)[:-5], b"", b""),
    }
    with service(run, *limits) as (port, _):
        for name, parts in cases.items():
            seconds, status, error = asyncio.run(talk(port, *parts, pause=0.01))
            print(f"  {name:18} {status} after {seconds:5.2f} s: {error}")
        _, _, answers = asyncio.run(load_test(port, [request_of(good)] * min(1000, len(sessions)), 64))
        counts = Counter(status for status, _ in answers)
        print(f"  64 clients, of whom 4 may wait: {dict(sorted(counts.items()))}")
        assert set(counts) <= {200, 503}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--requests", type=int, default=2000)
    given = parser.parse_args()
    print(f"{timing.machine()}; {given.run.name}: {len(load(given.run).vocabulary)} items")
    asked = random_sessions(given.run, given.requests)
    under_load(given.run, asked)
    bad_requests(given.run, asked)
