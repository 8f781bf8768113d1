"""Lock files: one owner at a time, freed by its death, kept by a slow owner."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from alterrec import locks
from alterrec.locks import LockFile


def test_a_lock_is_held_until_it_is_released(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    lock = LockFile.try_acquire(path)
    assert lock is not None
    assert LockFile.try_acquire(path) is None
    assert lock.touch()
    lock.release()
    assert not path.exists()
    assert LockFile.try_acquire(path) is not None


def _write_lock(path: Path, process: int, host: str = socket.gethostname()) -> None:
    path.write_text(json.dumps({"host": host, "process": process, "token": "x"}), "utf-8")


def _ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_lock_of_a_process_that_is_gone_is_free(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    _write_lock(path, _ended_process())
    assert LockFile.try_acquire(path) is not None
    assert [file.name for file in tmp_path.iterdir()] == ["run.lock"]


def test_the_lock_of_a_live_process_or_of_another_host_is_kept(tmp_path: Path) -> None:
    for name, process, host in (("a", os.getpid(), socket.gethostname()), ("b", _ended_process(), "far")):
        path = tmp_path / name
        _write_lock(path, process, host)
        assert LockFile.try_acquire(path) is None


def test_a_lock_that_nobody_touched_for_long_is_free(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    _write_lock(path, os.getpid(), "far")
    old = time.time() - locks.STALE_SECONDS - 1
    os.utime(path, (old, old))
    assert LockFile.try_acquire(path) is not None


def test_a_lock_that_is_being_written_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    path.touch()
    assert LockFile.try_acquire(path) is None


def test_an_owner_that_lost_its_lock_notices_and_leaves_it_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "TOUCH_SECONDS", 0.0)
    path = tmp_path / "run.lock"
    lock = LockFile.try_acquire(path)
    assert lock is not None
    _write_lock(path, os.getpid(), "far")
    assert not lock.touch()
    lock.release()
    assert path.exists()


def test_a_touch_keeps_a_lock_fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "TOUCH_SECONDS", 0.0)
    path = tmp_path / "run.lock"
    lock = LockFile.try_acquire(path)
    assert lock is not None
    os.utime(path, (0, 0))
    assert lock.touch()
    assert not locks.is_stale(path)


@pytest.mark.parametrize("stale", [False, True])
def test_of_many_at_once_one_gets_the_lock(tmp_path: Path, stale: bool) -> None:
    gone = _ended_process()
    for attempt in range(40):
        path = tmp_path / f"{attempt}.lock"
        if stale:
            _write_lock(path, gone)
        got: list[LockFile] = []
        start = threading.Barrier(12)

        def take(path: Path = path, got: list[LockFile] = got, start: threading.Barrier = start) -> None:
            start.wait()
            lock = LockFile.try_acquire(path)
            if lock is not None:
                got.append(lock)

        threads = [threading.Thread(target=take) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 1


def test_an_empty_lock_of_a_process_that_was_killed_while_writing_it_is_free(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    path.touch()
    old = time.time() - locks.EMPTY_SECONDS - 1
    os.utime(path, (old, old))
    assert LockFile.try_acquire(path) is not None


LOCKING = """
import sys
from pathlib import Path
from alterrec.locks import LockFile
print("ready", flush=True)
while True:
    lock = LockFile.acquire(Path(sys.argv[1]))
    if len(sys.argv) > 2:
        print("held", flush=True)
        sys.stdin.read()
    lock.release()
"""


def test_killed_at_random_moments_two_owners_leave_no_lock_that_cannot_be_taken(tmp_path: Path) -> None:
    moments = random.Random(7)
    for attempt in range(6):
        path = tmp_path / f"{attempt}.lock"
        command = [sys.executable, "-c", LOCKING, str(path)]
        owners = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
        for owner in owners:
            assert owner.stdout is not None
            owner.stdout.readline()
        time.sleep(moments.uniform(0.0, 0.05))
        for owner in owners:
            owner.kill()
        for owner in owners:
            owner.communicate()
        until = time.monotonic() + locks.EMPTY_SECONDS + 5
        while (lock := LockFile.try_acquire(path)) is None:
            assert time.monotonic() < until
            time.sleep(0.02)
        lock.release()


@pytest.mark.skipif(os.name != "posix", reason="a process is stopped by SIGSTOP")
def test_a_slow_owner_keeps_its_lock_until_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    command = [sys.executable, "-c", LOCKING, str(path), "hold"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        while owner.stdout.readline() != b"held\n":
            pass
        owner.send_signal(signal.SIGSTOP)
        assert LockFile.try_acquire(path) is None
        owner.kill()
    assert LockFile.try_acquire(path) is not None
