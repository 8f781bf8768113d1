"""The negative sampler for RecTools, called as RecTools 0.19.0 calls it."""

from __future__ import annotations

import pytest
import torch

from alterrec.rectools_sampler import RankWindowNegatives

# Items 1 to 8 on a line behind a padding token, so that the most similar ones are the largest.
TABLE = torch.arange(9, dtype=torch.float32)[:, None]


class FromTable(RankWindowNegatives):
    """Compares items by a tensor that is given."""

    def __init__(self, n_negatives: int, start: int, stop: int, vectors: torch.Tensor = TABLE) -> None:
        super().__init__(n_negatives, start, stop)
        self.vectors = vectors

    def table(self) -> torch.Tensor:
        return self.vectors


def batch(*targets: list[int]) -> dict[str, torch.Tensor]:
    y = torch.tensor(targets)
    return {"x": torch.zeros_like(y), "y": y, "yw": (y > 0).float()}


def test_negatives_are_in_the_rank_window_of_their_target() -> None:
    torch.manual_seed(0)
    sampler = FromTable(50, start=1, stop=4)
    drawn = sampler.get_negatives(batch([0, 3], [8, 6]), lowest_id=1, highest_id=9)
    assert drawn.shape == (2, 2, 50)
    assert drawn.dtype == torch.int64
    # By rank, without the target: 8 7 6 5 ..., 7 6 5 4 ... and 8 7 5 4 ...
    assert set(drawn[0, 1].tolist()) == {5, 6, 7}
    assert set(drawn[1, 0].tolist()) == {4, 5, 6}
    assert set(drawn[1, 1].tolist()) == {4, 5, 7}
    assert drawn.min() >= 1


def test_draws_follow_the_generator_of_torch() -> None:
    sampler = FromTable(5, start=0, stop=6)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(sampler.get_negatives(batch([1, 2, 3]), lowest_id=1, highest_id=9))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_validation_asks_for_the_last_target_alone() -> None:
    sampler = FromTable(4, start=0, stop=1)
    drawn = sampler.get_negatives(batch([1, 8], [2, 3]), lowest_id=1, highest_id=9, session_len_limit=1)
    assert drawn.tolist() == [[[7] * 4], [[8] * 4]]


def test_a_table_may_change_as_a_model_is_trained() -> None:
    table = TABLE.clone().requires_grad_()
    sampler = FromTable(4, start=0, stop=1, vectors=table)
    assert sampler.get_negatives(batch([1]), lowest_id=1, highest_id=9).unique().tolist() == [8]
    with torch.no_grad():
        table.neg_()
        table -= 20
        table[2] = -100  # the largest product
    assert sampler.get_negatives(batch([1]), lowest_id=1, highest_id=9).unique().tolist() == [2]


def test_many_targets_are_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alterrec.rectools_sampler.ROWS", 3)
    sampler = FromTable(2, start=0, stop=1)
    drawn = sampler.get_negatives(batch(list(range(1, 9))), lowest_id=1, highest_id=9)
    assert drawn[0, :, 0].tolist() == [8, 8, 8, 8, 8, 8, 8, 7]


def test_wrong_arguments() -> None:
    for start, stop in ((2, 2), (-1, 3), (3, 1)):
        with pytest.raises(
            ValueError, match=f"start is {start} and stop is {stop}; expected 0 <= start < stop"
        ):
            FromTable(4, start=start, stop=stop)
    with pytest.raises(ValueError, match="table has 9 rows; expected 12"):
        FromTable(4, start=0, stop=2).get_negatives(batch([1]), 1, 12)
    with pytest.raises(ValueError, match="stop is 8, but row 0 has only 7 candidates"):
        FromTable(4, start=0, stop=8).get_negatives(batch([1]), 1, 9)


def test_the_table_is_left_to_a_subclass() -> None:
    with pytest.raises(TypeError, match="abstract"):
        RankWindowNegatives(4, 0, 2)  # type: ignore[abstract]
