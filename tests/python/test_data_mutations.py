"""Mutated data folders are read or refused by an InputError that names the folder; nothing else comes out."""

from __future__ import annotations

import os
import time
import warnings
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mutated_data import base_folder, load, mutate

from alterrec.errors import InputError

pytestmark = pytest.mark.skipif(
    pl.__version__ < "2", reason="earlier versions of polars crash while the mutations are made"
)


def outcome(seed: int) -> str:
    """``read`` or ``refused``; AssertionError for anything else."""
    rng = np.random.default_rng(seed)
    with TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("error")
        folder = Path(name) / "shop"
        folder.mkdir()
        base_folder(rng, folder)
        mutate(rng, folder)
        try:
            data = load(rng, folder)
        except InputError as error:
            if str(folder) not in str(error) or "\n" in str(error):
                raise AssertionError(f"seed {seed}: {error}") from error
            return "refused"
        # Panics of polars are no Exception.
        except BaseException as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
        for store, names in zip(data.splits.values(), data.session_names.values(), strict=True):
            assert len(store) == len(names)
        assert data.fingerprint
    return "read"


@settings(max_examples=100)
@given(st.integers(0, 2**40))
# Options that a published format does not read.
@example(2**50 + 356)
def test_mutated_folders_are_read_or_refused(seed: int) -> None:
    outcome(seed)


@pytest.mark.torture
@pytest.mark.timeout(10_800)
def test_a_hundred_thousand_mutated_folders(capfd: pytest.CaptureFixture[str]) -> None:
    began, count = time.perf_counter(), int(os.environ.get("ALTERREC_DATA_FOLDERS", 10**5))
    found = Counter(outcome(2**50 + seed) for seed in range(count))
    assert capfd.readouterr().err == ""
    with capfd.disabled():
        seconds = time.perf_counter() - began
        os.write(2, f"\n{count} mutated data folders in {seconds:.0f} s: {dict(found)}\n".encode())
