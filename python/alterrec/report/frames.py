"""Frames of polars as frames of pandas, without pyarrow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from alterrec.errors import InputError

if TYPE_CHECKING:
    from pandas import DataFrame


def as_pandas(frame: pl.DataFrame) -> DataFrame:
    """Return a frame of pandas with the same columns.

    Raises:
        InputError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError:
        raise InputError("to_pandas() needs pandas, which is not installed; use to_polars()") from None
    return pd.DataFrame({name: frame[name].to_list() for name in frame.columns}, columns=frame.columns)
