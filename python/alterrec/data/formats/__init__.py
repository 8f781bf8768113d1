"""Published formats, each read by one function in its own file.

A format is one function that returns a :class:`~alterrec.data.formats.source.Source`, and one row of
:data:`FORMATS`. Everything after that (sessions, filters, splits, text columns, files) is done by
:func:`~alterrec.data.prepare.prepare`.
"""

from __future__ import annotations

from alterrec.data.formats import amazon_m2, otto, recbole
from alterrec.data.formats.source import Format

FORMATS: dict[str, Format] = {
    "amazon-m2": Format(
        "Amazon-M2 (KDD Cup 2023): sessions and products of six locales, read one at a time",
        amazon_m2.FILES,
        amazon_m2.read_amazon_m2,
        amazon_m2.recognises_amazon_m2,
        reads=("locale",),
    ),
    "otto": Format(
        "OTTO (Kaggle 2022): clicks, carts and orders as JSON lines, without texts",
        otto.FILES,
        otto.read_otto,
        otto.recognises_otto,
    ),
    "recbole": Format(
        "atomic files of RecBole, whole or in benchmark splits",
        recbole.FILES,
        recbole.read_recbole,
        recbole.recognises_recbole,
        reads=("columns",),
    ),
}
# Reads whatever has the columns; it is chosen only where no other format recognises the files.
GENERAL = "log"
