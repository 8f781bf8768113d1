"""Run jobs in forks of one process that has imported everything, so that a kill does not cost a start.

Reads lines of JSON from standard input. ``{"run": ARGUMENTS, "log": FILE}`` starts ``alterrec ARGUMENTS`` and
prints the number of its process; ``{"cache": FOLDER, "log": FILE}`` fills a cache of text vectors; further
keys are ``limit`` (largest file in bytes) and ``unprivileged`` (root obeys permissions, too).
``{"wait": PROCESS}`` prints its exit code.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from alterrec import cli, signals
from alterrec.data.vector_cache import VectorCache

# What commands import when they need it, which would take longer than the small runs of the children.
PRELOADED = (
    *(
        "alterrec.analyses.preparation",
        "alterrec.runs.fit",
        "alterrec.serving.batch",
        "alterrec.studies.study",
        "alterrec.studies.tune",
        "torch._dynamo",
    ),
    *("sklearn.decomposition", "sklearn.feature_extraction.text"),
    *("optuna.samplers", "optuna.storages.journal"),
)
SEGMENTS, ROWS = 40, 50


def fill(folder: Path) -> None:
    """Encode texts slowly in many segments, then write a table of them."""
    texts = [f"text {number}" for number in range(SEGMENTS * ROWS)]

    def encode(part: list[str]) -> np.ndarray:
        time.sleep(0.01)
        return np.array([[float(text.split()[1]), 1.0] for text in part], np.float32)

    cache = VectorCache(folder, "kills")
    for first in range(0, len(texts), ROWS):
        cache.vectors(texts[first : first + ROWS], encode)
    cache.table([texts])


def drop_privileges() -> None:
    """Clear the capabilities of this process, by which root may write everywhere."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    if ctypes.CDLL(None, use_errno=True).capset(header, (ctypes.c_uint32 * 6)()) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def end_with_parent() -> None:
    """Kill this process when the one that started it ends, as when tests are killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def child(job: dict[str, Any], output: int) -> int:
    end_with_parent()
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout, sys.stderr = (os.fdopen(os.dup(number), "w", encoding="utf-8") for number in (1, 2))
    if "limit" in job:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["limit"], job["limit"]))
    if job.get("unprivileged"):
        drop_privileges()
    try:
        if "cache" in job:
            fill(Path(job["cache"]))
            return 0
        signals.install()
        sys.argv = ["alterrec", *job["run"]]
        cli.main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    except BaseException:
        traceback.print_exc()
        return 99
    return 0


def main() -> None:
    end_with_parent()
    # Whoever started the tests in the background may have ignored these. A child that is killed before it
    # handles signals ends without a traceback of its own first lines.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    for name in PRELOADED:
        # A search is not killed where Optuna is missing.
        with suppress(ImportError):
            import_module(name)
    print("ready", flush=True)
    copies: dict[int, subprocess.Popen[bytes]] = {}
    for line in sys.stdin:
        job = json.loads(line)
        if "wait" in job:
            code = os.waitstatus_to_exitcode(os.waitpid(job["wait"], 0)[1])
            copies[job["wait"]].wait()
            print(code, flush=True)
            continue
        # Output goes through a pipe, because a limit of files would also be one of the log.
        pipe, output = os.pipe()
        with open(job["log"], "wb") as log:
            copy = subprocess.Popen(["cat"], stdin=pipe, stdout=log)
        os.close(pipe)
        process = os.fork()
        if process == 0:
            code = child(job, output)
            sys.stdout.flush()
            os._exit(code)
        os.close(output)
        copies[process] = copy
        print(process, flush=True)


if __name__ == "__main__":
    main()
