"""Kill commands at random moments, repeat them, and count what was lost: `python kills.py 1000`.

Each scenario first runs its command undisturbed. Then it is killed again and again by SIGKILL, SIGTERM or
SIGINT, at moments from its start to a little after its usual end, until it has been left alone once; the
result has to be the same. After each kill the last checkpoint has to be there, and a run folder either has a
whole result or none.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kill_server
import numpy as np
from run_files import comparable_files
from shop import write_shop

import alterrec
from alterrec.data.vector_cache import VectorCache
from alterrec.errors import InputError
from alterrec.results import CHECKPOINT
from alterrec.runs.saved_model import load
from alterrec.training.checkpoint import checkpoint_epochs

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
SMALL = (
    *("--set=model.dim=8", "--set=optim.batch_size=64", "--set=run.threads=1"),
    *("--set=run.report=false", "--set=run.baselines=false"),
)
# A checkpoint after nearly every step.
TRAIN = ("--set=schedule.epochs=6", "--set=run.checkpoint_every=0.01", *SMALL)
# Kills of one command before it is left alone.
MOST = 6
LONGEST_STOP = 10.0


class Server:
    """A process of :mod:`kill_server`; made by :func:`server`."""

    def __init__(self, process: subprocess.Popen[str], logs: Path) -> None:
        self._process = process
        self._log = logs / "log"

    def start(self, **job: Any) -> int:
        """Start a job and return the number of its process."""
        return self._ask(job | {"log": str(job.get("log", self._log))})

    def wait(self, process: int) -> int:
        """Return the exit code of a job."""
        return self._ask({"wait": process})

    def run(self, *arguments: object, **more: Any) -> tuple[int, str]:
        """Run a command and return its exit code and its output."""
        code = self.wait(self.start(run=[str(each) for each in arguments], **more))
        return code, self.output

    @property
    def output(self) -> str:
        """Output of the last job that has no other log."""
        return self._log.read_text("utf-8", "replace")

    def _ask(self, job: dict[str, Any]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextmanager
def server(logs: Path) -> Iterator[Server]:
    """Start a server, and end it with the block."""
    command = [sys.executable, kill_server.__file__]
    # Where the source is tested, its path may be relative.
    paths = [str(Path(alterrec.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=logs, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield Server(process, logs)
        finally:
            process.kill()


@dataclass
class Report:
    """What happened in all kills.

    Attributes:
        kills: (command, signal or ``in time``) -> how often a command was killed or had ended before.
        lost: checkpoints or finished results that were gone or damaged after a kill.
        different: results that differ from those of an undisturbed command.
        wrong: other misbehaviour.
    """

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0

    @property
    def total(self) -> int:
        """Number of commands that a signal ended."""
        return sum(count for (_, how), count in self.kills.items() if how != "in time")

    def __str__(self) -> str:
        commands = sorted({command for command, _ in self.kills})
        ways = [*(each.name for each in SIGNALS), "in time"]
        rows = [
            ["command", *ways],
            *([name, *(str(self.kills[name, way]) for way in ways)] for name in commands),
        ]
        table = "\n".join("  ".join(cell.rjust(8) for cell in row) for row in rows)
        lines = [*self.lost, *self.different, *self.wrong]
        return "\n".join(
            [
                table,
                f"kills: {self.total}, lost checkpoints and results: {len(self.lost)}, "
                f"different results: {len(self.different)}, other faults: {len(self.wrong)}, "
                f"slowest end after SIGTERM: {self.slowest:.1f} s",
                *lines,
            ]
        )


@dataclass
class Harness:
    """Scenarios of one server and one source of randomness."""

    server: Server
    folder: Path
    data: Path
    chance: random.Random
    report: Report = field(default_factory=Report)
    _number: int = 0

    def new_folder(self) -> Path:
        self._number += 1
        return self.folder / f"out{self._number}"

    def measured(self, **job: Any) -> float:
        """Run a job undisturbed and return its seconds."""
        began = time.monotonic()
        if self.server.wait(self.server.start(**job)) != 0:
            raise AssertionError(self.server.output)
        return time.monotonic() - began

    def kill(self, name: str, seconds: float, check: Callable[[], None], **job: Any) -> bool:
        """Start a job, send a signal at a random moment, and return whether that ended it."""
        number = self.chance.choice(SIGNALS)
        process = self.server.start(**job)
        time.sleep(self.chance.uniform(0, 1.05 * seconds))
        sent = time.monotonic()
        with suppress(ProcessLookupError):
            subprocess.run(["kill", f"-{number.value}", str(process)], check=False, capture_output=True)
        code = self.server.wait(process)
        ended = time.monotonic() - sent
        self.report.kills[name, "in time" if code == 0 else number.name] += 1
        expected = [0, -number] if number == signal.SIGKILL or "cache" in job else [0, 128 + number]
        if not self.server.output:
            # The process had not yet come to the lines that say what a signal does.
            expected.append(-number)
        if code not in expected or "Traceback" in self.server.output:
            self.report.wrong.append(f"{name}, {number.name}: exit code {code}: {self.server.output[-300:]}")
        if number == signal.SIGTERM:
            self.report.slowest = max(self.report.slowest, ended)
            if ended > LONGEST_STOP:
                self.report.wrong.append(f"{name}: SIGTERM ended it after {ended:.1f} s")
        check()
        return code != 0

    def train(self, model: str, kills: int) -> None:
        """Kill a training, resume it, and compare all files of the run."""
        arguments = ["train", model, f"--data={self.data}", *TRAIN]
        whole = self.new_folder()
        seconds = self.measured(run=[*arguments, f"--out={whole}"])
        expected = comparable_files(whole)
        done = 0
        while done < kills:
            out = self.new_folder()
            # --resume begins a run where there is none.
            job = [*arguments, f"--out={out}", "--resume"]
            reached = [0, 0]
            for _ in range(min(self.chance.randint(1, MOST), kills - done)):
                done += self.kill(
                    "train", seconds, lambda out=out, reached=reached: self.check_run(out, reached), run=job
                )
            self.finish("train", job)
            found = comparable_files(out)
            if found != expected:
                names = sorted(n for n in {*found, *expected} if found.get(n) != expected.get(n))
                self.report.different.append(f"train {model}: {', '.join(names)}")
            shutil.rmtree(out)
        shutil.rmtree(whole)

    def check_run(self, out: Path, reached: list[int]) -> None:
        """Check that the checkpoint is at least as far as before, and that a result is whole."""
        path = out / CHECKPOINT
        if path.exists() or any(reached):
            try:
                epochs = len(checkpoint_epochs(path))
            except InputError as error:
                self.report.lost.append(str(error))
                return
            if [epochs, 0] < [reached[0], 0]:
                self.report.lost.append(f"{path}: {epochs} epochs after {reached[0]}")
            reached[0] = epochs
        if (out / "result.json").exists():
            try:
                load(out)
            except InputError as error:
                self.report.lost.append(str(error))

    def finish(self, name: str, arguments: list[str]) -> None:
        """Run a command until its end."""
        code, output = self.server.run(*arguments)
        if code != 0:
            self.report.wrong.append(f"{name} does not resume: exit code {code}: {output[-300:]}")

    def tune(self, kills: int) -> None:
        """Kill a search, resume it, and compare its trials."""
        arguments = [
            "tune",
            "id_only",
            f"--data={self.data}",
            "--search=optim.lr=0.001..0.1:log",
            "--trials=3",
        ]
        arguments += [each for each in SMALL if "run.memory" not in each] + ["--set=schedule.epochs=4"]
        whole = self.new_folder()
        seconds = self.measured(run=[*arguments, f"--out={whole}"])
        done = 0
        while done < kills:
            out = self.new_folder()
            job = [*arguments, f"--out={out}"]
            for _ in range(min(self.chance.randint(1, MOST), kills - done)):
                done += self.kill("tune", seconds, lambda: None, run=job)
            self.finish("tune", job)
            if _trials(out) != _trials(whole):
                self.report.different.append("tune")
            shutil.rmtree(out)

    def study(self, kills: int) -> None:
        """Kill a study, resume it, and compare its rows; finished runs stay as they are."""
        arguments = ["study", "table1", f"--data={self.data}", "--only=id_only", "--only=popularity"]
        arguments += [*SMALL, "--seeds=1", "--set=optim.lr=0.01", "--set=schedule.epochs=3"]
        whole = self.new_folder()
        seconds = self.measured(run=[*arguments, f"--out={whole / 'out'}"])
        done = 0
        while done < kills:
            out = self.new_folder()
            job, finished = [*arguments, f"--out={out / 'out'}"], dict[str, bytes]()
            for _ in range(min(self.chance.randint(1, 3), kills - done)):
                done += self.kill(
                    "study",
                    seconds,
                    lambda out=out, finished=finished: self.check_study(out, finished),
                    run=job,
                )
            self.finish("study", job)
            self.check_study(out, finished)
            if _rows(out / "out") != _rows(whole / "out"):
                self.report.different.append("study")
            shutil.rmtree(out)

    def check_study(self, out: Path, finished: dict[str, bytes]) -> None:
        """Check that the finished runs of a study are still there, unchanged."""
        now = {
            path.parent.name: path.read_bytes()
            for path in out.glob("study-runs/*/result.json")
            if json.loads(path.read_bytes())["stopped"] != "interrupted"
        }
        if not finished.items() <= now.items():
            self.report.lost.append(f"{out}: a finished run of a study has changed")
        finished.update(now)

    def cache(self, kills: int) -> None:
        """Kill a process that fills a cache of text vectors; what it wrote is right."""
        whole = self.new_folder()
        seconds = self.measured(cache=str(whole))
        done = 0
        while done < kills:
            out, known = self.new_folder(), [0]
            for _ in range(min(self.chance.randint(1, MOST), kills - done)):
                done += self.kill(
                    "cache",
                    seconds,
                    lambda out=out, known=known: self.check_cache(out, known),
                    cache=str(out),
                )
            kill_server.fill(out)
            self.check_cache(out, known)
            names = [sorted(path.name for path in each.rglob("*")) for each in (out, whole)]
            if names[0] != names[1]:
                self.report.different.append("cache: files")
            shutil.rmtree(out)

    def check_cache(self, out: Path, known: list[int]) -> None:
        """Check that every vector in a cache is right and that there are at least as many as before."""
        cache = VectorCache(out, "kills")
        texts = [f"text {number}" for number in range(len(cache))]
        if len(cache) < known[0] or cache.missing(texts):
            self.report.lost.append("cache: a segment")
        elif texts and not np.array_equal(
            cache.vectors(texts, None)[:, 0], np.arange(len(texts)).astype(np.float16)
        ):
            self.report.different.append("cache: a vector")
        known[0] = len(cache)

    def prepare(self, kills: int) -> None:
        """Kill a preparation, repeat it, and compare all files; nothing is there before it is whole."""
        source = self.write_log()
        arguments = ["prepare", str(source), "--min-item-count=1"]
        whole = self.new_folder() / "out"
        seconds = self.measured(run=[*arguments, f"--out={whole}"])
        expected = {path.name: path.read_bytes() for path in whole.iterdir()}
        done = 0
        while done < kills:
            out = self.new_folder() / "out"
            job = [*arguments, f"--out={out}"]
            for _ in range(min(self.chance.randint(1, MOST), kills - done)):
                done += self.kill(
                    "prepare", seconds, lambda out=out: self.check_prepared(out, expected), run=job
                )
            self.finish("prepare", job)
            self.check_prepared(out, expected)
            left = sorted(path.name for path in out.parent.iterdir())
            if left != ["out"]:
                self.report.wrong.append(f"prepare leaves {', '.join(left)}")
            shutil.rmtree(out.parent)

    def check_prepared(self, out: Path, expected: dict[str, bytes]) -> None:
        """Check that a folder is whole, if it is there."""
        if out.exists() and {path.name: path.read_bytes() for path in out.iterdir()} != expected:
            self.report.different.append(f"prepare: {out}")

    def recommend(self, kills: int) -> None:
        """Kill a command that recommends for a file; its output has the same bytes or is not there."""
        run, lines = self.new_folder(), self.folder / "sessions.jsonl"
        self.measured(run=["train", "covisitation", f"--data={self.data}", f"--out={run}", *SMALL[2:]])
        sessions = [
            {"session_id": number, "items": [f"i{self.chance.randrange(30)}" for _ in range(3)]}
            for number in range(40_000)
        ]
        lines.write_text("".join(f"{json.dumps(session)}\n" for session in sessions), "utf-8")
        for suffix in (".csv", ".parquet"):
            arguments = ["recommend", str(run), f"--sessions={lines}", "-k5"]
            whole = self.new_folder() / f"best{suffix}"
            seconds = self.measured(run=[*arguments, f"--out={whole}"])
            done = 0
            while done < kills / 2:
                out = self.new_folder() / f"best{suffix}"
                job = [*arguments, f"--out={out}"]
                for _ in range(self.chance.randint(1, MOST)):
                    done += self.kill(
                        "recommend",
                        seconds,
                        lambda out=out, whole=whole: self.check_output(out, whole),
                        run=job,
                    )
                self.finish("recommend", job)
                self.check_output(out, whole)
                left = sorted(path.name for path in out.parent.iterdir())
                if left != [out.name]:
                    self.report.wrong.append(f"recommend leaves {', '.join(left)}")

    def check_output(self, out: Path, whole: Path) -> None:
        """Check that an output is whole, if it is there."""
        if out.exists() and out.read_bytes() != whole.read_bytes():
            self.report.different.append(f"recommend: {out}")

    def write_log(self) -> Path:
        """Write a log of users and times."""
        lines = ["user_id,item_id,timestamp"]
        lines += [
            f"u{self.chance.randrange(3000)},i{self.chance.randrange(900)},{1_700_000_000 + 37 * row}"
            for row in range(60_000)
        ]
        path = self.folder / "log.csv"
        path.write_text("\n".join(lines) + "\n", "utf-8")
        return path


def _trials(out: Path) -> list[Any]:
    rows = json.loads((out / "study.json").read_text("utf-8"))["trials"]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def _rows(out: Path) -> dict[str, Any]:
    rows = json.loads((out / "study.json").read_text("utf-8"))["rows"]
    return {row["model"]: [(run["valid"], run["test"]) for run in row["runs"]] for row in rows}


def torture(folder: Path, kills: int, seed: int) -> Report:
    """Kill commands so many times in all: half of them trainings, few studies, as their runs start slowly.

    With fewer than 25 kills there is no study; ``test_study.py`` kills one.
    """
    data = write_shop(folder / "data")
    with server(folder) as started:
        harness = Harness(started, folder, data, random.Random(seed))
        studies = kills // 25
        tunes, caches, preparations = kills // 10, kills // 5, kills // 5
        models = ("alterrec", "bert4rec")
        recommendations = kills // 10
        trainings = kills - studies - tunes - caches - preparations - recommendations
        for place, model in enumerate(models):
            harness.train(model, trainings // 2 if place else trainings - trainings // 2)
        harness.tune(tunes)
        harness.cache(caches)
        harness.prepare(preparations)
        harness.recommend(recommendations)
        if studies:
            harness.study(studies)
    return harness.report


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kills", type=int, nargs="?", default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        report = torture(Path(name), options.kills, options.seed)
    print(report)
    sys.exit(bool(report.lost or report.different or report.wrong))
