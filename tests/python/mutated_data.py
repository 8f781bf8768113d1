"""Data folders that are wrong, odd or damaged in up to three places."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from alterrec.data.dataset import Dataset
from alterrec.data.readers import load_dataset
from alterrec.files import reading

Rng = np.random.Generator
CELLS = (
    *(
        "",
        " ",
        "tent",
        "Tent",
        "tent ",
        "0123",
        "123.0",
        "-1",
        "1e9",
        "1e400",
        "nan",
        "inf",
        "-0",
        "0.1234567890123",
    ),
    *("9223372036854775807", "9223372036854775808", "18446744073709551615", "1.5", "true", "None", "null"),
    *("2024-05-01", "2024-05-01T12:00:00Z", "2024-05-01 12:00:00+05:30", "1500-01-01", "2024-02-30", "12:30"),
    *(
        'say "hi"',
        "a,b",
        "a\nb",
        "\ufeff",
        "\u0000",
        "\u202e",
        "マグカップ",
        "é",
        "\\",
        '\\"',
        "=1+1",
        "x" * 5000,
    ),
)
KINDS: tuple[pl.DataType | type[pl.DataType], ...] = (
    *(pl.String, pl.Categorical, pl.Int8, pl.Int64, pl.UInt64, pl.Float32, pl.Float64, pl.Boolean, pl.Null),
    *(
        pl.Date,
        pl.Time,
        pl.Duration("us"),
        pl.Datetime("ms"),
        pl.Datetime("us", "Asia/Tokyo"),
        pl.Datetime("ns"),
    ),
    *(pl.Decimal(30, 3), pl.Binary, pl.List(pl.String), pl.List(pl.Float64), pl.Struct({"a": pl.Int64})),
)
BYTES = (
    b"\x00",
    b"\xff",
    b'"',
    b",",
    b"\n",
    b"\r",
    b"\\",
    b"\x1f\x8b",
    b"\xff\xfe",
    b"PAR1",
    b";",
    b"\t",
    b"'",
)


def base_folder(rng: Rng, folder: Path) -> None:
    """A valid folder of one of the formats, in CSV or Parquet."""
    for name in ("items", *(("interactions",) if rng.random() < 0.5 else ("train", "valid", "test"))):
        suffix = "csv" if rng.random() < 0.5 else "parquet"
        (folder / f"{name}.{suffix}").write_bytes(base_file(name, suffix))


@functools.cache
def base_file(name: str, suffix: str) -> bytes:
    rows = [
        (
            f"s{session}",
            f"{100 + (session + step) % 4}",
            str(10 * session + step),
            ("", "u1", "u2")[session % 3],
        )
        for session in range(8)
        for step in range(2)
    ]
    events = pl.DataFrame(rows, ["session_id", "item_id", "timestamp", "user_id"], orient="row")
    titles = {"item_id": [f"{100 + n}" for n in range(4)], "title": ["Red tent", "Lamp", "", "Mug"]}
    tables = {"items": pl.DataFrame(titles), "interactions": events}
    tables |= {"train": events[:10], "valid": events[10:12], "test": events[12:]}
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.{suffix}"
        write(tables[name], path)
        return path.read_bytes()


def write(frame: pl.DataFrame, path: Path) -> None:
    if path.suffix == ".csv":
        names = [name for name in frame.columns if not frame[name].dtype.is_nested()]
        frame.select(as_text(frame[name]) for name in names).write_csv(path)
    else:
        frame.write_parquet(path)


def as_text(series: pl.Series) -> pl.Series:
    """A column as text; dates as numbers, because polars panics at those that have no text."""
    return (series.to_physical() if series.dtype.is_temporal() else series).cast(pl.String, strict=False)


def mutate(rng: Rng, folder: Path) -> None:
    """Apply up to three random changes."""
    for _ in range(rng.choice([1, 2, 3], p=(0.7, 0.2, 0.1))):
        files = sorted(path for path in folder.iterdir() if path.is_file())
        if not files:
            return
        path = files[rng.integers(len(files))]
        choices = (change_bytes, change_table, change_files)
        choices[rng.choice(3, p=(0.35, 0.5, 0.15))](rng, path)


def change_bytes(rng: Rng, path: Path) -> None:
    """Flip, insert, cut or repeat bytes, or encode the text in another way."""
    content = bytearray(path.read_bytes())
    place = int(rng.integers(len(content) + 1))
    kind = rng.integers(7)
    if kind == 0 and place < len(content):
        content[place] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        content[place:place] = BYTES[rng.integers(len(BYTES))]
    elif kind == 2:
        del content[place:]
    elif kind == 3:
        del content[place : place + int(rng.integers(1, 20))]
    elif kind == 4:
        content[place:place] = content[place : place + 30]
    elif kind == 5:
        content[:2] = BYTES[rng.integers(len(BYTES))]
    else:
        text = bytes(content).decode("utf-8", "replace")
        content = bytearray(
            text.encode(("utf-16", "utf-16-le", "latin-1", "utf-8-sig")[rng.integers(4)], "replace")
        )
    path.write_bytes(content)


def change_table(rng: Rng, path: Path) -> None:
    """Change cells, rows, columns or their types, if the file can still be read."""
    content = io.BytesIO(path.read_bytes())
    try:
        # polars panics at some damaged files, and at dates that have no text.
        with reading(path, ""):
            csv = path.suffix == ".csv"
            frame = pl.read_csv(content, infer_schema=False) if csv else pl.read_parquet(content)
            changed = CHANGES[rng.integers(len(CHANGES))](rng, frame)
            write(changed, path)
    except (ValueError, TypeError, OverflowError):
        return


def _cell(rng: Rng, frame: pl.DataFrame) -> pl.DataFrame:
    name, row = _column(rng, frame), int(rng.integers(len(frame)))
    values = as_text(frame[name]).to_list()
    values[row] = CELLS[rng.integers(len(CELLS))]
    return frame.with_columns(pl.Series(name, values))


def _whole_column(rng: Rng, frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.lit(CELLS[rng.integers(len(CELLS))]).alias(_column(rng, frame)))


def _kind(rng: Rng, frame: pl.DataFrame) -> pl.DataFrame:
    name, kind = _column(rng, frame), KINDS[rng.integers(len(KINDS))]
    through = frame[name].cast(pl.Int64, strict=False) if frame[name].dtype == pl.String else frame[name]
    if kind == pl.List(pl.String):
        return frame.with_columns(as_text(frame[name]).str.split(""))
    return frame.with_columns(through.cast(kind, strict=False))


def _large(rng: Rng, frame: pl.DataFrame) -> pl.DataFrame:
    limits = [-(2**63), 2**63 - 1, 2**53 + 1, -1]
    values = pl.Series([limits[rng.integers(4)] for _ in range(len(frame))])
    kinds = (pl.Int64, pl.Datetime("ms"), pl.Datetime("ns"), pl.Float64)
    return frame.with_columns(values.cast(kinds[rng.integers(4)]).alias(_column(rng, frame)))


def _drop(rng: Rng, frame: pl.DataFrame) -> pl.DataFrame:
    return frame.drop(_column(rng, frame))


def _rename(rng: Rng, frame: pl.DataFrame) -> pl.DataFrame:
    names = (
        "",
        "Item_ID",
        "item_id ",
        "__index_level_0__",
        "timestamp",
        "alterrec row",
        "session",
        "whole",
        "item",
    )
    return frame.rename({_column(rng, frame): names[rng.integers(len(names))]})


def _extra(rng: Rng, frame: pl.DataFrame) -> pl.DataFrame:
    names = ("index", "item", "whole", "billionths", "first", "session", "user", "__index_level_0__")
    return frame.with_columns(pl.Series(names[rng.integers(len(names))], range(len(frame))))


def _rows(rng: Rng, frame: pl.DataFrame) -> pl.DataFrame:
    return (frame[:0], frame[:1], pl.concat([frame, frame]), frame[::-1], frame.sample(fraction=1.0, seed=1))[
        rng.integers(5)
    ]


def _column(rng: Rng, frame: pl.DataFrame) -> str:
    return frame.columns[rng.integers(len(frame.columns))]


CHANGES: tuple[Callable[[Rng, pl.DataFrame], pl.DataFrame], ...] = (
    *(_cell, _cell, _whole_column, _kind, _kind, _large, _drop, _rename, _extra, _rows),
)


def change_files(rng: Rng, path: Path) -> None:
    """Remove, rename, copy or empty a file, or put a folder in its place."""
    kind = rng.integers(5)
    names = (
        "train.csv",
        "val.csv",
        "test.tsv",
        "interactions.csv",
        "items.parquet",
        "notes.txt",
        "items.csv.gz",
    )
    other = path.with_name(names[rng.integers(len(names))])
    if kind == 0:
        path.unlink()
    elif kind == 1:
        path.rename(other) if not other.is_dir() else None
    elif kind == 2 and not other.is_dir():
        other.write_bytes(path.read_bytes())
    elif kind == 3:
        path.write_bytes(b"")
    else:
        path.unlink()
        path.mkdir()


def load(rng: Rng, folder: Path) -> Dataset:
    """Read the folder with random options."""
    options = {
        "drop_unknown": bool(rng.integers(2)),
        "text_fields": (None, None, ["title"])[rng.integers(3)],
        "format": (None, None, None, "splits", "interactions")[rng.integers(5)],
    }
    return load_dataset(folder, **options)
