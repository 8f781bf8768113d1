"""Published formats, each read by one function in its own file.

A format is one function that returns a :class:`~alterrec.data.formats.source.Source`, and one row of
:data:`FORMATS`. Everything after that (sessions, filters, splits, text columns, files) is done by
:func:`~alterrec.data.prepare.prepare`.
"""

from __future__ import annotations

from alterrec.data.formats import (
    amazon_m2,
    amazon_reviews,
    diginetica,
    hm,
    lastfm,
    log,
    mind,
    movielens,
    otto,
    recbole,
    retailrocket,
    yoochoose,
)
from alterrec.data.formats.source import Format

FORMATS: dict[str, Format] = {
    "amazon-m2": Format(
        "Amazon-M2 (KDD Cup 2023): sessions and products of six locales, read one at a time",
        amazon_m2.FILES,
        amazon_m2.read_amazon_m2,
        amazon_m2.recognises_amazon_m2,
        reads=("locale",),
    ),
    "amazon-reviews": Format(
        "Amazon Reviews (2018, 2023), one category: the reviews of each user, the last two held out",
        amazon_reviews.FILES,
        amazon_reviews.read_amazon_reviews,
        amazon_reviews.recognises_amazon_reviews,
    ),
    "mind": Format(
        "Microsoft News: a user's history and one clicked news per session; the development part is test",
        mind.FILES,
        mind.read_mind,
        mind.recognises_mind,
    ),
    "yoochoose": Format(
        "RecSys Challenge 2015: sessions of clicks, the last day is test; --fraction 64 or 4 as in papers",
        yoochoose.FILE,
        yoochoose.read_yoochoose,
        yoochoose.recognises_yoochoose,
    ),
    "diginetica": Format(
        "CIKM Cup 2016: sessions of item views, the last seven days are test",
        f"{diginetica.VIEWS}, {diginetica.PRODUCTS}, {diginetica.CATEGORIES}",
        diginetica.read_diginetica,
        diginetica.recognises_diginetica,
    ),
    "retailrocket": Format(
        "Retailrocket: views in sessions that 30 minutes of inactivity end, the last seven days are test",
        f"{retailrocket.EVENTS}, {', '.join(retailrocket.PROPERTIES[:2])}, {retailrocket.TREE}",
        retailrocket.read_retailrocket,
        retailrocket.recognises_retailrocket,
    ),
    "hm": Format(
        "H&M: baskets by customer and day, the last seven days are test",
        f"{hm.TRANSACTIONS}, {hm.ARTICLES}",
        hm.read_hm,
        hm.recognises_hm,
    ),
    "movielens": Format(
        "MovieLens (100K to 32M, latest): one sequence per user, the last two movies held out",
        movielens.FILES,
        movielens.read_movielens,
        movielens.recognises_movielens,
    ),
    "lastfm": Format(
        "Last.fm 1K: tracks, or artists, in sessions that 30 minutes of inactivity end",
        lastfm.FILE,
        lastfm.read_lastfm,
        lastfm.recognises_lastfm,
        reads=("columns",),
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
    "log": Format(
        "any log of events with users or sessions, items and times, whatever its columns are called",
        log.FILES,
        log.read_log,
        log.recognises_log,
        reads=("columns", "times"),
    ),
}
# Reads whatever has the columns; it is chosen only where no other format recognises the files.
GENERAL = "log"
