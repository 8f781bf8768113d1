"""Which columns of an items table are text: chosen by name and content, and said."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from alterrec.data.tables import ROW, is_text
from alterrec.data.text_names import find_text_column, is_usual
from alterrec.errors import InputError, nearest

# What pandas calls an index that it writes as a column.
_INDEX = re.compile(r"|__index_level_\d+__|Unnamed: \d+")
# Rows by whose content a column is judged, and the share of its values that must look alike.
_SAMPLE, _MOST = 20_000, 0.9
# Cells that say that there is no value.
_NOTHING = ("", "-", "--", "none", "nan", "null", "n/a", "na", "[]", "{}", "<na>")

_NUMBER = r"[-+]?(\d[\d.,'\u2019_\u00a0\u202f]*|[.,]\d+)(e[-+]?\d+)?\s?%?"
_MONTH = r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_CLOCK = r"\d{1,2}:\d\d(:\d\d([.,]\d+)?)?\s?([ap]m)?(\s?(z|utc|[-+]\d\d:?\d\d))?"
_CURRENCY = r"(\p{Sc}|us\$|a\$|c\$|r\$|kr|zł|usd|eur|gbp|jpy|chf|cny|rmb|inr|cad|aud|brl|pln|sek|nok|dkk)"
_DAY = (
    r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}"
    rf"|{_MONTH}\s\d{{1,2}},?\s\d{{4}}|\d{{1,2}}[\s-]{_MONTH}[\s-]\d{{2,4}})"
)
_PRICE = rf"({_CURRENCY}\s?{_NUMBER}|{_NUMBER}\s?({_CURRENCY}|円|元|원))"
_URL = r"((https?|ftp|s3|gs)://|www\.)[^\s,;|'\"]+"
_IMAGE = r"[^\n]*\.(jpe?g|png|gif|webp|svg|bmp|tiff?|avif|heic)(\?\S*)?"
# What the cells of a column that is no text look like. Years are the exception among numbers: items of one
# year share a word.
_KINDS: tuple[tuple[str, str], ...] = (
    ("true or false", "true|false|yes|no|t|f|y|n"),
    ("URLs", rf"[\['\"\s]*{_URL}(['\"]?[\s,;|]+['\"]?{_URL})*['\"\]\s]*"),
    ("image paths", _IMAGE),
    ("dates", rf"({_DAY}([t\s,]\s?{_CLOCK})?|{_CLOCK})"),
    ("prices", rf"({_PRICE}|{_NUMBER})(\s?([-\u2013]|to)\s?({_PRICE}|{_NUMBER}))?"),
    ("numbers", rf"[\[(]?\s*{_NUMBER}([\s,;|]+{_NUMBER})*\s*[\])]?"),
)
_YEAR = r"(1[89]|20)\d\d"
_CODE = r"[a-z0-9_./:#+-]*\d[a-z0-9_./:#+-]*"
_ID_NAME = re.compile(
    r"(.*[a-z](Id|ID|Ids)|(?i:(.*[\s_.-])?(id|ids|asin|sku|ean|gtin|upc|isbn|uuid|guid|mpn)))"
)


def choose_text_columns(
    items: pl.DataFrame,
    wanted: Sequence[str] | None,
    *,
    name: str | Path = "items",
    skip: Sequence[str] = ("item_id",),
    may_be_missing: bool = False,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the columns to read as text, in order, and notes about what is left out and why.

    Columns with a usual name (title, description, brand, category, ... and their aliases) are text whatever
    they contain. Of the others, those are left out whose cells are numbers (except years), prices, dates,
    URLs, image paths, ids or codes, or true or false, that are empty, nested or binary, or an index of
    pandas.

    Args:
        items: a row per item.
        wanted: names or aliases (:func:`~alterrec.data.text_names.find_text_column`) of the columns to read,
            in this order; None chooses them. A column that is wanted is text whatever it contains.
        name: the file, or what else the table is called in notes and messages.
        skip: columns with another purpose.
        may_be_missing: whether wanted columns that are not there are noted instead of refused, as where
            vectors replace the text.

    Raises:
        InputError: a wanted column is missing.

    Example:
        >>> items = pl.DataFrame({"item_id": ["a", "b"], "name": ["Tent", "Lamp"], "price": ["$9.99", "$5"]})
        >>> choose_text_columns(items, None)
        (('name',), ("items: columns read as text: 'name'; not read: 'price' (prices)",))
        >>> choose_text_columns(items, ["title"])
        (('name',), ("items: 'title' is read from the column 'name'",))
    """
    known = [column for column in items.columns if column not in (*skip, ROW)]
    if wanted is None:
        reasons = {column: _why_no_text(column, items[column]) for column in known}
        chosen = [column for column, reason in reasons.items() if not reason]
        left_out = [f"{column!r} ({reason})" for column, reason in reasons.items() if reason]
        return tuple(chosen), _left_out(name, chosen, left_out)
    found = {each: find_text_column(each, known) for each in wanted}
    missing = [each for each, column in found.items() if column is None]
    if missing and not may_be_missing:
        raise InputError(
            f"{name}: text field {missing[0]!r} is missing; its text columns are "
            f"{', '.join(map(repr, known)) or 'none'}{nearest(missing[0], known)}"
        )
    # Two names may mean the same column.
    chosen = list(dict.fromkeys(column for column in found.values() if column is not None))
    renamed = tuple(
        f"{Path(name).name}: {each!r} is read from the column {column!r}"
        for each, column in found.items()
        if column not in (None, each)
    )
    return tuple(chosen), renamed + _left_out(name, chosen, [f"{each!r} (missing)" for each in missing])


def _left_out(name: str | Path, chosen: Sequence[str], left_out: Sequence[str]) -> tuple[str, ...]:
    if not left_out:
        return ()
    read = ", ".join(map(repr, chosen)) or "none"
    return (f"{Path(name).name}: columns read as text: {read}; not read: {', '.join(left_out)}",)


def _why_no_text(name: str, values: pl.Series) -> str:
    """Why a column is not read as text; empty if it is."""
    kind = values.dtype
    if _INDEX.fullmatch(name):
        return "an index"
    if not is_text(kind):
        # The type without its fields, which may be many.
        return str(kind).split("(")[0].lower()
    if is_usual(name):
        return ""
    if kind.is_temporal():
        return "dates"
    if kind == pl.Boolean:
        return "true or false"
    if kind == pl.List(pl.String):
        values = values.list.join(" ", ignore_nulls=True)
    texts = values.cast(pl.String).drop_nulls().str.strip_chars()
    filled = texts.filter(~texts.str.to_lowercase().is_in(_NOTHING))
    if filled.is_empty():
        return "empty"
    sample = filled.gather_every(max(1, len(filled) // _SAMPLE))
    if not kind.is_float() and _share(sample, _YEAR) == 1:
        return ""
    for reason, pattern in _KINDS:
        if _share(sample, pattern) >= _MOST:
            # Prices without a currency are numbers.
            priced = (
                reason != "prices" or "price" in name.lower() or sample.str.contains(rf"(?i){_PRICE}").any()
            )
            if priced:
                return reason
    if _ID_NAME.fullmatch(name) and _share(sample, r"\S+") >= _MOST:
        return "ids"
    if _share(sample, _CODE) >= _MOST and filled.n_unique() >= _MOST * len(filled):
        return "codes"
    return ""


def _share(texts: pl.Series, pattern: str) -> float:
    """The share of texts that a pattern describes as a whole, in any case."""
    return int(texts.str.contains(rf"(?i)^(?:{pattern})$").sum()) / len(texts)
