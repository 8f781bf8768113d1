"""MovieLens: 100K (``u.data``), 1M and 10M (``ratings.dat``), 20M and later (``ratings.csv``)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from alterrec.data.damaged_sources import reading_sources
from alterrec.data.formats.published import (
    USUAL,
    find_published,
    first_line,
    first_problem,
    required_file,
    scan_rows,
)
from alterrec.data.formats.source import INTERACTIONS, PrepareOptions, Source
from alterrec.data.formats.text_tables import scan_text
from alterrec.errors import InputError
from alterrec.files import reading

FILES = "u.data and u.item, ratings.dat and movies.dat, or ratings.csv and movies.csv"
RATINGS = ("u.data", "ratings.dat", "ratings.csv")
COLUMNS = ("userId", "movieId", "rating", "timestamp")
# The flags at the end of a line of u.item, in the order of the file u.genre.
GENRES = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
NO_GENRES = ("(no genres listed)", "unknown")
# One sequence per user, of which the last movie is the target of test and the one before that of validation,
# as in SASRec and BERT4Rec. Users with three ratings left in training have five.
CHOICES = replace(USUAL, sessions="user", min_session=3, split="last-item", valid=0.1, test=0.1)
# Ratings, users and rated movies of the versions that do not change, by the number of movies in their file.
PUBLISHED = {
    1_682: (100_000, 943, 1_682),
    3_883: (1_000_209, 6_040, 3_706),
    10_681: (10_000_054, 69_878, 10_677),
    27_278: (20_000_263, 138_493, 26_744),
    62_423: (25_000_095, 162_541, 59_047),
    87_585: (32_000_204, 200_948, 84_432),
}


def read_movielens(path: Path, options: PrepareOptions) -> Source:
    """Read the ratings and movies at a path; every rating is an event, whose kind is the rating itself.

    Raises:
        InputError: a file is missing or has another layout.
    """
    ratings = required_file(path, *RATINGS)
    folder = ratings.parent
    if ratings.name == "u.data":
        rows, movies = scan_rows(ratings, COLUMNS, "\t"), required_file(folder, "u.item")
        titles = _movies_100k(movies)
    elif ratings.name == "ratings.dat":
        # The separator is "::", so that every second cell is empty.
        names = [each for name in COLUMNS for each in (name, f"after {name}")][:-1]
        rows, movies = scan_rows(ratings, names, ":"), required_file(folder, "movies.dat")
        titles = _movies_dat(movies)
    else:
        rows, movies = scan_text(ratings, COLUMNS), required_file(folder, "movies.csv")
        titles = _movies_csv(movies)
    titles = titles.with_columns(pl.when(~pl.col("genres").is_in(NO_GENRES)).then("genres").alias("genres"))
    time = pl.col("timestamp").cast(pl.Int64, strict=False)
    events = rows.select(
        pl.col("userId").alias("user_id"),
        pl.col("movieId").alias("item_id"),
        time.alias("timestamp"),
        pl.col("rating").alias("event"),
        first_problem(
            (pl.col("userId").is_null(), "no user id"),
            (pl.col("movieId").is_null(), "no movie id"),
            (time.is_null(), "the timestamp is not a number"),
        ),
    )
    counts = PUBLISHED.get(titles.height, ())
    return Source(
        events={INTERACTIONS: events},
        items=titles.lazy(),
        files=(ratings, movies),
        choices=CHOICES,
        text=("title", "genres"),
        notes=("every rating is an event, whose kind is the rating; --events 4,5 keeps high ones",),
        expected=dict(zip(("rows", "read_users", "read_items"), counts, strict=False)),
    )


def recognises_movielens(path: Path) -> bool:
    """Whether a path is a file of ratings or a folder with one."""
    file = find_published(path, *RATINGS)
    if file is None:
        return False
    line = first_line(file)
    if file.name == "ratings.csv":
        return line == ",".join(COLUMNS)
    cells = line.split("\t" if file.name == "u.data" else "::")
    return len(cells) == len(COLUMNS) and cells[3].isdigit()


def _movies_100k(path: Path) -> pl.DataFrame:
    """Movies of u.item: id, title, two dates and an address, then a flag for each genre, separated by |."""
    rows = []
    for number, line in enumerate(_lines(path), 1):
        cells = line.split("|")
        if len(cells) != 5 + len(GENRES):
            raise InputError(f"{path}, line {number}: has {len(cells)} cells; expected {5 + len(GENRES)}")
        genres = [name for name, flag in zip(GENRES, cells[5:], strict=True) if flag == "1"]
        rows.append((cells[0], cells[1], ", ".join(genres)))
    return _frame(rows)


def _movies_dat(path: Path) -> pl.DataFrame:
    """Movies of movies.dat: ``id::title::genre|genre``."""
    rows = []
    for number, line in enumerate(_lines(path), 1):
        movie, _, rest = line.partition("::")
        title, separator, genres = rest.rpartition("::")
        if not separator:
            raise InputError(f"{path}, line {number}: is not as 1::Toy Story (1995)::Animation|Comedy")
        rows.append((movie, title, genres.replace("|", ", ")))
    return _frame(rows)


def _movies_csv(path: Path) -> pl.DataFrame:
    genres = pl.col("genres").str.replace_all("|", ", ", literal=True)
    table = scan_text(path, ("movieId", "title", "genres"))
    with reading_sources([path]):
        return table.select(pl.col("movieId").alias("item_id"), "title", genres).collect()


def _frame(rows: list[tuple[str, str, str]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=dict.fromkeys(("item_id", "title", "genres"), pl.String), orient="row")


def _lines(path: Path) -> list[str]:
    """The lines of a small file: UTF-8 (10M), or otherwise Latin-1 (100K and 1M)."""
    with reading(path):
        data = path.read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return [line for line in text.replace("\r\n", "\n").split("\n") if line]
