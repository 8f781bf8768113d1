"""Recommendations for files and pipes of sessions: layouts, blocks, interruptions, and what is counted."""

from __future__ import annotations

import io
import json
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from conftest import Outcome
from hypothesis import given, settings
from hypothesis import strategies as st

from alterrec import fit
from alterrec.errors import InputError
from alterrec.locks import LockFile
from alterrec.runs.inputs import RunCatalogue, read_catalogue
from alterrec.serving import answers, batch, blocks, rows
from alterrec.serving.batch import recommend_file
from alterrec.serving.blocks import SessionLines, SessionSource
from alterrec.serving.growth import remove_items
from alterrec.serving.sources import open_sessions

Command = Callable[..., Outcome]
QUICK = {"run.baselines": False, "run.report": False}


@pytest.fixture(scope="module")
def run(shop_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose recommendations depend on the session."""
    return fit(shop_source, "covisitation", out=tmp_path_factory.mktemp("run") / "run", overrides=QUICK).path


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 4 sessions, and 7 rows in memory."""
    for module, name, value in (
        (blocks, "BLOCK", 4),
        (blocks, "READ", 8),
        (rows, "BLOCK", 4),
        (rows, "READ", 8),
        (rows, "PIECE", 7),
    ):
        monkeypatch.setattr(module, name, value)


def sessions_of(seed: int, count: int = 22) -> dict[str, list[str]]:
    """Random sessions; some have unknown items, and one nothing else."""
    rng = random.Random(seed)
    found = {
        f"s{n}": [f"i{rng.choice([*range(30), 77])}" for _ in range(rng.randint(1, 5))] for n in range(count)
    }
    return found | {"new": ["boat"]}


def write_lines(path: Path, sessions: dict[str, list[str]]) -> Path:
    lines = [json.dumps({"session_id": name, "items": items}) for name, items in sessions.items()]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def read_all(source: SessionSource) -> list[tuple[str, list[int]]]:
    return [
        (name, items.tolist())
        for block in source.blocks()
        for name, items in zip(block.names, block.items, strict=True)
    ]


@pytest.mark.usefixtures("small")
def test_every_layout_gets_the_same_recommendations(run: Path, tmp_path: Path) -> None:
    sessions = sessions_of(1)
    write_lines(tmp_path / "lines.jsonl", sessions)
    lists = pl.DataFrame({"session_id": list(sessions), "items": list(sessions.values())})
    lists.write_parquet(tmp_path / "lists.parquet")
    # Whole sessions one after the other; and first items, then second ones, ...
    together = lists.explode("items").rename({"items": "item_id"})
    together.write_csv(tmp_path / "together.csv")
    timed = together.with_columns(timestamp=pl.int_range(pl.len()).over("session_id"))
    timed.sort("timestamp", maintain_order=True).write_parquet(tmp_path / "by_time.parquet")
    # Times decide, not the order of rows.
    timed.reverse().write_csv(tmp_path / "reversed.csv")
    found = {}
    for name in ("lines.jsonl", "lists.parquet", "together.csv", "by_time.parquet", "reversed.csv"):
        tally = recommend_file(run, tmp_path / name, tmp_path / "best.parquet", k=3)
        assert (tally["sessions"], tally["rows"], tally["popular"]) == (23, len(together), 1), name
        frame = pl.read_parquet(tmp_path / "best.parquet")
        found[name] = frame.sort("session_id", "rank") if name == "reversed.csv" else frame
    assert found["lines.jsonl"]["session_id"].unique(maintain_order=True).to_list() == list(sessions)
    for name in ("lists.parquet", "together.csv", "by_time.parquet"):
        assert found[name].equals(found["lines.jsonl"]), name
    assert found["reversed.csv"].equals(found["lines.jsonl"].sort("session_id", "rank"))


CELLS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", "d", "e", " ", ""]),
        st.sampled_from(["i0", "i1", "i2", "boat", ""]),
        st.sampled_from(["1", "2", "3", "10", "", "soon"]),
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=30)
@given(CELLS, st.booleans(), st.integers(1, 9))
def test_rows_are_grouped_like_by_hand(
    run: Path,
    tmp_path_factory: pytest.TempPathFactory,
    cells: list[tuple[str, str, str]],
    timed: bool,
    piece: int,
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    names = ["session_id", "item_id", "timestamp"][: 3 if timed else 2]
    frame = pl.DataFrame(
        [row[: len(names)] for row in cells], schema=dict.fromkeys(names, pl.String), orient="row"
    )
    frame.write_parquet(folder / "now.parquet")
    expected: dict[str, list[tuple[int, int, str]]] = {}
    counts = dict.fromkeys(("no session", "no item", "no time", "unknown item"), 0)
    for place, (session, item, time) in enumerate(cells):
        if not session.strip():
            counts["no session"] += 1
            continue
        own = expected.setdefault(session, [])
        if not item:
            counts["no item"] += 1
        elif timed and not time.isdigit():
            counts["no time"] += 1
        elif item == "boat":
            counts["unknown item"] += 1
        else:
            own.append((int(time) if timed else 0, place, item))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "PIECE", piece)
        if not expected:
            with pytest.raises(InputError, match="no row has a session_id"):
                open_sessions(folder / "now.parquet", read_catalogue(run), folder)
            return
        source = open_sessions(folder / "now.parquet", read_catalogue(run), folder)
    assert read_all(source) == [
        (name, [int(item[1:]) for _, _, item in sorted(events)]) for name, events in expected.items()
    ]
    assert source.total == len(expected)
    assert {reason: source.tally.counts.get(reason, 0) for reason in counts} == counts
    assert source.tally["rows"] == len(cells)


def test_memory_holds_a_piece_and_a_block(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However large a file is, no frame has more rows than twice a piece, and no block more sessions."""
    monkeypatch.setattr(rows, "PIECE", 500)
    monkeypatch.setattr(rows, "READ", 64)
    monkeypatch.setattr(rows, "BLOCK", 16)
    written: list[int] = []
    write = pl.DataFrame.write_parquet

    def recorded(frame: pl.DataFrame, *args: Any, **options: Any) -> None:
        written.append(len(frame))
        write(frame, *args, **options)

    rng = np.random.default_rng(0)
    order = rng.permutation(np.repeat(np.arange(2000), 4))
    write(
        pl.DataFrame({"session_id": order, "item_id": [f"i{n % 30}" for n in order]}),
        tmp_path / "big.parquet",
    )
    monkeypatch.setattr(pl.DataFrame, "write_parquet", recorded)
    source = open_sessions(tmp_path / "big.parquet", read_catalogue(run), tmp_path)
    assert (max(written[:16]), sum(written[:16])) == (500, 8000)
    assert max(written) < 1000
    sizes = [len(block.names) for block in source.blocks()]
    assert (max(sizes), sum(sizes)) == (16, 2000)


class Killed(BaseException):
    """What ends a command in the middle."""


def after(blocks_done: int) -> Callable[[int, int | None], None]:
    """A progress callback that ends the command after some blocks."""
    calls = iter(range(blocks_done - 1))

    def progress(done: int, total: int | None) -> None:
        if next(calls, None) is None:
            raise Killed

    return progress


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
@pytest.mark.parametrize("layout", ["now.jsonl", "now.csv"])
def test_an_interrupted_command_continues(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, layout: str
) -> None:
    sessions = sessions_of(2)
    write_lines(tmp_path / "now.jsonl", sessions)
    cells = "".join(f"{name},{item}\n" for name, items in sessions.items() for item in items)
    (tmp_path / "now.csv").write_text("session_id,item_id\n" + cells, "utf-8")
    whole, out = tmp_path / f"whole{suffix}", tmp_path / f"best{suffix}"
    expected = recommend_file(run, tmp_path / layout, whole, k=3)
    computed: list[int] = []
    answer = answers.Recommending.answer

    def counted(self: Any, block: Any) -> Any:
        computed.append(len(block.names))
        return answer(self, block)

    monkeypatch.setattr(answers.Recommending, "answer", counted)
    for place, end in ((2, 2), (3, 1)):
        with pytest.raises(Killed):
            recommend_file(run, tmp_path / layout, out, k=3, progress=after(end))
        assert not out.exists(), place
        assert len(computed) == place
    said: list[str] = []
    tally = recommend_file(run, tmp_path / layout, out, k=3, listen=said.append)
    assert said[0] == f"best{suffix}: continuing after 12 sessions"
    assert computed == [4, 4, 4, 4, 4, 3]
    assert out.read_bytes() == whole.read_bytes()
    assert tally == expected
    assert not out.with_name(f"{out.name}.unfinished").exists()


@pytest.mark.usefixtures("small")
def test_another_command_does_not_continue(run: Path, tmp_path: Path) -> None:
    file, out = write_lines(tmp_path / "now.jsonl", sessions_of(3)), tmp_path / "best.csv"
    with pytest.raises(Killed):
        recommend_file(run, file, out, k=3, progress=after(3))
    said: list[str] = []
    recommend_file(run, file, out, k=2, listen=said.append)
    assert "unfinished recommendations of another command" in said[0]
    assert pl.read_csv(out)["rank"].max() == 2
    # A file that has changed is another one.
    with pytest.raises(Killed):
        recommend_file(run, file, out, k=2, progress=after(3))
    write_lines(file, sessions_of(3) | {"late": ["i4"]})
    recommend_file(run, file, out, k=2)
    assert pl.read_csv(out)["session_id"][-1] == "late"


def test_two_commands_do_not_write_one_output(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = write_lines(tmp_path / "now.jsonl", {"now": ["i0"]}), tmp_path / "best.csv"
    (tmp_path / "best.csv.unfinished").mkdir()
    lock = LockFile.acquire(tmp_path / "best.csv.unfinished" / "lock")
    monkeypatch.setattr(batch.LockFile, "acquire_within", LockFile.try_acquire)
    with pytest.raises(InputError, match=r"another process writes .*best\.csv; wait for it"):
        recommend_file(run, file, out)
    lock.release()
    recommend_file(run, file, out)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["best.csv", "now.jsonl"]


def test_a_session_without_a_known_item_gets_popular_items(
    run: Path, shop_source: Path, tmp_path: Path, alterrec: Command
) -> None:
    items = [row.split(",")[1] for row in (shop_source / "train.csv").read_text("utf-8").splitlines()[1:]]
    counts = np.bincount([int(item[1:]) for item in items], minlength=30)
    order = np.argsort(-counts, kind="stable")[:2]
    file = tmp_path / "now.csv"
    file.write_text("session_id,item_id\nold,i0\nnew,boat\nnew,ship\n", "utf-8")
    code, out, err = alterrec("recommend", run, "--sessions", file, "-k", 2)
    assert code == 0
    found = [row.split(",") for row in out.splitlines()[1:]]
    assert [row[4] for row in found] == ["model", "model", "popular", "popular"]
    assert [row[2] for row in found[2:]] == [f"i{item}" for item in order]
    assert [float(row[3]) for row in found[2:]] == pytest.approx(counts[order] / counts.sum(), rel=1e-6)
    assert "now.csv: dropped 2 of 3 rows with unknown items\n" in err
    assert "which get the most popular items: 1 of 2, such as 'new'" in err
    code, out, err = alterrec("recommend", run, "--sessions", file, "-k", 2, "--no-fallback")
    assert (code, len(out.splitlines())) == (0, 3)
    assert "sessions without a known item, which get no items: 1 of 2, such as 'new'" in err


def test_items_that_nobody_bought_are_not_popular(run: Path, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "now.jsonl", {"new": []})
    recommend_file(run, file, tmp_path / "best.csv", k=30)
    found = pl.read_csv(tmp_path / "best.csv")["item_id"].to_list()
    assert len(found) == 29
    assert "i29" not in found


def test_removed_items_are_not_popular(run: Path, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "now.jsonl", {"new": []})
    recommend_file(run, file, tmp_path / "best.csv", k=2)
    first, second = pl.read_csv(tmp_path / "best.csv").rows()
    remove_items(run, [first[2]], tmp_path / "fewer", progress=None)
    recommend_file(tmp_path / "fewer", file, tmp_path / "best.csv", k=1)
    # The share of the training that an item has stays the same.
    assert pl.read_csv(tmp_path / "best.csv").rows() == [("new", 1, *second[2:])]


def test_ids_of_another_shop_are_refused(run: Path, tmp_path: Path, alterrec: Command) -> None:
    file = write_lines(tmp_path / "now.jsonl", {f"s{n}": [" i0"] for n in range(100)})
    for option in ([], ["--out", tmp_path / "best.csv"]):
        code, out, err = alterrec("recommend", run, "--sessions", file, "-k", 2, *option)
        assert (code, out) == (2, "")
        assert "none of the first 100 sessions has an item of the catalogue" in err
        assert "the catalogue has 'i0'" in err
    assert [path.name for path in tmp_path.iterdir()] == ["now.jsonl"]


def test_json_lines_keep_sessions_without_items(run: Path, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "now.jsonl", {"a": ["i0"], 'b"\n': ["boat"], "c": ["i3"]})
    recommend_file(run, file, tmp_path / "best.jsonl", k=1, fallback=False)
    found = [json.loads(line) for line in (tmp_path / "best.jsonl").read_text("utf-8").splitlines()]
    assert [(row["session_id"], row["source"], len(row["items"])) for row in found] == [
        ("a", "model", 1),
        ('b"\n', None, 0),
        ("c", "model", 1),
    ]
    assert list(found[0]["items"][0]) == ["item_id", "score"]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """A function that sets what standard input has."""

    def give(content: bytes) -> None:
        stream = io.TextIOWrapper(io.BufferedReader(io.BytesIO(content)))  # type: ignore[arg-type]
        monkeypatch.setattr(sys, "stdin", stream)

    return give


def test_standard_input_has_csv_or_json_lines(
    run: Path, tmp_path: Path, alterrec: Command, typed: Callable[[bytes], None]
) -> None:
    csv = b"session_id,item_id\nnow,i0\nlater,i7\nnow,i1\n"
    lines = (
        b'\xef\xbb\xbf{"session_id": "now", "items": ["i0", "i1"]}\r\n\n{"session_id":"later","items":["i7"]}'
    )
    printed = []
    for content in (csv, lines):
        typed(content)
        code, out, err = alterrec("recommend", run, "--sessions", "-", "-k", 3)
        assert (code, err) == (0, "")
        printed.append(out)
        typed(content)
        assert alterrec("recommend", run, "--sessions", "-", "-k", 3, "--out", "best.csv").code == 0
        assert (tmp_path / "best.csv").read_text("utf-8") == out
    assert printed[0] == printed[1]
    typed(lines)
    code, out, _ = alterrec("recommend", run, "--sessions", "-", "-k", 3, "--json")
    assert [json.loads(line)["session_id"] for line in out.splitlines()] == ["now", "later"]


def test_a_line_of_a_pipe_is_answered_before_the_next_one(run: Path) -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as stream, os.fdopen(writer, "wb", buffering=0) as pipe:
        pipe.write(b'{"session_id": 1, "items": ["i0"]}\n{"session_id": 2')
        source = SessionLines(stream, "standard input", read_catalogue(run), {})
        answered = source.blocks()
        assert list(next(answered).names) == ["1"]
        pipe.write(b', "items": [7.0, null, "", "i4"]}\n')
        second = next(answered)
        assert (list(second.names), [each.tolist() for each in second.items]) == (["2"], [[4]])
        assert second.tally.counts == {"rows": 4, "no item": 2, "unknown item": 1, "sessions": 1}
        pipe.close()
        assert next(answered, None) is None


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("{", "standard input, line 2: EOF"),
        ("[]", "line 2: is []; expected a session"),
        ("{}", "line 2: has no key 'session_id', its keys are none"),
        ('{"session_id": 1, "item": []}', "line 2: has no key 'items', its keys are 'session_id', 'item'"),
        ('{"session_id": 1, "items": "i0"}', "line 2: items is 'i0'; expected a list of item ids"),
        ('{"session_id": "", "items": []}', "line 2: session_id is empty"),
        ('{"session_id": true, "items": []}', "line 2: session_id is True; expected text or an integer"),
        ('{"session_id": 1, "items": [1.5]}', "line 2: an item is 1.5; expected text or an integer"),
        ('{"session_id": 1, "items": [["i0"]]}', "line 2: an item is ['i0']"),
    ],
)
def test_a_wrong_line_is_named(
    run: Path, alterrec: Command, typed: Callable[[bytes], None], line: str, found: str
) -> None:
    typed(b'{"session_id": "now", "items": ["i0"]}\n' + line.encode() + b"\n")
    code, _, err = alterrec("recommend", run, "--sessions", "-", "-k", 2)
    assert code == 2
    assert found in err, err


def test_a_line_without_end_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(blocks, "LONGEST_LINE", 64)
    monkeypatch.setattr(blocks, "ARRIVED", 16)
    known = read_catalogue(run)
    (tmp_path / "long.jsonl").write_bytes(b"x" * 200)
    for source in (tmp_path / "long.jsonl", io.BufferedReader(io.BytesIO(b"x" * 200))):  # type: ignore[arg-type]
        with pytest.raises(InputError, match="line 1: has more than"):
            list(SessionLines(source, "long", known, {}).blocks())


@pytest.mark.parametrize(
    ("content", "name", "options", "found"),
    [
        (b"", "now.csv", [], "now.csv: is empty"),
        (b"session_id,item_id\n", "now.csv", [], "has a header but no rows"),
        (b"session_id,sku\na,i0\n", "now.csv", [], "column 'item_id' is missing"),
        (b"session_id,item_id\na,i0,7\n", "now.csv", [], "line 2: has 3 cells but the header has 2"),
        (b"session_id,item_id,x\na,i0,1\na", "now.csv", [], "ends inside a row"),
        (b"session_id,item_id\na,\xff\n", "now.csv", [], "is not UTF-8 text"),
        (b"session_id,item_id,item_id\na,i0,i1\n", "now.csv", [], "column 'item_id' appears twice"),
        (b"PAR1 no", "now.parquet", [], "now.parquet is damaged"),
        (b"\n\n", "now.jsonl", [], "now.jsonl: has no session"),
        (b"x", "now.txt", [], "its suffix is '.txt'; expected .csv, .parquet, .jsonl or .ndjson"),
        (b"session_id,item_id\na,i0\n", "now.csv", ["--column", "item_id=sku"], "no column 'sku'"),
        (b"session_id,item_id\na,i0\n", "now.csv", ["--json", "--out", "o.jsonl"], "--json is for standard"),
        (b"session_id,item_id\na,i0\n", "now.csv", ["--out", "o.txt"], ".csv, .parquet or .jsonl"),
        (b"session_id,item_id\na,i0\n", "now.csv", ["--out", "."], "use a name that ends in"),
        (b"session_id,item_id\na,i0\n", "now.csv", ["-k", "31"], "k is 31; expected 1 to 30"),
    ],
)
def test_wrong_files_exit_with_2_and_leave_nothing(
    run: Path, tmp_path: Path, alterrec: Command, content: bytes, name: str, options: list[str], found: str
) -> None:
    (tmp_path / name).write_bytes(content)
    for more in ([], ["--out", "best.parquet"]):
        given = options if "--out" in options else [*options, *more]
        code, out, err = alterrec("recommend", run, "--sessions", name, *given)
        assert (code, out) == (2, ""), err
        assert found in err, err
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("content", "found"), [(b"", "standard input is empty"), (b"a,b\n1,2\n", "'session_id'")]
)
def test_wrong_standard_input(
    run: Path, alterrec: Command, typed: Callable[[bytes], None], content: bytes, found: str
) -> None:
    typed(content)
    code, _, err = alterrec("recommend", run, "--sessions", "-")
    assert code == 2
    assert found in err
    assert "/" not in err


def test_times_of_two_kinds_are_refused(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where each piece has times of one kind, which would be compared with those of the others."""
    monkeypatch.setattr(rows, "PIECE", 2)
    names = [f"s{n}" for n in range(8)]
    frame = pl.DataFrame(
        {"session_id": names, "item_id": ["i0"] * 8, "timestamp": ["7"] * 4 + ["2024-05-01"] * 4}
    )
    frame.write_parquet(tmp_path / "now.parquet")
    with pytest.raises(InputError, match="timestamps are a date without an offset in some rows and a number"):
        open_sessions(tmp_path / "now.parquet", read_catalogue(run), tmp_path)


@pytest.fixture
def known(run: Path) -> RunCatalogue:
    return read_catalogue(run)


def test_lists_may_be_empty_null_or_of_numbers(tmp_path: Path, known: RunCatalogue) -> None:
    path = tmp_path / "now.parquet"
    pl.DataFrame({"visit": [1, 2, 3], "basket": [["i3", None, "i5"], [], None]}).write_parquet(path)
    source = open_sessions(path, known, tmp_path, {"session_id": "visit", "item_id": "basket"})
    assert read_all(source) == [("1", [3, 5]), ("2", []), ("3", [])]
    pl.DataFrame({"session_id": ["a"], "items": [[1, 2]]}).write_parquet(path)
    assert read_all(open_sessions(path, known, tmp_path)) == [("a", [])]
    pl.DataFrame({"session_id": ["a", None], "items": [["i1"], ["i2"]]}).write_parquet(path)
    with pytest.raises(InputError, match="row 2: session_id is ''; expected an id in every row"):
        read_all(open_sessions(path, known, tmp_path))


def test_a_reader_that_has_gone_ends_the_command(
    run: Path, tmp_path: Path, alterrec: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(text: str) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("alterrec.cli.recommending.print_text", gone)
    monkeypatch.setattr("alterrec.cli.application.discard_output", lambda: None)
    write_lines(tmp_path / "now.jsonl", {"now": ["i0"]})
    assert alterrec("recommend", run, "--sessions", "now.jsonl") == (0, "", "")
