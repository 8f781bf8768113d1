"""Data formats, and how a data set is found and read.

A format is one function that returns the tables of a data set, and one row of :data:`READERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from alterrec.data.assemble import INTERACTIONS, RawData, ReadOptions, assemble
from alterrec.data.dataset import SPLITS, Dataset
from alterrec.data.formats import FORMATS, GENERAL
from alterrec.data.formats.source import Choices, PrepareOptions
from alterrec.data.frames import Frames
from alterrec.data.prepare import prepare_folder, recognised
from alterrec.data.prepared import is_prepared, load_prepared
from alterrec.data.synthetic import synthetic_dataset
from alterrec.data.tables import find_file, read_data_file
from alterrec.data.text_names import find_text_column
from alterrec.errors import InputError, naming, nearest
from alterrec.recipe import Recipe


class Reader(NamedTuple):
    """One data format.

    Attributes:
        summary: one line for ``alterrec list formats``.
        read: returns the tables of the data at a path. Everything after that (column names, checks, item
            numbers, splits) is done by :func:`~alterrec.data.assemble.assemble`.
        recognises: whether a path has this format, by a look at file names or a first line.
    """

    summary: str
    read: Callable[[Path, ReadOptions], RawData]
    recognises: Callable[[Path], bool]


def read_splits(folder: Path, options: ReadOptions) -> RawData:
    """Read a folder with ``items`` and ``train``, and ``valid`` and ``test`` where they are there."""
    items = _required(folder, "items")
    train = _required(folder, "train", "" if find_file(folder, INTERACTIONS) else ", or interactions.csv")
    others = {split: file for split in SPLITS[1:] if (file := find_file(folder, split))}
    files = {"train": train} | others
    notes = _unread(folder, [items, *files.values()], options)
    return RawData(
        read_data_file(items), {split: read_data_file(file) for split, file in files.items()}, notes
    )


def read_interactions(folder: Path, options: ReadOptions) -> RawData:
    """Read a folder with ``items`` and one file ``interactions``, to be split by time."""
    items, interactions = _required(folder, "items"), _required(folder, INTERACTIONS)
    notes = _unread(folder, [items, interactions], options)
    return RawData(read_data_file(items), {INTERACTIONS: read_data_file(interactions)}, notes)


# Suffixes of files that may be meant as data, and other names for our files.
DATA_SUFFIXES = (
    ".csv",
    ".parquet",
    ".tsv",
    ".txt",
    ".json",
    ".jsonl",
    ".dat",
    ".xlsx",
    ".gz",
    ".zip",
    ".zst",
)
# Names of files that probably are our items or interactions.
LIKELY_NAMES = {
    "items": (
        "products",
        "product",
        "articles",
        "catalog",
        "catalogue",
        "movies",
        "books",
        "metadata",
        "meta",
    ),
    "train": ("training", "sessions", "interactions"),
    INTERACTIONS: ("events", "clicks", "sessions", "ratings", "reviews", "transactions", "orders", "views"),
}
OTHER_NAMES = {"val": "valid", "validation": "valid", "dev": "valid", "eval": "valid", "testing": "test"}


def _unread(folder: Path, read: Sequence[Path], options: ReadOptions) -> tuple[str, ...]:
    """A note that names the files of a folder that may be meant as data but are not read.

    Raises:
        InputError: one of them has the name of a split that would be cut off another file.
    """
    vectors = None if options.vectors is None else Path(options.vectors).resolve()
    unread = [
        path
        for path in sorted(folder.iterdir())
        if path not in read and path.suffix.lower() in DATA_SUFFIXES and path.resolve() != vectors
    ]
    stems = {path.stem for path in read}
    for path in unread:
        stem = path.name.split(".")[0].lower()
        split = OTHER_NAMES.get(stem, stem)
        if split in SPLITS and split not in stems and INTERACTIONS not in stems:
            raise InputError(
                f"{path}: is not read, and {split} would be split off train instead; call it {split}.csv or "
                f"{split}.parquet and write it in that format, or move it to another folder"
            )
    if not unread:
        return ()
    return (f"files in {folder.name} that are not read: {', '.join(path.name for path in unread)}",)


def _required(folder: Path, stem: str, alternative: str = "") -> Path:
    if not folder.is_dir():
        raise InputError(f"{folder}: is a file; expected a folder with items and train or interactions")
    file = find_file(folder, stem)
    if file is None:
        present = [other.name for other in sorted(folder.iterdir())]
        likely = next((name for name in present if name.lower().split(".")[0] in LIKELY_NAMES[stem]), "")
        hint = f"; rename {likely} if it has the {stem}" if likely else nearest(f"{stem}.csv", present)
        raise InputError(
            f"{folder}: {stem}.csv or {stem}.parquet{alternative} is missing; the folder has "
            f"{', '.join(present) or 'nothing'}{hint}"
        )
    return file


READERS: dict[str, Reader] = {
    "splits": Reader(
        "a folder with items and train, optionally valid and test, as .csv or .parquet",
        read_splits,
        lambda path: any(find_file(path, split) for split in SPLITS),
    ),
    "interactions": Reader(
        "a folder with items and one file interactions, split by time, as .csv or .parquet",
        read_interactions,
        lambda path: find_file(path, INTERACTIONS) is not None,
    ),
}


# A folder that `alterrec prepare` has made.
PREPARED = "prepared"


def load_dataset(
    path: str | Path | None = None,
    *,
    items: Any = None,
    interactions: Any = None,
    train: Any = None,
    valid: Any = None,
    test: Any = None,
    format: str | None = None,
    columns: Mapping[str, str] | None = None,
    drop_unknown: bool = False,
    text_fields: Sequence[str] | None = None,
    vectors: str | Path | None = None,
    valid_share: float | None = None,
    test_share: float | None = None,
    locale: str | None = None,
    listen: Callable[[str], None] = lambda line: None,
) -> Dataset:
    """Read a data set.

    Without ``format`` the path decides. The usual one is a folder with ``items`` (item_id and any text
    columns) and either ``train`` (and ``valid``, ``test``) or one file ``interactions``, each as ``.csv``
    (UTF-8, comma, header line) or ``.parquet``. Session files have session_id, item_id and optionally
    timestamp (integers, decimal numbers or ISO dates) and user_id; the rows of a session need not be
    adjacent. A session is ordered by timestamp; equal timestamps, and files without any, keep the order of
    their rows. ``interactions``, and ``train`` where ``valid`` or ``test`` is missing, are split by the time
    of each session's last interaction.

    A published format (``alterrec list formats``) is prepared by its usual choices into the cache, as
    :func:`alterrec.prepare` does it, and read from there. A folder that was prepared is read as it is.

    Tables that are in memory are given instead of a path: the arguments ``items`` to ``test`` take DataFrames
    and LazyFrames of polars, DataFrames of pandas and Arrow tables with the columns of these files.

    Args:
        path: the folder or file.
        items: a row per item; None takes the items of ``interactions``, or of ``train``.
        interactions: sessions that are split by time.
        train, valid, test: the sessions of the splits; what is missing is split off ``train``. They may also
            be lists of sessions, which are lists of item ids (text or integers).
        format: a name from ``alterrec list formats``; None recognises it.
        columns: our column name -> the file's, for any of session_id, item_id, timestamp, user_id.
        drop_unknown: drop rows whose item is not in ``items`` (the notes count them) instead of raising.
        text_fields: text columns to keep, in this order, by name or alias; None chooses them by their names
            and content (:func:`~alterrec.data.text_columns.choose_text_columns`).
        vectors: a file of vectors that replace the text (:func:`~alterrec.data.vectors.load_vectors`).
        valid_share, test_share: shares of the sessions that are split off where a split is missing; default
            0.1, or that of the published format.
        locale: the part of a multilingual published format to read, such as ``"FR"``, or ``"all"``.
        listen: called with a line before each long step.

    Raises:
        InputError: anything wrong with the files; the message names the file, the line or column, the
            value found and what is expected. For tables in memory it names the argument and the row.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "items.csv").write_text("item_id,title\\na,Tent\\nb,Lamp\\n")
        >>> rows = "".join(f"{s},{i},{s}\\n" for s in range(10) for i in "ab")
        >>> _ = (folder / "interactions.csv").write_text("session_id,item_id,timestamp\\n" + rows)
        >>> data = load_dataset(folder)
        >>> data.num_items, len(data.train), data.session_names["test"]
        (2, 8, ['9'])
        >>> sessions = [["tent", 7], [7, "tent"], ["tent", "tent", 7]]
        >>> load_dataset(train=sessions).vocabulary.item_ids
        ('tent', '7')
    """
    frames = Frames(items, interactions, train, valid, test)
    if path is not None and frames:
        raise InputError("a path and tables are given; give the path, or the tables alone")
    if path is not None and not isinstance(path, str | PathLike):
        raise InputError(
            f"the data is {type(path).__name__}; expected a path. Tables in memory are given as items=, and "
            "interactions= or train="
        )
    shares = Choices(valid=valid_share, test=test_share)
    path = None if path is None else Path(path)
    if path is not None and (format == PREPARED or (format is None and is_prepared(path))):
        with naming(path):
            _refuse("a prepared folder", columns, drop_unknown, locale, shares)
        return load_prepared(path, text_fields=text_fields, vectors=vectors)
    if path is not None and _is_published(path, format):
        with naming(path):
            _refuse("a published format", None, drop_unknown, None, Choices())
        wanted = PrepareOptions(dict(columns or {}), locale, choices=shares)
        return _load_published(path, format, wanted, text_fields, vectors, listen)
    _refuse("a folder with items and sessions", None, False, locale, Choices())
    default = ReadOptions({})
    options = ReadOptions(
        dict(columns or {}),
        drop_unknown,
        text_fields,
        vectors,
        default.valid_share if valid_share is None else valid_share,
        default.test_share if test_share is None else test_share,
    )
    options.check()
    if path is None:
        return assemble("frames", frames.read(options.columns), options)
    return assemble(path.resolve().name, find_reader(path, format).read(path, options), options)


def _refuse(
    what: str, columns: Mapping[str, str] | None, drop_unknown: bool, locale: str | None, shares: Choices
) -> None:
    """Refuse options that are not read."""
    unread = {
        "--column": columns,
        "--drop-unknown": drop_unknown,
        "--locale": locale,
        "valid_share": shares.valid,
        "test_share": shares.test,
    }
    for name, value in unread.items():
        if value:
            raise InputError(f"{name} is not read with {what}; leave it out")


def _is_published(path: Path, format: str | None) -> bool:
    """Whether a published format is named, or recognises a path that has not our own layout.

    Raises:
        InputError: the path has our own layout and that of a published format.
    """
    if format is not None:
        return format in FORMATS
    if not path.exists():
        return False
    ours = [name for name, reader in READERS.items() if reader.recognises(path)]
    published = recognised(path)
    if ours and published not in ([], [GENERAL]):
        raise InputError(
            f"{path}: several data formats fit: {', '.join([*ours, *published])}; choose one with --format "
            "NAME (in Python, format=NAME)"
        )
    # Where a folder has an items file, our own reader says what is missing.
    return bool(published) and not ours and find_file(path, "items") is None


def _load_published(
    path: Path,
    format: str | None,
    options: PrepareOptions,
    text_fields: Sequence[str] | None,
    vectors: str | Path | None,
    listen: Callable[[str], None],
) -> Dataset:
    """Prepare a published format into the cache, and read it from there."""
    made = prepare_folder(path, format=format, options=options, listen=listen)
    missing = [name for name in text_fields or () if find_text_column(name, made.record.text) is None]
    if missing and vectors is None:
        # The usual texts are kept in one place, whatever part of them a recipe asks for.
        options = replace(options, text=tuple(text_fields or ()))
        made = prepare_folder(path, format=made.record.format, options=options, listen=listen)
    return load_prepared(made.path, text_fields=text_fields, vectors=vectors, name=made.record.name)


def find_reader(path: Path, format: str | None = None) -> Reader:
    """The reader of the format that is named, or else of the one format that recognises the path.

    Raises:
        InputError: no such format or path, or several formats recognise the path.

    Example:
        >>> find_reader(Path("."), "split")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        alterrec.errors.InputError: unknown data format 'split'; choose one of splits, ...
    """
    if format is not None and format not in READERS:
        known = [*READERS, PREPARED, *FORMATS]
        raise InputError(
            f"unknown data format {format!r}; choose one of {', '.join(known)}{nearest(format, known)}"
        )
    if not path.exists():
        siblings = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InputError(
            f"{path}: no such folder; expected a folder with items and train or interactions"
            f"{nearest(path.name, siblings)}"
        )
    if format is not None:
        return READERS[format]
    found = [name for name, reader in READERS.items() if reader.recognises(path)]
    if len(found) > 1:
        fitting = "; ".join(f"{name} ({READERS[name].summary})" for name in found)
        raise InputError(
            f"{path}: several data formats fit: {fitting}. Keep the files of one of them, or choose with "
            "--format NAME (in Python, format=NAME)"
        )
    # Where none fits, the reader of the usual format says what is missing.
    return READERS[found[0] if found else "splits"]


@dataclass(frozen=True)
class DataSource:
    """Where the data of a run comes from: what ``--data`` and the options that belong to it say.

    Attributes:
        data: a path, a data set, tables in memory, or None for the built-in catalogue.
        columns, drop_unknown, format, locale: as for :func:`load_dataset`.

    Example:
        >>> DataSource("my_shop", {"item_id": "sku"}, drop_unknown=True).arguments()
        ['--data=my_shop', '--column=item_id=sku', '--drop-unknown']
    """

    data: str | Path | Dataset | Frames | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    drop_unknown: bool = False
    format: str | None = None
    locale: str | None = None

    def read(self, recipe: Recipe, listen: Callable[[str], None] = lambda line: None) -> Dataset:
        """Return the data with the text columns or vectors that a recipe asks for.

        Args:
            recipe: the recipe.
            listen: called with a line before each long step.
        """
        if isinstance(self.data, Dataset):
            return self.data
        if self.data is None:
            return synthetic_dataset()
        fields = recipe.data.text_fields
        tables = vars(self.data) if isinstance(self.data, Frames) else {}
        return load_dataset(
            None if isinstance(self.data, Frames) else self.data,
            **tables,
            format=self.format,
            columns=self.columns,
            drop_unknown=self.drop_unknown,
            text_fields=tuple(dict.fromkeys((*fields, *recipe.data.categories))) if fields else None,
            vectors=recipe.data.vectors or None,
            locale=self.locale,
            listen=listen,
        )

    def arguments(self) -> list[str]:
        """Command line arguments that name the same data; empty for a data set in memory."""
        return [
            *([f"--data={self.data}"] if isinstance(self.data, str | Path) else []),
            *([f"--format={self.format}"] if self.format else []),
            *([f"--locale={self.locale}"] if self.locale else []),
            *(f"--column={ours}={theirs}" for ours, theirs in self.columns.items()),
            *(["--drop-unknown"] if self.drop_unknown else []),
        ]
