"""Amazon-M2 as published for the KDD Cup 2023: sessions and products of six locales.

The list ``prev_items`` of a session is what numpy prints for an array of strings: quoted ids with spaces or
line breaks between them. Items of several locales share ids, so an item is a pair (id, locale).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import polars as pl

from alterrec.data.formats.published import USUAL, first_problem
from alterrec.data.formats.source import PROBLEM, Choices, PrepareOptions, Source
from alterrec.data.formats.text_tables import ADVICE, id_text, scan_text
from alterrec.errors import InputError
from alterrec.files import reading

FILES = "sessions_train.csv, products_train.csv, sessions_test_*.csv with gt_*.csv"
TRAIN, PRODUCTS, TEST, TRUTH = "sessions_train.csv", "products_train.csv", "sessions_test_", "gt_"
ALL_LOCALES = "all"
# All products of the locale are candidates, as in the competition: some test sessions ask for one that has no
# training session.
CHOICES = Choices(min_item_count=0, split="seed", valid=0.1, test=0.1).over(USUAL)
# Table 3 of the paper. It does not say which sessions and items of a locale it leaves out.
TABLE_3: Mapping[str, Mapping[str, int]] = {
    "ES": {"items": 38_888, "train": 75_098, "valid": 7_900, "test": 6_237},
    "FR": {"items": 40_258, "train": 96_245, "valid": 10_507, "test": 8_981},
    "IT": {"items": 45_559, "train": 102_923, "valid": 11_102, "test": 10_158},
}
_ROW, _LIST, _NEXT = "row", "prev_items", "next_item"
_QUOTED = r"""'[^']*'|"[^"]*\""""


class _TestFile(NamedTuple):
    """A test file whose next items are known."""

    path: Path
    truth: Path | None
    sessions: pl.LazyFrame


def recognises_amazon_m2(path: Path) -> bool:
    """Whether a folder has the training sessions and the products."""
    return all((path / name).is_file() for name in (TRAIN, PRODUCTS))


def read_amazon_m2(path: Path, options: PrepareOptions) -> Source:
    """Read the sessions and products of one locale, or of all of them.

    Test sessions are those of every test file whose next items are known: ``sessions_test_NAME.csv`` with
    ``gt_NAME.csv`` beside it, in the folder or one folder below. Where the locale has none, the last part of
    the training sessions, by their order in the file, is the test split.

    Args:
        path: the folder.
        options: ``locale`` is required: a name such as ``"FR"``, or ``"all"``; items of all locales have the
            locale before their id (``FR:B0...``).

    Raises:
        InputError: a file or column is missing, no locale is given or it is not in the data, or a file of
            next items has another number of rows than its sessions.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> rows = "B1,FR,Tente,\\nB2,FR,Lampe,\\n"
        >>> _ = (folder / "products_train.csv").write_text("id,locale,title,desc\\n" + rows)
        >>> rows = "['B1' 'B2'],B1,FR\\n" * 10
        >>> _ = (folder / "sessions_train.csv").write_text("prev_items,next_item,locale\\n" + rows)
        >>> source = read_amazon_m2(folder, PrepareOptions(locale="FR"))
        >>> source.events["test"].select("session_id", "item_id").collect().rows()
        [('train-9', 'B1'), ('train-9', 'B2'), ('train-9', 'B1')]
        >>> source.text, len(source.notes)
        (('title', 'description'), 1)
    """
    train = scan_text(path / TRAIN, [_LIST, _NEXT, "locale"], row_index=_ROW)
    products = scan_text(path / PRODUCTS, ["id", "locale"])
    locale = _locale(path, train, options.locale)
    train = _of_locale(train, locale)
    tests, notes = _test_files(path, locale)
    events = {"train": _events(train, "train", locale)}
    if tests:
        labels = [_label(path, test.path) for test in tests]
        parts = [_events(test.sessions, label, locale) for test, label in zip(tests, labels, strict=True)]
        events["test"] = pl.concat(parts)
    else:
        share = CHOICES.test if options.choices.test is None else options.choices.test
        first, count = _last_part(path, train, share or 0.0)
        last = train.filter(pl.col(_ROW) >= first)
        events = {
            "train": _events(train.filter(pl.col(_ROW) < first), "train", locale),
            "test": _events(last, "train", locale),
        }
        notes.append(
            f"no test file with next items has sessions of locale {locale}: the last {count} training "
            "sessions, by their order in the file, are the test split"
        )
    items, repeated = _items(path, products, locale)
    if repeated:
        notes.append(
            f"{PRODUCTS}: rows that repeat the id and locale of an earlier one, left out: {repeated}"
        )
    names = items.collect_schema().names()
    return Source(
        events=events,
        items=items,
        files=(
            path / TRAIN,
            path / PRODUCTS,
            *(file for test in tests for file in (test.path, test.truth) if file is not None),
        ),
        choices=CHOICES,
        text=tuple(name for name in ("title", "description") if name in names),
        notes=tuple(notes),
        expected=TABLE_3.get(locale, {}),
    )


def _locale(path: Path, train: pl.LazyFrame, wanted: str | None) -> str:
    """The locale to read, in the spelling of the data."""
    if wanted is not None and wanted.lower() == ALL_LOCALES:
        return ALL_LOCALES
    with reading(path / TRAIN, ADVICE):
        counts = (
            train.select(id_text("locale").drop_nulls().value_counts(sort=True)).unnest("locale").collect()
        )
    known = ", ".join(f"{name} ({count} training sessions)" for name, count in counts.iter_rows())
    names = counts["locale"].to_list()
    if not names:
        raise InputError(f"{path / TRAIN}: no session has a locale; expected names such as FR")
    if wanted is None:
        raise InputError(
            f"{path}: has sessions of several locales; choose one of {known} with --locale {names[0]}, or "
            "--all-locales"
        )
    if wanted.upper() not in names:
        raise InputError(
            f"{path}: has no sessions of locale {wanted!r}; choose one of {known}, or --all-locales"
        )
    return wanted.upper()


def _of_locale(frame: pl.LazyFrame, locale: str) -> pl.LazyFrame:
    return frame if locale == ALL_LOCALES else frame.filter(id_text("locale") == locale)


def _test_files(path: Path, locale: str) -> tuple[list[_TestFile], list[str]]:
    """The test files of a locale whose next items are known, and notes about the others."""
    found, notes = [], []
    for file in sorted([*path.glob(f"{TEST}*.csv"), *path.glob(f"*/{TEST}*.csv")]):
        sessions = scan_text(file, [_LIST, "locale"], row_index=_ROW)
        truth: Path | None = file.with_name(TRUTH + file.name.removeprefix(TEST))
        if _NEXT in sessions.collect_schema().names():
            truth = None
        elif truth is not None and truth.is_file():
            answers = scan_text(truth, [])
            if _NEXT not in answers.collect_schema().names():
                notes.append(f"{file.name} is not used: {truth.name} has no column {_NEXT!r}")
                continue
            _check_rows(file, sessions, truth, answers)
            sessions = pl.concat([sessions, answers.select(_NEXT)], how="horizontal")
        else:
            notes.append(f"{file.name} is not used: its next items ({TRUTH}...csv) are not there")
            continue
        sessions = _of_locale(sessions, locale)
        with reading(file, ADVICE):
            if sessions.select(pl.len()).collect().item():
                found.append(_TestFile(file, truth, sessions))
    return found, notes


def _check_rows(file: Path, sessions: pl.LazyFrame, truth: Path, answers: pl.LazyFrame) -> None:
    counts = []
    for path, frame in ((file, sessions), (truth, answers)):
        with reading(path, ADVICE):
            counts.append(frame.select(pl.len()).collect().item())
    if counts[0] != counts[1]:
        raise InputError(
            f"{truth}: has {counts[1]} rows but {file.name} has {counts[0]}; expected one next item for each "
            "session, in the same order. Use the two files of the same phase"
        )


def _label(path: Path, file: Path) -> str:
    """What the session ids of a test file begin with: ``task2_phase1``, or ``phase1/task2``."""
    name = file.stem.removeprefix(TEST)
    return name if file.parent == path else f"{file.parent.name}/{name}"


def _last_part(path: Path, train: pl.LazyFrame, share: float) -> tuple[int, int]:
    """The row at which the last part of the training sessions begins, and how many they are."""
    with reading(path / TRAIN, ADVICE):
        rows = train.select(_ROW).collect()[_ROW]
    count = min(max(1, round(share * len(rows))), len(rows))
    return int(rows[len(rows) - count]), count


def _events(sessions: pl.LazyFrame, label: str, locale: str) -> pl.LazyFrame:
    """One row per item of a session, in order; one row with a problem for a session that cannot be used."""
    quoted = pl.col(_LIST).str.extract_all(_QUOTED)
    outside = pl.col(_LIST).str.replace_all(_QUOTED, "").str.strip_chars()
    target = id_text(_NEXT)
    problem = first_problem(
        (target.is_null(), "next_item is empty"),
        (outside.str.contains("...", literal=True), "prev_items was shortened by numpy to '...'"),
        (
            ~outside.fill_null("").str.contains(r"^\[[\s,]*\]$"),
            "prev_items is not a list of quoted ids in brackets",
        ),
    )
    rows = (
        sessions.with_columns(problem)
        .select(
            pl.format("{}-{}", pl.lit(label), _ROW).alias("session_id"),
            pl.when(pl.col(PROBLEM).is_null())
            .then(pl.concat_list(quoted, target))
            .otherwise(pl.concat_list(pl.lit(None, pl.String)))
            .alias("item_id"),
            id_text("locale"),
            PROBLEM,
        )
        .explode("item_id")
    )
    item = pl.col("item_id").str.strip_chars("'\" ")
    return rows.select("session_id", _item_id(item, locale), PROBLEM)


def _item_id(id: pl.Expr, locale: str) -> pl.Expr:
    """The id of an item, with its locale before it if all locales are read."""
    named = pl.concat_str(pl.col("locale"), pl.lit(":"), id) if locale == ALL_LOCALES else id
    return named.alias("item_id")


def _items(path: Path, products: pl.LazyFrame, locale: str) -> tuple[pl.LazyFrame, int]:
    """The items of a locale, one row each, and how many rows repeat an earlier one."""
    own = _of_locale(products, locale).with_columns(id_text("id"), id_text("locale"))
    own = own.with_columns(_item_id(pl.col("id"), locale)).drop("id")
    with reading(path / PRODUCTS, ADVICE):
        rows, distinct = own.select(pl.len(), pl.col("item_id").n_unique().alias("ids")).collect().row(0)
    if rows == 0:
        raise InputError(
            f"{path / PRODUCTS}: has no products of locale {locale}, whose sessions are to be read"
        )
    items = own.rename({"desc": "description"}, strict=False)
    if rows > distinct:
        items = items.unique("item_id", keep="first", maintain_order=True)
    return items, rows - distinct
