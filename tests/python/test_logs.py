from __future__ import annotations

import doctest
from itertools import pairwise

import numpy as np
import oracle_sessions as oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alterrec import _core, logs
from alterrec.logs import IdNumbers, cut_sessions


@st.composite
def rows(draw):
    # Numbers from 0 are used as they are, others are numbered first.
    users = draw(st.lists(st.sampled_from([0, 1, 2]) | st.sampled_from([0, 5, -7, 2**40]), max_size=30))
    times = draw(st.none() | st.lists(st.integers(-5, 40), min_size=len(users), max_size=len(users)))
    return users, times, draw(st.none() | st.integers(0, 9)), draw(st.sampled_from([None, 1, 2]))


class TestCut:
    @given(rows())
    def test_cuts_like_the_twin(self, log):
        users, times, gap, threads = log
        expected = oracle.cut(users, times, gap)
        small = users and 0 <= min(users) <= max(users) < 2**32
        for column in [users, np.array(users, np.uint32)] if small else [users]:
            order, offsets = cut_sessions(column, times, gap, threads=threads)
            assert (order.dtype, offsets.dtype) == (np.uint32, np.int64)
            found = [order[a:b].tolist() for a, b in pairwise(offsets)]
            assert found == expected

    def test_other_arrays_than_vectors_of_integers_are_refused(self):
        cases = (
            (([0.5],), "users has dtype float64; expected integers"),
            (([[1]],), "users has 2 dimensions; expected 1"),
            (([1], [1, 2]), "timestamps has 2 values, users has 1; expected one for each row"),
            (([1], [1], -1), "gap is -1; expected 0 or more"),
        )
        for arguments, message in cases:
            with pytest.raises(ValueError, match=message):
                cut_sessions(*arguments)


class TestIdNumbers:
    @given(st.lists(st.lists(st.text("ab\0ä", max_size=9), max_size=20), max_size=4))
    def test_numbers_like_a_dictionary(self, batches):
        ids, twin = IdNumbers(), {}
        for batch in batches:
            known = len(twin)
            expected = [twin.setdefault(name, len(twin)) for name in batch]
            raw = [name.encode() for name in batch]
            numbers, new = ids.number(b"".join(raw), np.array([len(name) for name in raw], np.uint32))
            assert numbers.tolist() == expected
            assert [batch[place] for place in new] == list(twin)[known:]
            assert len(ids) == len(twin)

    def test_lengths_that_do_not_fit_are_refused(self):
        with pytest.raises(ValueError, match="lengths add up to 4, but the text has 3 bytes"):
            IdNumbers().number(b"abc", np.array([2, 2], np.uint32))


def test_examples_in_docstrings():
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    for subject in (logs, _core.IdNumbers):
        examples = finder.find(subject, subject.__name__, globs=vars(logs))
        assert any(test.examples for test in examples)
        assert [test.name for test in examples if runner.run(test).failed] == []
