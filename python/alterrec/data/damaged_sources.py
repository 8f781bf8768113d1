"""Say which of the files of a source is damaged, and where, when reading them fails."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from alterrec.errors import InputError
from alterrec.files import first_line, is_panic

# What polars puts behind the message of an error.
_CONTEXT = "\n\nThis error occurred"


@contextmanager
def reading_sources(files: Sequence[Path]) -> Iterator[None]:
    """Turn a failure to read lazy frames of files into an InputError that names the file and the line.

    A lazy frame is read when it is collected, and an error of polars does not say which file it is about.

    Raises:
        InputError: the block failed to read the files.

    Example:
        >>> with reading_sources([]):
        ...     pl.LazyFrame({"a": ["x"]}).select(pl.col("a").cast(pl.Int64)).collect()  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        alterrec.errors.InputError: the files cannot be read (...); check them, or copy them again
    """
    try:
        yield
    except InputError as error:
        raise InputError(str(error).split(_CONTEXT)[0]) from None
    except BaseException as error:
        if not isinstance(error, pl.exceptions.PolarsError | OSError) and not is_panic(error):
            raise
        raise _explained(files, error) from None


def _explained(files: Sequence[Path], error: BaseException) -> InputError:
    for file in files:
        fault = _fault(file)
        if fault:
            return InputError(f"{file}{fault}")
    names = ", ".join(str(file) for file in files) or "the files"
    return InputError(f"{names} cannot be read ({first_line(error)}); check them, or copy them again")


def _fault(file: Path) -> str | None:
    """What is wrong with a text file, with the line, or None if nothing is found."""
    is_json = file.name.removesuffix(".gz").endswith((".json", ".jsonl"))
    number = quotes = 0
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as lines:
            for line in lines:
                number += 1
                quotes += line.count(b'"')
                text = line.decode("utf-8")
                if is_json and text.strip():
                    json.loads(text)
    except UnicodeDecodeError as error:
        found = error.object[error.start : error.start + 1]
        return (
            f", line {number}: byte {found!r} is not UTF-8 text. Convert the file, for instance with "
            "`iconv -f latin1 -t utf-8`"
        )
    except ValueError as error:
        return f", line {number}: is not JSON ({error}); copy the file again"
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return f": its compressed data end or break off after line {number}; copy the file again"
    except OSError as error:
        return f": cannot be read ({first_line(error)})"
    if quotes % 2 and ".csv" in file.suffixes:
        return ": has an unpaired quotation mark; put the cell in quotes and double those inside it"
    return None
