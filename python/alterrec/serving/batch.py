"""Recommend for a file of sessions, however many, and continue after an interruption.

Sessions are answered block by block. Blocks are kept in a folder beside the output until all are there, so
that the same command continues after a kill, and the output is written once and is whole.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from alterrec import __version__
from alterrec.errors import InputError
from alterrec.files import atomic_write, make_folder, read_text, sweep, write_json
from alterrec.job import current_job
from alterrec.locks import LockFile
from alterrec.manifest import check_manifest, manifest_of
from alterrec.record_json import from_json, to_json
from alterrec.report.tables import count
from alterrec.runs.inputs import RunCatalogue, read_catalogue
from alterrec.serving.answers import HEADER, Answers, Recommending
from alterrec.serving.blocks import SessionSource
from alterrec.serving.sources import open_sessions
from alterrec.serving.tally import Tally

OUTPUTS = (".csv", ".parquet", ".jsonl")
# Called with the number of sessions that are answered and of all, None if it is not known.
Progress = Callable[[int, int | None], None]

_REQUEST, _PROGRESS, _LOCK = "request.json", "progress.json", "lock"
# Files of a run that decide about recommendations.
DECISIVE = ("recipe.toml", "vocabulary.parquet", "users.parquet", "model.safetensors")
# Rows of a group of the Parquet file.
ROW_GROUP = 2**17


@dataclass(frozen=True)
class Request:
    """What decides about the content of an output; an unfinished folder of another request is not continued.

    Attributes:
        version: version of alterrec.
        model: digest of the files of the run that decide about recommendations.
        sessions: size of the sessions file, and the time of its last change in nanoseconds.
        k, exclude_seen, fallback, columns: as for :func:`recommend_file`.
    """

    version: str
    model: str
    sessions: tuple[int, int]
    k: int
    exclude_seen: bool | None
    fallback: bool
    columns: dict[str, str]


@dataclass(frozen=True)
class Progressed:
    """``progress.json``: how many blocks are finished, and what was counted in them."""

    blocks: int
    tally: Tally


def check_output(out: Path) -> None:
    """Check the name of an output before anything is read.

    Raises:
        InputError: its suffix names no format, or it is a folder.

    Example:
        >>> check_output(Path("best.xlsx"))
        Traceback (most recent call last):
            ...
        alterrec.errors.InputError: --out is 'best.xlsx'; use a name that ends in .csv, .parquet or .jsonl
    """
    if out.suffix not in OUTPUTS:
        raise InputError(
            f"--out is {str(out)!r}; use a name that ends in {', '.join(OUTPUTS[:-1])} or {OUTPUTS[-1]}"
        )
    if out.is_dir():
        raise InputError(f"{out}: cannot be written: it is a folder; choose another name")


def recommend_file(
    run: str | Path,
    sessions: str | Path,
    out: str | Path,
    *,
    k: int = 20,
    exclude_seen: bool | None = None,
    fallback: bool = True,
    columns: Mapping[str, str] | None = None,
    progress: Progress = lambda done, total: None,
    listen: Callable[[str], None] = lambda line: None,
) -> Tally:
    """Recommend for a file of sessions and write the result into a file, in bounded memory.

    If it is interrupted, a folder beside the output (its name and ``.unfinished``) keeps what is finished,
    and the same call continues. The output is the same then, byte for byte.

    Args:
        run: folder of a finished run.
        sessions: ``.csv``, ``.parquet`` or ``.jsonl``; the layouts are those of
            :func:`~alterrec.serving.sources.open_sessions`.
        out: ``.csv`` or ``.parquet`` with session_id, rank, item_id, score and source; or ``.jsonl`` with an
            object for each session: session_id, source, items. Sessions are in the order in which they begin
            in the file.
        k: items for each session. Default: 20.
        exclude_seen: whether items of a session are never recommended for it. Default: as the run was
            evaluated.
        fallback: whether sessions without a known item get the most popular items of the training, with the
            source ``popular``; else they get none.
        columns: our column name -> the file's.
        progress: called after each block with the number of sessions that are answered, and of all.
        listen: called with a sentence for everything that is left out, and for what is continued.

    Returns:
        What was read, left out and answered in another way than by the model.

    Raises:
        InputError: a file cannot be read or written, ``k`` is out of range, or another process writes the
            same output.

    Example:
        >>> import tempfile
        >>> from alterrec import fit
        >>> from alterrec.data.synthetic import synthetic_dataset
        >>> folder = Path(tempfile.mkdtemp())
        >>> data = synthetic_dataset(items=100, sessions=200)
        >>> quick = {"run.baselines": False, "run.report": False}
        >>> run = fit(data, "popularity", out=folder / "run", overrides=quick)
        >>> line = '{"session_id": "now", "items": ["%s"]}' % data.vocabulary.item_ids[0]
        >>> _ = (folder / "now.jsonl").write_text(line)
        >>> tally = recommend_file(run.path, folder / "now.jsonl", folder / "best.csv", k=2)
        >>> tally["sessions"], pl.read_csv(folder / "best.csv")["source"].to_list()
        (1, ['model', 'model'])
    """
    out, sessions = Path(out), Path(sessions)
    check_output(out)
    known = read_catalogue(run)
    if not current_job().is_first:
        return _answer_for_first(known, k, exclude_seen, fallback)
    with UnfinishedOutput.opened(out) as work:
        state = sessions.stat() if sessions.is_file() else None
        request = Request(
            __version__,
            _digest(known.path),
            (0, 0) if state is None else (state.st_size, state.st_mtime_ns),
            k,
            exclude_seen,
            fallback,
            dict(columns or {}),
        )
        done = work.resume(request, listen)
        source = open_sessions(sessions, known, work.folder, columns)
        # What is wrong with the files is found before torch is imported, which takes seconds.
        from alterrec import parallel
        from alterrec.runs.saved_model import load_model

        with parallel.joined_job(known.recipe.run.device):
            recommending = Recommending(load_model(known), k, exclude_seen=exclude_seen, fallback=fallback)
            tally = work.answer(source, recommending, done, progress)
        for sentence in recommending.sentences(source, tally):
            listen(sentence)
    return tally


def _answer_for_first(known: RunCatalogue, k: int, exclude_seen: bool | None, fallback: bool) -> Tally:
    """Answer the blocks of this process of a job, whose first process reads the sessions and writes."""
    from alterrec import parallel
    from alterrec.runs.saved_model import load_model

    tally = Tally()
    with parallel.joined_job(known.recipe.run.device):
        recommending = Recommending(load_model(known), k, exclude_seen=exclude_seen, fallback=fallback)
        for answers in recommending.answers(None):
            tally.merge(answers.tally)
    return tally


class UnfinishedOutput:
    """The folder with the finished blocks of an output, while this process holds its lock."""

    def __init__(self, out: Path, folder: Path) -> None:
        self.folder = folder
        self._out = out

    @classmethod
    @contextmanager
    def opened(cls, out: Path) -> Iterator[UnfinishedOutput]:
        """Lock the folder while the block runs; afterwards it is removed, unless it has blocks of no output.

        Raises:
            InputError: another process holds it, or it cannot be written.
        """
        folder = out.with_name(f"{out.name}.unfinished")
        make_folder(folder)
        lock = LockFile.acquire_within(folder / _LOCK)
        if lock is None:
            raise InputError(f"another process writes {out}; wait for it, or choose another name")
        kept = True
        try:
            with lock.kept():
                sweep(folder, every=True)
                try:
                    yield cls(out, folder)
                    kept = False
                finally:
                    kept = kept and (folder / _PROGRESS).exists()
        finally:
            if not kept:
                shutil.rmtree(folder, ignore_errors=True)

    def resume(self, request: Request, listen: Callable[[str], None]) -> Progressed:
        """Return what is finished of a request; blocks of another one are removed."""
        written = to_json(request)
        path = self.folder / _REQUEST
        same = path.exists() and json.loads(read_text(path)) == written
        if same and (self.folder / _PROGRESS).exists():
            done = from_json(Progressed, read_text(self.folder / _PROGRESS), str(self.folder / _PROGRESS))
            listen(f"{self._out.name}: continuing after {count(done.tally['sessions'])} sessions")
            return done
        if not same:
            if (self.folder / _PROGRESS).exists():
                listen(
                    f"{self._out.name}: the unfinished recommendations of another command, or for another "
                    "version of the files, are removed"
                )
            for old in self.folder.iterdir():
                if old.is_dir():
                    shutil.rmtree(old)
                elif old.name != _LOCK:
                    old.unlink()
            write_json(path, written)
        return Progressed(0, Tally())

    def answer(
        self, source: SessionSource, recommending: Recommending, done: Progressed, progress: Progress
    ) -> Tally:
        """Answer the blocks that are not finished, and write the output."""
        number, tally = done.blocks, done.tally
        try:
            for answers in recommending.answers(source, number):
                with atomic_write(self._block(number)) as temporary:
                    _write(answers, temporary)
                number += 1
                tally.merge(answers.tally)
                write_json(self.folder / _PROGRESS, to_json(Progressed(number, tally)))
                progress(tally["sessions"], source.total)
        except KeyboardInterrupt:
            of = "" if source.total is None else f" of {count(source.total)}"
            raise KeyboardInterrupt(
                f"{count(tally['sessions'])}{of} sessions are answered; the same command continues"
            ) from None
        with atomic_write(self._out) as temporary:
            _join([self._block(each) for each in range(number)], temporary)
        tally.merge(source.tally)
        return tally

    def _block(self, number: int) -> Path:
        return self.folder / "blocks" / f"{number:08d}{self._out.suffix}"


def _write(answers: Answers, path: Path) -> None:
    if path.suffix == ".parquet":
        answers.rows.write_parquet(path)
    else:
        path.write_text(answers.text(path.suffix), "utf-8", newline="\n")


def _join(blocks: list[Path], out: Path) -> None:
    if out.suffix == ".parquet":
        # Groups of rows of a fixed size, so that the file does not depend on the number of threads.
        pl.scan_parquet(blocks, glob=False).sink_parquet(out, row_group_size=ROW_GROUP)
        return
    with out.open("wb") as file:
        if out.suffix == ".csv":
            file.write(HEADER.encode())
        for block in blocks:
            with block.open("rb") as opened:
                shutil.copyfileobj(opened, file)


def _digest(run: Path) -> str:
    """A digest of the files that decide about recommendations, by their hashes in the manifest."""
    # A run of an earlier version has no manifest; its files are read.
    files = (check_manifest(run) or manifest_of(run)).files
    hashes = {name: files[name].hash for name in DECISIVE if name in files}
    return hashlib.blake2b(json.dumps(hashes).encode(), digest_size=16).hexdigest()
