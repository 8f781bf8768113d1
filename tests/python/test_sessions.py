from __future__ import annotations

import doctest
import pickle
from collections import Counter
from itertools import chain, groupby

import numpy as np
import oracle_sessions as oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alterrec import _core, sessions
from alterrec.sessions import PrefixBatches, SessionStore, derive_seed

SESSIONS = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=6), max_size=9)


def make_store(item_lists, users=False):
    names = np.repeat(np.arange(len(item_lists)), [len(items) for items in item_lists])
    items = np.array([item for items in item_lists for item in items], np.int64)
    return SessionStore.from_arrays(names, items, user_ids=names * 10 if users else None, num_items=6)


def pairs_of(store, batch):
    """The (session, end) pairs that a batch says it holds."""
    ends = batch.samples - store.offsets[batch.sessions]
    return list(zip(batch.sessions.tolist(), ends.tolist(), strict=True))


def all_pairs(store, batches):
    return [pair for batch in batches for pair in pairs_of(store, batch)]


@st.composite
def interactions(draw):
    names = draw(st.lists(st.integers(-2, 4), max_size=30))
    items = draw(st.lists(st.integers(0, 7), min_size=len(names), max_size=len(names)))
    times = draw(st.none() | st.lists(st.integers(-5, 5), min_size=len(names), max_size=len(names)))
    return names, items, times, draw(st.booleans())


class TestStore:
    @given(interactions())
    def test_groups_like_the_twin(self, rows):
        names, items, times, with_users = rows
        users = [name * 3 for name in names] if with_users else None
        store = SessionStore.from_arrays(names, items, timestamps=times, user_ids=users)
        groups = oracle.grouped(names, items, times, users)
        lists = [group[1] for group in groups]
        assert [store.session(i).tolist() for i in range(len(store))] == lists
        assert store.session_ids.tolist() == [group[0] for group in groups]
        assert store.items.tolist() == [item for part in lists for item in part]
        assert store.lengths.tolist() == [len(part) for part in lists]
        assert store.offsets.tolist() == np.cumsum([0] + [len(part) for part in lists]).tolist()
        if times is None:
            assert store.timestamps is None
        else:
            assert store.timestamps.tolist() == [time for group in groups for time in group[2]]
        if users is None:
            assert store.users is None
        else:
            assert store.users.tolist() == [group[3] for group in groups]
        assert (store.has_timestamps, store.has_users) == (times is not None, users is not None)
        assert store.num_items == max(items, default=-1) + 1
        assert store.item_counts().tolist() == np.bincount(items, minlength=store.num_items).tolist()
        assert store.repeat_share() == pytest.approx(oracle.repeat_share(lists))
        for targets in ("every", "last"):
            expected = np.array(oracle.prefixes(lists, targets), np.int64).reshape(-1, 2)
            np.testing.assert_array_equal(store.prefixes(targets), expected)

    @given(interactions())
    def test_save_open_and_pickle_keep_the_content(self, tmp_path_factory, rows):
        names, items, times, with_users = rows
        store = SessionStore.from_arrays(
            names, items, timestamps=times, user_ids=[0] * len(names) if with_users else None, num_items=8
        )
        path = tmp_path_factory.mktemp("store") / "sessions.bin"
        store.save(path)
        assert SessionStore.open(path) == store
        assert SessionStore.open(str(path)).repeat_share() == store.repeat_share()
        assert pickle.loads(pickle.dumps(store)) == store
        assert [file.name for file in path.parent.iterdir()] == ["sessions.bin"]

    def test_content_decides_equality(self):
        store = SessionStore.from_arrays([0, 0], [1, 2])
        assert store == SessionStore.from_arrays([0, 0], [1, 2])
        assert store != SessionStore.from_arrays([0, 0], [1, 2], num_items=4)
        assert store != SessionStore.from_arrays([0, 0], [1, 2], timestamps=[0, 0])
        with pytest.raises(TypeError, match="unhashable"):
            hash(store)

    def test_empty_store(self):
        store = SessionStore.from_arrays([], [])
        assert (len(store), store.num_interactions, store.num_items) == (0, 0, 0)
        assert store.prefixes().shape == (0, 2)
        assert list(PrefixBatches(store, 4, 10)) == []

    @pytest.mark.parametrize("dtype", ["int8", "int32", "uint32", "uint64", ">i8"])
    def test_integer_dtypes_and_strides(self, dtype):
        names = np.array([5, 9, 5, 9, 5, 9], dtype)[::2]
        assert SessionStore.from_arrays(names, np.array([1, 0, 2], dtype)).items.tolist() == [1, 0, 2]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"item_ids": [1]}, "item_ids has 1 values, session_ids has 2"),
            ({"timestamps": [1, 2, 3]}, "timestamps has 3 values, session_ids has 2"),
            ({"user_ids": [1]}, "user_ids has 1 values, session_ids has 2"),
            ({"item_ids": [1, -4]}, r"item_ids\[1\] is -4; expected 0 to 1"),
            ({"num_items": 1}, r"item_ids\[1\] is 1; expected 0 to 0 \(num_items is 1\)"),
            ({"num_items": 0}, "num_items is 0; expected no interactions"),
            ({"num_items": -3}, "num_items is -3; expected 0 to"),
            ({"item_ids": [0, 2**40]}, r"item_ids\[1\] is 1099511627776; expected 0 to"),
            ({"user_ids": [4, 5]}, "user_ids has users 4 and 5 for session 3"),
            ({"item_ids": [0.5, 1.0]}, "item_ids has dtype float64; expected integers"),
            ({"item_ids": [[0, 1]]}, "item_ids has 2 dimensions; expected 1"),
            ({"item_ids": np.array([0, 2**63], np.uint64)}, "item_ids has values above"),
        ],
    )
    def test_wrong_arrays(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            SessionStore.from_arrays(**{"session_ids": [3, 3], "item_ids": [0, 1], **arguments})

    def test_wrong_index_and_word(self):
        store = make_store([[0, 1]])
        for index in (-1, 1):
            with pytest.raises(IndexError, match=f"session {index}"):
                store.session(index)
        with pytest.raises(ValueError, match='targets is "first"; expected "every" or "last"'):
            store.prefixes("first")


class TestFile:
    def test_every_damaged_byte_is_found(self, tmp_path):
        path, broken = tmp_path / "good", tmp_path / "broken"
        SessionStore.from_arrays([1, 1, 2], [0, 1, 2], timestamps=[3, 4, 5], user_ids=[8, 8, 9]).save(path)
        good = path.read_bytes()
        for place in range(len(good)):
            bad = bytearray(good)
            bad[place] ^= 1 << (place % 8)
            broken.write_bytes(bad)
            with pytest.raises(OSError, match="broken"):
                SessionStore.open(broken)

    def test_every_truncation_and_any_addition_is_found(self, tmp_path):
        path, broken = tmp_path / "good", tmp_path / "broken"
        SessionStore.from_arrays([1, 1, 2], [0, 1, 2]).save(path)
        good = path.read_bytes()
        for size in range(len(good)):
            broken.write_bytes(good[:size])
            with pytest.raises(OSError, match=r"broken: .*bytes"):
                SessionStore.open(broken)
        broken.write_bytes(good + b"\0" * 8)
        with pytest.raises(OSError, match="needs"):
            SessionStore.open(broken)

    def test_other_files(self, tmp_path):
        other = tmp_path / "other.csv"
        other.write_text("session_id,item_id\n" * 10)
        with pytest.raises(OSError, match='starts with "session_", a saved store with "alterses"'):
            SessionStore.open(other)
        for missing in (tmp_path / "missing", tmp_path):
            with pytest.raises(OSError, match="cannot be read"):
                SessionStore.open(missing)

    def test_a_failed_save_leaves_nothing(self, tmp_path):
        store = make_store([[0, 1]])
        (tmp_path / "taken").mkdir()
        with pytest.raises(OSError, match="taken: cannot be written"):
            store.save(tmp_path / "taken")
        with pytest.raises(OSError, match="cannot be written"):
            store.save(tmp_path / "no_such_folder" / "store")
        assert [path.name for path in tmp_path.iterdir()] == ["taken"]

    def test_an_open_store_outlives_its_replacement(self, tmp_path):
        path = tmp_path / "store"
        first = make_store([[0, 1], [2]])
        first.save(path)
        opened = SessionStore.open(path)
        make_store([[5, 5, 5]]).save(path)
        assert opened == first
        assert SessionStore.open(path) == make_store([[5, 5, 5]])


class TestBatches:
    @given(SESSIONS, st.integers(1, 5), st.integers(1, 4), st.booleans(), st.booleans(), st.data())
    def test_content_is_the_twins_for_any_order(self, lists, batch_size, max_len, shuffle, users, data):
        store = make_store(lists, users)
        options = {
            "shuffle": shuffle,
            "seed": data.draw(st.integers(0, 2**64 - 1)),
            "bucket": data.draw(st.booleans()),
            "targets": data.draw(st.sampled_from(["every", "last"])),
            "pad": data.draw(st.integers(-1, 9)),
            "reuse": data.draw(st.booleans()),
        }
        padded = PrefixBatches(store, batch_size, max_len, **options)
        packed = PrefixBatches(store, batch_size, max_len, layout="packed", **options)
        found = []
        for left, right in zip(padded, packed, strict=True):
            pairs = pairs_of(store, left)
            items, lengths, targets, samples = oracle.batch(lists, pairs, max_len, options["pad"])
            np.testing.assert_array_equal(left.items, items)
            assert left.positions is None
            assert left.offsets is None
            tokens, positions, offsets = oracle.packed(lists, pairs, max_len)
            assert right.items.tolist() == tokens
            assert right.positions.tolist() == positions
            assert right.offsets.tolist() == offsets
            for batch in (left, right):
                assert batch.lengths.tolist() == lengths
                assert batch.targets.tolist() == targets
                assert batch.samples.tolist() == samples
                expected_users = [10 * s for s, _ in pairs] if users else None
                assert (None if batch.users is None else batch.users.tolist()) == expected_users
            assert {array.dtype for array in left if array is not None} == {np.dtype(np.int64)}
            found += pairs
        expected = oracle.prefixes(lists, options["targets"])
        assert (sorted(found) if shuffle else found) == expected
        assert padded.num_samples == len(expected)
        assert len(padded) == -(-len(expected) // batch_size)

    @given(st.data(), SESSIONS, st.integers(1, 9), st.integers(1, 4), st.booleans())
    def test_by_session_prefixes_share_rows(self, data, lists, batch_size, max_len, shuffle):
        """A row for each run of ascending prefixes of one session that are not cut."""
        store = make_store(lists)
        options = {"shuffle": shuffle, "reuse": data.draw(st.booleans()), "bucket": data.draw(st.booleans())}
        batches = PrefixBatches(store, batch_size, max_len, layout="by_session", **options)
        found = []
        for batch in batches:
            pairs = pairs_of(store, batch)
            rows, expected = -1, []
            for place, (session, end) in enumerate(pairs):
                before = pairs[place - 1] if place else (None, 0)
                rows += not (session == before[0] and before[1] <= end <= max_len)
                expected.append(rows)
            assert batch.row_of.tolist() == expected
            assert len(batch.items) == rows + 1
            for (session, end), row, length in zip(pairs, batch.row_of, batch.lengths, strict=True):
                assert batch.items[row, :length].tolist() == lists[session][:end][-max_len:]
            found += pairs
        assert sorted(found) == oracle.prefixes(lists, "every")
        if shuffle and not options["bucket"]:
            order = [session for session, _ in found]
            assert len(list(groupby(order))) == len(set(order))

    def test_by_session_reads_a_session_once(self):
        store = make_store([[0, 1, 2, 3, 4]] * 64)
        read = PrefixBatches(store, 64, 9, layout="by_session", seed=3)
        assert [len(batch.items) for batch in read] == [16] * 4

    @given(SESSIONS, st.integers(1, 4), st.integers(1, 7), st.booleans(), st.booleans())
    def test_shards_share_out_the_steps_of_one_process(self, lists, batch_size, world, shuffle, bucket):
        store = make_store(lists)
        whole = PrefixBatches(store, batch_size * world, 3, shuffle, 5, 2, bucket=bucket)
        shards = [
            PrefixBatches(store, batch_size, 3, shuffle, 5, 2, (rank, world), bucket=bucket)
            for rank in range(world)
        ]
        assert {len(shard) for shard in shards} == {len(whole)}
        steps = list(zip(*shards, strict=True))
        parts = [sorted(pair for batch in step for pair in pairs_of(store, batch)) for step in steps]
        expected = [sorted(pairs_of(store, batch)) for batch in whole]
        assert parts[:-2] == expected[:-2]
        assert sorted(chain(*parts)) == sorted(chain(*expected))
        for shard in shards:
            sizes = [len(batch.targets) for batch in shard]
            assert sum(sizes) == shard.num_samples
            assert all(size == batch_size for size in sizes[:-2])
            assert all(0 < size <= batch_size for size in sizes) or shard.num_samples < len(shard)

    def test_an_order_is_a_function_of_seed_and_epoch(self):
        store = make_store([[0, 1, 2, 3, 4]] * 50)
        orders = {
            (seed, epoch): tuple(all_pairs(store, PrefixBatches(store, 7, 9, True, seed, epoch)))
            for seed in range(3)
            for epoch in range(3)
        }
        assert len(set(orders.values())) == 9
        again = PrefixBatches(store, 7, 9, True, 1, 2)
        assert tuple(all_pairs(store, again)) == orders[1, 2] == tuple(all_pairs(store, again))

    @pytest.mark.parametrize("bucket", [False, True])
    def test_every_sample_comes_first_equally_often(self, bucket):
        store = make_store([[0, 1, 2], [3, 4]])
        firsts = Counter(
            all_pairs(store, PrefixBatches(store, 1, 9, seed=seed, bucket=bucket))[0] for seed in range(3000)
        )
        # 4 standard deviations of a binomial count around 1000
        assert all(abs(firsts[pair] - 1000) < 104 for pair in [(0, 1), (0, 2), (1, 1)])

    def test_buckets_save_padding(self):
        lengths = derive_lengths(4000)
        store = make_store([[0] * int(n) for n in lengths])
        widths = {
            bucket: sum(batch.items.size for batch in PrefixBatches(store, 32, 50, bucket=bucket))
            for bucket in (False, True)
        }
        tokens = int(sum(n * (n - 1) // 2 for n in lengths))
        assert widths[True] < 1.1 * tokens < widths[False]

    @given(SESSIONS, st.integers(1, 4), st.integers(0, 9))
    def test_per_session_draws_at_most_so_many(self, lists, most, epoch):
        store = make_store(lists)
        pairs = all_pairs(store, PrefixBatches(store, 3, 9, False, epoch=epoch, per_session=most))
        assert pairs == sorted(set(pairs))
        assert set(pairs) <= set(oracle.prefixes(lists, "every"))
        counts = Counter(session for session, _ in pairs)
        assert [counts[s] for s in range(len(lists))] == [min(most, len(items) - 1) for items in lists]

    def test_per_session_draws_each_target_equally_often(self):
        store = make_store([[0, 1, 2, 3, 4]])
        drawn = Counter(
            pair
            for epoch in range(4000)
            for pair in all_pairs(store, PrefixBatches(store, 9, 9, False, 3, epoch, per_session=2))
        )
        # 4 standard deviations of a binomial count with p = 1/2 around 2000
        assert all(abs(drawn[0, end] - 2000) < 127 for end in (1, 2, 3, 4))

    def test_given_samples_in_their_order(self):
        store = make_store([[0, 1, 2], [3, 4]])
        given_samples = [(1, 1), (0, 2), (1, 1)]
        assert all_pairs(store, PrefixBatches(store, 2, 9, False, samples=given_samples)) == given_samples
        assert all_pairs(store, PrefixBatches(store, 2, 9, False, samples=np.empty((0, 2), int))) == []

    def test_reused_buffers_are_overwritten_and_fresh_ones_are_not(self):
        store = make_store([[0, 1, 2, 3], [4, 5]])
        kept = list(PrefixBatches(store, 2, 9, shuffle=False))
        assert [batch.targets.tolist() for batch in kept] == [[1, 2], [3, 5]]
        reused = iter(PrefixBatches(store, 2, 9, shuffle=False, reuse=True))
        first = next(reused)
        next(reused)
        assert first.targets.tolist() == [3, 5]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"batch_size": 0}, "batch_size is 0; expected 1 or more"),
            ({"batch_size": -2}, "batch_size is -2; expected 1 or more"),
            ({"max_len": 0}, "max_len is 0; expected 1 or more"),
            ({"shard": (2, 2)}, r"shard is \(2, 2\); expected \(rank, world\)"),
            ({"shard": (-1, 2)}, "shard is -1; expected 0 to"),
            ({"shard": (0, 0)}, r"shard is \(0, 0\)"),
            ({"seed": -1}, r"seed is -1; expected 0 to 2\*\*64 - 1"),
            ({"epoch": 2**64}, "epoch is 18446744073709551616"),
            ({"targets": "all"}, 'targets is \'all\'; expected "every" or "last"'),
            ({"layout": "ragged"}, 'layout is \'ragged\'; expected "padded", "packed" or "by_session"'),
            ({"per_session": 0}, "per_session is 0; expected 1 or more"),
            ({"per_session": 1, "targets": "last"}, "each choose the samples"),
            ({"samples": [(0, 1)], "per_session": 1}, "each choose the samples"),
            ({"samples": [(1, 1)]}, r"samples\[0\] names session 1; expected 0 to 0"),
            ({"samples": [(0, 1), (-1, 1)]}, r"samples\[1\] names session -1"),
            ({"samples": [(0, 3)]}, r"samples\[0\] has end 3 in a session of 3 items; expected 1 to 2"),
            ({"samples": [(0, 0)]}, r"samples\[0\] has end 0"),
            ({"samples": [(0, 1, 2)]}, r"samples has shape \(1, 3\); expected \(P, 2\)"),
        ],
    )
    def test_wrong_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            PrefixBatches(make_store([[0, 1, 2]]), **{"batch_size": 2, "max_len": 3, **options})


def derive_lengths(count):
    return [2 + derive_seed(1, row) % 12 for row in range(count)]


def test_derived_seeds_differ_and_are_checked():
    seeds = {derive_seed(0, a, b) for a in range(50) for b in range(50)}
    assert len(seeds) == 2500
    assert derive_seed(2**64 - 1, 2**64 - 1) < 2**64
    for arguments in [(-1,), (0, -1), (2**64,), (0, 2**64)]:
        with pytest.raises(ValueError, match=r"expected 0 to 2\*\*64 - 1"):
            derive_seed(*arguments)


def test_examples_in_docstrings():
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    for subject in (sessions, _core.SessionStore, _core.ItemNeighbours, _core.SessionNeighbours):
        examples = finder.find(subject, subject.__name__, globs=vars(sessions))
        assert any(test.examples for test in examples)
        assert [test.name for test in examples if runner.run(test).failed] == []
