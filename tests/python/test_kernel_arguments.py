"""Kernels raise ValueError for whatever they cannot use, and nothing else."""

from __future__ import annotations

import os
import time
import warnings
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_calls import NAMES, Calls

from alterrec import graphs, list_metrics, logs, metrics, ranking, sessions

FINE = np.zeros((2, 3), np.float32)


def test_every_public_function_is_called() -> None:
    modules = (ranking, graphs, logs, sessions, metrics, list_metrics)
    public = {name for module in modules for name in module.__all__}
    called = {"from_arrays": "SessionStore", "prefix_batches": "PrefixBatches", "id_numbers": "IdNumbers"}
    called["scores_to_lists"] = "ListMetrics"
    results = {
        "Adjacency",
        "Batch",
        "SeenCounts",
        "SessionCut",
        "SessionGraphs",
        "Metric",
        "ListMetric",
        "Ties",
        "ALIASES",
        "METRICS",
        "LIST_METRICS",
        "DEFAULT_METRICS",
    }
    # set_threads and unchecked change the state of the process; metric_values is a part of metrics.
    other = {"set_threads", "unchecked", "metric_name", "metric_values"}
    assert {called.get(name, name) for name in NAMES} == public - results - other


def outcome(seed: int) -> str:
    """What one random call came to: its name, and the type of its error."""
    rng = np.random.default_rng(seed)
    name = NAMES[rng.integers(len(NAMES))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            Calls(rng).call(name)
        except ValueError:
            return f"{name} ValueError"
        except Exception as error:
            raise AssertionError(f"seed {seed}: {name} raised {type(error).__name__}: {error}") from error
    return f"{name} result"


@given(st.integers(0, 2**40))
def test_random_calls_end_with_a_result_or_a_value_error(seed: int) -> None:
    for number in range(20):
        outcome(20 * seed + number)


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_a_million_random_calls(capfd: pytest.CaptureFixture[str]) -> None:
    began, count = time.perf_counter(), int(os.environ.get("ALTERREC_CALLS", 10**6))
    found = Counter(outcome(2**60 + seed).split()[1] for seed in range(count))
    assert min(found.values()) > count // 10
    with capfd.disabled():
        seconds = time.perf_counter() - began
        os.write(
            2, f"\n{count} random calls of {len(NAMES)} kernels in {seconds:.0f} s: {dict(found)}\n".encode()
        )


@pytest.mark.parametrize(
    ("tensor", "told"),
    [
        (torch.empty((2, 3), device="meta"), "is a meta tensor, which has no values"),
        (torch.zeros(2, 3).to_sparse(), "is a torch.sparse_coo tensor; expected a dense one"),
    ],
)
def test_tensors_without_values_are_named(tensor: Any, told: str) -> None:
    with pytest.raises(ValueError, match=f"scores {told}"):
        ranking.top_ranked(tensor, 1)
    with pytest.raises(ValueError, match=f"exclude {told}"):
        ranking.top_ranked(FINE, 1, exclude=tensor)
    with pytest.raises(ValueError, match=f"scores {told}"):
        ranking.softmax_(tensor)


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_unsigned_ids_are_no_padding(kind: Any) -> None:
    exclude = kind([[2**64 - 1], [0]], dtype=torch.uint64 if kind is torch.tensor else np.uint64)
    with pytest.raises(
        ValueError, match=r"exclude has the value 18446744073709551615; expected integers below"
    ):
        ranking.top_ranked(FINE, 1, exclude=exclude)
    with pytest.raises(ValueError, match=r"item_ids has values above"):
        sessions.SessionStore.from_arrays([0, 1], np.asarray(exclude).ravel())


def test_masked_entries_are_refused() -> None:
    masked = np.ma.masked_array(FINE, FINE == 0)
    with pytest.raises(ValueError, match="scores has masked entries"):
        ranking.top_ranked(masked, 1)
    with pytest.raises(ValueError, match="scores has masked entries"):
        ranking.softmax_(masked)
    one = np.ma.masked_array([1, 2], [True, False])
    with pytest.raises(ValueError, match="targets has masked entries"):
        ranking.target_counts(FINE, one)
    with pytest.raises(ValueError, match="item_ids has masked entries"):
        sessions.SessionStore.from_arrays([0, 0], one)
    with pytest.raises(ValueError, match="tied has masked entries"):
        metrics.metrics([1, 2], one)
    whole = np.ma.masked_array(FINE, False)
    assert ranking.top_ranked(whole, 1)[0].tolist() == [[0], [0]]


@pytest.mark.parametrize("count", [2**63 - 1, 2**33, np.uint64(2**64 - 1)])
def test_counts_beyond_any_catalogue_are_refused(count: Any) -> None:
    for greater, tied in (([count], [1]), ([1], [count])):
        with pytest.raises(ValueError, match="expected at most 2\\*\\*32"):
            metrics.metrics(greater, tied)


def test_a_metric_without_a_cutoff_needs_a_table_that_fits() -> None:
    assert metrics.metrics([2**32 - 1], [2**31], ["mrr@20"]) == {"mrr@20": 0.0}
    with pytest.raises(ValueError, match="metric 'mrr' would need a table of 4294967296 ranks"):
        metrics.metrics([2**32 - 1], [1], ["mrr"])


def test_negative_rows_are_no_large_ones() -> None:
    with pytest.raises(ValueError, match="rows has the value -1; expected 0 or more"):
        ranking.uniform_items(np.array([-1]), 3, 10)


@pytest.mark.parametrize("value", [1e39, float("nan"), float("inf"), "1"])
def test_factors_are_finite_float32_numbers(value: Any) -> None:
    with pytest.raises(ValueError, match=r"factor is .*; expected a finite float32 number"):
        ranking.cross_entropy_(FINE.copy(), [[0], [0]], [1.0], factor=value)
