"""The files of a log: one file, or a folder of parts as Spark writes them; and the items file beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from alterrec.data.compressed import COMPRESSED_SUFFIXES, readable
from alterrec.data.dataset import SPLITS
from alterrec.errors import InputError, nearest

TEXT_SUFFIXES = (".csv", ".tsv", ".tab", ".txt", ".dat", ".data", ".inter", ".log")
JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
PARQUET_SUFFIXES = (".parquet", ".pq")
SUFFIXES = (*TEXT_SUFFIXES, *JSON_SUFFIXES, *PARQUET_SUFFIXES)
ITEMS = ("items", "item", "products", "product", "articles", "article", "catalog", "catalogue")
# The folder of a partition whose value is null, in Hive and Spark.
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class LogFile:
    """One file of a log.

    Attributes:
        split: ``train``, ``valid`` or ``test`` if the log is given in such files, else empty.
        partition: columns that are in the names of its folders (``day=2024-05-01``), as Hive writes them.
    """

    path: Path
    split: str = ""
    partition: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True)
class LogFiles:
    """The files of a log and of its items, and those beside them that are not read."""

    log: tuple[LogFile, ...]
    items: tuple[LogFile, ...] = ()
    others: tuple[Path, ...] = field(default=())


def find_log_files(path: Path) -> LogFiles:
    """Find the files of a log: ``path`` itself, or all files with a known suffix in the folder ``path``.

    Hidden files, files whose names begin with ``_`` (``_SUCCESS``) and empty files are passed over. A file or
    folder called ``items`` (or products, articles, catalog) in the folder, or else beside ``path``, has the
    items.

    Raises:
        InputError: no such path, or a folder without a file of a log.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("_SUCCESS", "part-1.csv", "part-0.csv", "items.csv"):
        ...     _ = (folder / name).write_text("x")
        >>> found = find_log_files(folder)
        >>> [file.path.name for file in found.log], [file.path.name for file in found.items]
        (['part-0.csv', 'part-1.csv'], ['items.csv'])
    """
    with readable(path):
        if path.is_dir():
            return _in_folder(path)
        if not path.exists():
            near = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
            raise InputError(f"{path}: no such file or folder{nearest(path.name, near)}")
        if not path.is_file():
            raise InputError(f"{path}: is no regular file; copy its content to a file")
        if not path.stat().st_size:
            raise InputError(f"{path}: is empty; expected rows of events")
        return LogFiles((LogFile(path),), () if _is_items(path) else _items_beside(path))


def _in_folder(folder: Path) -> LogFiles:
    found = list(_files(folder))
    usable = [path for path in found if data_suffix(path) and path.stat().st_size]
    items = [path for path in usable if _is_items(folder / path.relative_to(folder).parts[0])]
    # A folder of items alone is a log that happens to have such a name.
    items = [] if len(items) == len(usable) else items
    log = [path for path in usable if path not in items]
    if not log:
        raise InputError(
            f"{folder}: has no file of a log; expected files that end in {', '.join(SUFFIXES)}, which may be "
            "compressed (.gz, .zst)"
        )
    splits = [stem(folder / path.relative_to(folder).parts[0]) for path in log]
    are_splits = set(splits) <= set(SPLITS) and "train" in splits
    if not are_splits and set(splits) & set(SPLITS) and len(set(splits)) > 1:
        names = sorted({path.relative_to(folder).parts[0] for path in log})
        raise InputError(
            f"{folder}: has files of splits ({', '.join(SPLITS)}) beside others: {', '.join(names)}; keep "
            "the splits in a folder of their own, or give the path of the log"
        )
    return LogFiles(
        tuple(
            LogFile(path, split if are_splits else "", _partition(path.relative_to(folder)))
            for path, split in zip(log, splits, strict=True)
        ),
        tuple(map(LogFile, items)) or _items_beside(folder),
        tuple(path for path in found if not data_suffix(path)),
    )


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "_")) and "=" not in path.name:
            continue
        if path.is_dir():
            yield from _files(path)
        elif path.is_file():
            yield path


def _items_beside(path: Path) -> tuple[LogFile, ...]:
    found = [other for other in sorted(path.parent.iterdir()) if _is_items(other) and other != path]
    if len(found) > 1:
        names = ", ".join(other.name for other in found)
        raise InputError(f"{path.parent}: has several files of items: {names}; keep one of them")
    return tuple(LogFile(part) for other in found for part in (_parts(other)))


def _parts(path: Path) -> Sequence[Path]:
    return [part for part in _files(path) if part.stat().st_size] if path.is_dir() else [path]


def _is_items(path: Path) -> bool:
    return stem(path) in ITEMS and (path.is_dir() or bool(data_suffix(path)))


def data_suffix(path: Path) -> str:
    """The suffix that tells what is in a file, without that of a compression; empty if it is unknown.

    Files that Spark calls ``part-00000-...`` are data with any suffix.

    Example:
        >>> data_suffix(Path("log.csv.gz")), data_suffix(Path("part-00000")), data_suffix(Path("a.md"))
        ('.csv', '.txt', '')
    """
    name = path.name.lower()
    for suffix in COMPRESSED_SUFFIXES:
        name = name.removesuffix(suffix)
    # Spark also writes part-00000-....snappy.parquet, where snappy is inside the file.
    known = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")
    return known or (".txt" if re.match(r"part-\d", name) else "")


def stem(path: Path) -> str:
    """The name of a file or folder without its suffixes."""
    return path.name.split(".")[0].lower()


def _partition(path: Path) -> tuple[tuple[str, str | None], ...]:
    pairs = [part.split("=", 1) for part in path.parts[:-1] if "=" in part]
    return tuple((name, None if value == NO_VALUE else unquote(value)) for name, value in pairs)
