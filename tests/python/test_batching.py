"""Requests that wait together are one batch, and each gets its own answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alterrec.errors import InputError
from alterrec.serving.batching import Batcher, QueueFullError


class Doubling:
    """Double each row, after a gate has opened; remember the batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()

    def __call__(self, rows: Sequence[int]) -> list[int]:
        assert self.gate.wait(10)
        self.batches.append(list(rows))
        return [2 * row for row in rows]


def test_what_comes_while_a_batch_is_computed_is_the_next_batch() -> None:
    work, sizes = Doubling(), []

    async def requests() -> list[Sequence[int]]:
        batcher = Batcher(batch=5, waiting=100, observe=sizes.append)
        asked = []
        for row in (1, 2, 3, 1, 1):
            asked.append(asyncio.create_task(batcher.submit(work, [row] * row)))
            await asyncio.sleep(0.02)
        assert batcher.waiting == 7
        work.gate.set()
        return await asyncio.gather(*asked)

    assert asyncio.run(requests()) == [[2], [4, 4], [6, 6, 6], [2], [2]]
    # The first one is computed at once. Of the others, as many as fit, in their order.
    assert work.batches == [[1], [2, 2, 3, 3, 3], [1, 1]]
    assert sizes == [1, 5, 2]


def test_only_equal_work_is_computed_together_and_the_oldest_comes_first() -> None:
    ours, others = Doubling(), Doubling()
    ours.gate.set()

    async def requests() -> None:
        batcher = Batcher(batch=5, waiting=100)
        asked = []
        for row, work in enumerate((others, ours, others, ours)):
            asked.append(asyncio.create_task(batcher.submit(work, [row])))
            await asyncio.sleep(0.02)
        assert ours.batches == []
        others.gate.set()
        await asyncio.gather(*asked)

    asyncio.run(requests())
    assert (others.batches, ours.batches) == ([[0], [2]], [[1, 3]])


def test_a_request_with_more_rows_than_a_batch_is_one_batch() -> None:
    work = Doubling()
    work.gate.set()
    answers = asyncio.run(Batcher(batch=2, waiting=10).submit(work, [1, 2, 3, 4]))
    assert (answers, work.batches) == ([2, 4, 6, 8], [[1, 2, 3, 4]])


def test_the_queue_is_bounded_and_cancelled_requests_are_not_computed() -> None:
    work = Doubling()

    async def requests() -> None:
        batcher = Batcher(batch=10, waiting=4)
        first = asyncio.create_task(batcher.submit(work, [1]))
        await asyncio.sleep(0.02)
        late = asyncio.create_task(batcher.submit(work, [2, 2]))
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError):
            await batcher.submit(work, [3, 3, 3])
        last = asyncio.create_task(batcher.submit(work, [4, 4]))
        await asyncio.sleep(0)
        late.cancel()
        work.gate.set()
        assert await first == [2]
        assert await last == [8, 8]
        assert batcher.waiting == 0
        assert await batcher.submit(work, [5]) == [10]

    asyncio.run(requests())
    assert work.batches == [[1], [4, 4], [5]]


def test_a_wrong_request_fails_alone_and_a_fault_fails_the_batch() -> None:
    def picky(rows: Sequence[int]) -> list[int]:
        if 13 in rows:
            raise InputError("13 is not allowed")
        if 99 in rows:
            raise RuntimeError("broken")
        return list(rows)

    async def requests(*rows: int) -> list[object]:
        batcher = Batcher(batch=10, waiting=10)
        # The first one keeps the thread busy until the others wait.
        asked = [batcher.submit(picky, [row]) for row in (0, *rows)]
        return (await asyncio.gather(*asked, return_exceptions=True))[1:]

    one, wrong, other = asyncio.run(requests(1, 13, 2))
    assert (one, other) == ([1], [2])
    assert isinstance(wrong, InputError)
    assert [type(each) for each in asyncio.run(requests(1, 99))] == [RuntimeError, RuntimeError]


@given(st.lists(st.lists(st.integers(), min_size=1, max_size=4), max_size=6), st.integers(1, 8))
def test_every_request_gets_its_own_answers(requests: list[list[int]], batch: int) -> None:
    async def all_at_once() -> list[Sequence[int]]:
        batcher = Batcher(batch=batch, waiting=100)
        return await asyncio.gather(*(batcher.submit(_negated, rows) for rows in requests))

    assert asyncio.run(all_at_once()) == [[-row for row in rows] for rows in requests]


def _negated(rows: Sequence[int]) -> list[int]:
    return [-row for row in rows]
