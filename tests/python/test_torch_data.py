"""Batches of prefixes in a DataLoader: the same for any number of workers, however they are started."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader, Subset

from alterrec.sessions import PrefixBatches, SessionStore
from alterrec.torch_data import PrefixDataset


def make_store(users: bool = False) -> SessionStore:
    rng = np.random.default_rng(3)
    lengths = rng.integers(1, 9, 60)
    sessions = np.repeat(np.arange(60), lengths)
    return SessionStore.from_arrays(
        sessions, rng.integers(40, size=lengths.sum()), user_ids=sessions % 7 if users else None, num_items=40
    )


def plain(batches: Any) -> list[dict[str, list[Any]]]:
    return [{name: each.tolist() for name, each in batch.items()} for batch in batches]


def expected(store: SessionStore, epoch: int, **options: Any) -> list[dict[str, list[Any]]]:
    batches = PrefixBatches(store, 16, 5, epoch=epoch, **options)
    return plain(
        {name: each for name, each in batch._asdict().items() if each is not None} for batch in batches
    )


class TestPrefixDataset:
    @pytest.mark.parametrize("layout", ["padded", "packed", "by_session"])
    @pytest.mark.parametrize("users", [False, True])
    def test_an_entry_is_a_batch(self, layout: str, users: bool) -> None:
        store = make_store(users)
        data = PrefixDataset(store, 16, 5, layout=layout, seed=4, per_session=3)
        for epoch in (0, 2, 1):
            data.set_epoch(epoch)
            loader = DataLoader(data, batch_size=None)
            wanted = expected(store, epoch, layout=layout, seed=4, per_session=3)
            assert plain(loader) == wanted
            assert len(data) == len(loader) == len(wanted)

    @pytest.mark.parametrize(("start", "workers"), [("fork", 1), ("fork", 2), ("spawn", 2)])
    def test_workers_yield_the_same_batches_in_each_epoch(self, start: str, workers: int) -> None:
        store = make_store()
        data = PrefixDataset(store, 16, 5, seed=4)
        loader = DataLoader(
            data,
            batch_size=None,
            num_workers=workers,
            multiprocessing_context=start,
            persistent_workers=True,
            timeout=120,
        )
        for epoch in (0, 1, 5):
            data.set_epoch(epoch)
            assert plain(loader) == expected(store, epoch, seed=4)

    def test_the_first_batches_can_be_skipped(self) -> None:
        data = PrefixDataset(make_store(), 16, 5)
        later = DataLoader(Subset(data, range(2, len(data))), batch_size=None)
        assert plain(later) == plain(DataLoader(data, batch_size=None))[2:]

    def test_shards_divide_the_samples(self) -> None:
        store = make_store()
        parts = [PrefixDataset(store, 16, 5, shard=(rank, 2)) for rank in range(2)]
        samples = [number for part in parts for batch in plain(part) for number in batch["samples"]]
        assert len(parts[0]) == len(parts[1])
        assert len(samples) == len(set(samples)) == len(store.prefixes())

    def test_a_loader_that_would_batch_batches_is_refused(self) -> None:
        with pytest.raises(ValueError, match="pass batch_size=None to DataLoader"):
            next(iter(DataLoader(PrefixDataset(make_store(), 16, 5), batch_size=4)))

    def test_wrong_arguments(self) -> None:
        store = make_store()
        with pytest.raises(ValueError, match="epoch is no option of PrefixDataset; call set_epoch"):
            PrefixDataset(store, 16, 5, epoch=1)
        with pytest.raises(ValueError, match="reuse is no option"):
            PrefixDataset(store, 16, 5, reuse=True)
        with pytest.raises(ValueError, match="batch_size"):
            PrefixDataset(store, 0, 5)
        with pytest.raises(ValueError, match=r"epoch is -1; expected 0 to 2\*\*63 - 1"):
            PrefixDataset(store, 16, 5).set_epoch(-1)


class TestPrefixBatches:
    @pytest.mark.parametrize("layout", ["padded", "packed", "by_session"])
    def test_a_batch_by_its_number(self, layout: Any) -> None:
        batches = PrefixBatches(make_store(), 16, 5, layout=layout, reuse=True)
        listed = [pickle.dumps(batch) for batch in batches]
        assert [pickle.dumps(batches[index]) for index in range(len(batches))] == listed
        assert pickle.dumps(batches[-1]) == listed[-1]
        for wrong in (len(batches), -len(batches) - 1):
            with pytest.raises(IndexError):
                batches[wrong]

    @pytest.mark.parametrize(
        "options",
        [
            {"shuffle": False, "targets": "last", "pad": 7},
            {"seed": 3, "epoch": 2, "shard": (1, 3), "layout": "packed", "bucket": False},
            {"samples": [[0, 1], [2, 1]], "layout": "by_session", "reuse": True},
            {"per_session": 2},
        ],
    )
    def test_pickle_keeps_all_arguments(self, options: dict[str, Any]) -> None:
        batches = PrefixBatches(make_store(), 3, 5, **options)
        again = pickle.loads(pickle.dumps(batches))
        assert [pickle.dumps(batch) for batch in again] == [pickle.dumps(batch) for batch in batches]
