"""Damage and forge the files of run folders, for the tests that only an InputError comes out.

Every function that damages takes a generator of random numbers, so that a failure is repeated by its seed.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

HUGE = [2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**30, -1, -(2**63)]
# Values in place of any value of a record.
VALUES: list[Any] = [*HUGE, 0, 1e308, -1e308, 1e-320, -0.5, None, True]
VALUES += ["", "x", "\u202e\u0000", [], {}, [[[]]], ["x"], {"x": 1}, {"score": {}}]
# The same as text, and what Python does not write.
TEXTS = [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e400",
    "9" * 5000,
    "[" * 3000 + "]" * 3000,
    '"\\ud800"',
    "",
    "{",
    "\x00",
]
TOML = [
    *map(str, HUGE),
    "nan",
    "inf",
    "-inf",
    "1e308",
    "1e-320",
    "true",
    '"x"',
    "[]",
    "{}",
    '""',
    "''",
    "9" * 5000,
    "[" * 3000,
]

Damage = Callable[[Path, random.Random], None]


def flip_bytes(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if not content:
        return
    # The structure of the formats is at their start or at their end.
    low, high = draw.choice(
        [(0, len(content)), (0, min(600, len(content))), (max(0, len(content) - 900), len(content))]
    )
    for _ in range(draw.choice([1, 1, 2, 8])):
        content[draw.randrange(low, high)] = draw.randrange(256)
    path.write_bytes(content)


def truncate(path: Path, draw: random.Random) -> None:
    content = path.read_bytes()
    cut = draw.randrange(len(content) + 1)
    path.write_bytes(draw.choice([content[:cut], content[cut:], content + bytes(cut), b""]))


def replace_by_other_kind(path: Path, draw: random.Random) -> None:
    path.unlink()
    kind = draw.choice(["missing", "folder", "nowhere", "loop", "pipe", "device", "null"])
    if kind == "folder":
        (path / "x").mkdir(parents=True)
    elif kind == "nowhere":
        path.symlink_to(path.parent / "nowhere")
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "null":
        path.symlink_to("/dev/null")


def swap_within(path: Path, draw: random.Random) -> None:
    others = sorted(other for other in path.parent.iterdir() if other.is_file() and other != path)
    path.write_bytes(draw.choice(others).read_bytes())


def swap_between(runs: list[Path]) -> Damage:
    def swap(path: Path, draw: random.Random) -> None:
        others = [run / path.name for run in runs if (run / path.name).is_file()]
        path.write_bytes(draw.choice(others).read_bytes())

    return swap


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, each in inner for place in _places(each, (*at, key)))]


def _changed(value: Any, draw: random.Random) -> Any:
    *way, last = draw.choice(_places(value)[1:] or [("x",)])
    holder = value
    for key in way:
        holder = holder[key]
    action = draw.randrange(4)
    if action == 0 and isinstance(holder, dict):
        del holder[last]
    elif action == 1 and isinstance(holder, list):
        holder[:] = draw.choice([[], holder * 2, holder[:1], holder[::-1]])
    elif isinstance(holder, dict | list) and last != "x":
        # A value of the same type passes the checks of types.
        old = holder[last]
        same = [each for each in VALUES if type(each) is type(old)]
        holder[last] = draw.choice(same if same and draw.random() < 0.5 else VALUES)
    return value


def forge_json(path: Path, draw: random.Random) -> None:
    text = path.read_text("utf-8")
    lines = text.splitlines() if path.suffix == ".jsonl" else [text]
    if not lines:
        return
    place = draw.randrange(len(lines))
    if draw.random() < 0.15:
        # A number or a whole value becomes text that is not JSON, or only just.
        found = draw.choice(list(re.finditer(r"-?\d[\d.e+-]*|\"[^\"]*\"", lines[place])))
        lines[place] = lines[place][: found.start()] + draw.choice(TEXTS) + lines[place][found.end() :]
    else:
        lines[place] = json.dumps(_changed(json.loads(lines[place]), draw))
    path.write_text("\n".join(lines), "utf-8", errors="replace")


def forge_toml(path: Path, draw: random.Random) -> None:
    lines = path.read_text("utf-8").splitlines()
    keys = [place for place, line in enumerate(lines) if "=" in line]
    place = draw.choice(keys)
    lines[place] = draw.choice(
        [f"{lines[place].partition('=')[0]} = {draw.choice(TOML)}", f"x{lines[place]}", "", lines[place] * 2]
    )
    path.write_text("\n".join(lines), "utf-8")


def forge_table(path: Path, draw: random.Random) -> None:
    frame = pl.read_parquet(path)
    name = draw.choice(frame.columns)
    change = draw.randrange(9)
    if change == 0:
        frame = frame.drop(name)
    elif change == 1:
        frame = frame.with_columns(pl.lit(None).alias(name))
    elif change == 2:
        frame = frame.with_columns(pl.when(pl.int_range(pl.len()) != 1).then(pl.col(name)).alias(name))
    elif change == 3:
        kinds = (pl.Float64, pl.Int8, pl.UInt64, pl.Binary, pl.Date, pl.Duration, pl.Categorical)
        frame = frame.with_columns(
            pl.lit(0).cast(pl.Int32).cast(draw.choice(kinds[:3]), strict=False).alias(name)
        )
    elif change == 4:
        frame = draw.choice([frame[::-1], frame[:0], frame[:3], pl.concat([frame, frame])])
    elif change == 5:
        frame = frame.with_columns(frame[name].gather([0] * len(frame)))
    elif change == 6 and frame[name].dtype.is_integer():
        value = draw.choice([-1, 2**31 - 1, 2**62, 2**63 - 1])
        frame = frame.with_columns(pl.lit(value).alias(name))
    elif change == 7:
        frame = frame.with_columns(pl.lit("x" * draw.randrange(3)).alias(name))
    else:
        frame = frame.select(pl.col(name).alias("other"), pl.all())
    frame.write_parquet(path)


def forge_tensors(path: Path, draw: random.Random) -> None:
    """Change the header of a safetensors file, or the values of a tensor; sizes still fit mostly."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, values = json.loads(content[8 : 8 + length]), bytearray(content[8 + length :])
    names = [name for name in header if name != "__metadata__"]
    name = draw.choice(names)
    start, end = header[name]["data_offsets"]
    change = draw.randrange(8)
    if change == 0:
        text = draw.choice(list(header.get("__metadata__", {"x": ""})))
        header["__metadata__"][text] = draw.choice(
            [
                "",
                "{",
                "[]",
                "{}",
                "null",
                '"x"',
                '{"id": 1e400}',
                '{"id": NaN}',
                '{"model": -1}',
                "1",
                '["x"]',
                "[" * 3000,
            ]
        )
    elif change == 1:
        header["__metadata__"] = dict(list(header.get("__metadata__", {}).items())[1:])
    elif change == 2:
        shape = header[name]["shape"]
        header[name]["shape"] = draw.choice(
            [shape[::-1], [end - start], [1, *shape], [2**62, 2**62], [0], [-1]]
        )
    elif change == 3:
        header[name]["dtype"] = draw.choice(["F16", "F32", "F64", "I64", "I32", "BOOL", "U8", "BF16", "X"])
    elif change == 4:
        other = draw.choice(names)
        header[name], header[other] = header[other], header[name]
    elif change == 5:
        header[draw.choice(["x", "model/x", f"{name}x", "gate/x", "repeats/x", "trend/trend"])] = header.pop(
            name
        )
    elif change == 6:
        # NaN, infinity, the largest and a negative integer, in whatever type the tensor has.
        pattern = draw.choice([b"\xff", b"\x00", b"\x00\x00\x80\x7f", b"\x7f", b"\x00\x00\xc0\x7f"])
        count = max(1, (end - start) // draw.choice([1, len(pattern)]))
        values[start:end] = (pattern * count)[: end - start].ljust(end - start, b"\x00")
    else:
        place = draw.randrange(start, max(end, start + 1))
        values[place : place + 1] = bytes([draw.randrange(256)])
    packed = json.dumps(header).encode()
    packed += b" " * (-len(packed) % 8)
    path.write_bytes(struct.pack("<Q", len(packed)) + packed + values)


def damages(path: Path, runs: list[Path]) -> list[Damage]:
    """Return the ways to damage a file of a run folder; forging is the most frequent."""
    forge: dict[str, Damage] = {
        ".json": forge_json,
        ".jsonl": forge_json,
        ".toml": forge_toml,
        ".parquet": forge_table,
        ".safetensors": forge_tensors,
    }
    own = [forge[path.suffix]] * 5 if path.suffix in forge else []
    return [flip_bytes, flip_bytes, truncate, replace_by_other_kind, swap_within, swap_between(runs), *own]


def forget_manifest(run: Path) -> None:
    """Make a run one that an earlier version has written, without a manifest."""
    (run / "manifest.json").unlink(missing_ok=True)
    result = run / "result.json"
    if result.exists():
        result.write_text(result.read_text("utf-8").replace('"manifest": true', '"manifest": false'), "utf-8")


def damaged_copy(run: Path, runs: list[Path], target: Path, seed: int) -> tuple[Path, str]:
    """Copy a run folder and damage one or two of its files; return the copy and what was done to it."""
    draw = random.Random(seed)
    copy = Path(shutil.copytree(run, target))
    # A manifest would tell most of the damage before any reader sees it; earlier versions wrote none.
    if draw.random() < 0.7:
        forget_manifest(copy)
    done = []
    for _ in range(draw.choice([1, 1, 1, 2])):
        files = sorted(
            path
            for path in copy.rglob("*")
            if path.is_file() and path.suffix not in (".html", ".png", ".svg", ".lock")
        )
        if not files:
            continue
        path = draw.choice(files)
        damage = draw.choice(damages(path, runs))
        try:
            damage(path, draw)
        # A file that was damaged before cannot always be forged.
        except (
            OSError,
            ValueError,
            LookupError,
            TypeError,
            RecursionError,
            struct.error,
            pl.exceptions.PolarsError,
        ):
            path.unlink(missing_ok=True)
        done.append(f"{damage.__name__} {path.relative_to(copy)}")
    return copy, f"seed {seed}, {run.name}: {', '.join(done)}"
