"""Networks and objective batches, checked by hand."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor
from worlds import plain_scores

from alterrec.models.base import Network
from alterrec.models.batches import ObjectiveBatch, SessionBatch
from alterrec.nn.item_encoders import IdTable, JoinedItems
from alterrec.nn.layers import SessionEncoder
from alterrec.nn.losses import ScoreBuffer
from alterrec.nn.session_encoders import Mean
from alterrec.sessions import PrefixBatches, SessionStore

BATCH = SessionBatch.of_prefixes(torch.tensor([[0, 1], [2, 0]]), torch.tensor([2, 1]))


def raw_table(rows: list[list[float]]) -> IdTable:
    table = IdTable(len(rows), len(rows[0]), norm=False)
    with torch.no_grad():
        table.rows_VD.copy_(torch.tensor(rows))
    return table


def inputs_of(
    items_NL: list[list[int]], lengths: list[int], targets: list[int], seed: int = 0
) -> ObjectiveBatch:
    batch = SessionBatch.of_prefixes(torch.tensor(items_NL), torch.tensor(lengths))
    return ObjectiveBatch(
        batch, torch.tensor(targets), np.arange(len(targets)), seed, 1, False, ScoreBuffer()
    )


def test_scores_are_products_with_the_table_that_is_scored() -> None:
    """Session vectors are means of the read table: (1.5), (3); scored rows 10, 20, 30."""
    network = Network(
        raw_table([[1.0], [2.0], [3.0]]), Mean(), 1.0, outputs=raw_table([[10.0], [20.0], [30.0]])
    )
    assert plain_scores(network, BATCH).tolist() == [[15.0, 30.0, 45.0], [30.0, 60.0, 90.0]]


def test_a_scored_part_of_the_read_table_is_in_the_state_once() -> None:
    table = raw_table([[1.0], [2.0], [3.0]])
    network = Network(
        JoinedItems([table, raw_table([[0.0], [0.0], [0.0]])]), Mean(), 1.0, outputs=table.forward
    )
    assert list(network.state_dict()) == [
        "log_temperature",
        "items.encoders.0.rows_VD",
        "items.encoders.1.rows_VD",
    ]
    teacher = copy.deepcopy(network)
    with torch.no_grad():
        table.rows_VD.fill_(7.0)
    assert teacher.item_tables().outputs.tolist() == [[1.0], [2.0], [3.0]]


def test_cosine_scores_over_a_temperature() -> None:
    """Rows (3, 4) and (4, 3) have length 5; the session of item 0 alone is (3, 4): cosines 1 and 24/25."""
    network = Network(raw_table([[3.0, 4.0], [4.0, 3.0]]), Mean(), 0.5, cosine=True)
    scores = plain_scores(network, SessionBatch.of_prefixes(torch.tensor([[0]]), torch.tensor([1])))
    torch.testing.assert_close(scores, torch.tensor([[2.0, 2 * 24 / 25]]))


def test_output_dropout_leaves_what_is_read_and_evaluation_alone() -> None:
    network = Network(IdTable(50, 8), Mean(), 1.0, output_dropout=0.5)
    tables = network.item_tables()
    assert 0.3 < (tables.outputs == 0).float().mean().item() < 0.7
    assert not bool((tables.inputs == 0).any())
    network.eval()
    tables = network.item_tables()
    assert torch.equal(tables.inputs, tables.outputs)


def test_encoders_that_read_users_get_them() -> None:
    class UserNumber(SessionEncoder):
        reads_prefixes, reads_users = True, True

        def forward(self, table_VD: Tensor, items_NL: Tensor, length_N: Tensor, user_N: Tensor) -> Tensor:
            return user_N[:, None].float()

    store = SessionStore.from_arrays([0, 0, 1, 1], [0, 1, 1, 2], user_ids=[7, 7, 9, 9])
    (batch,) = PrefixBatches(store, 8, 50, shuffle=False)
    network = Network(raw_table([[1.0], [2.0], [3.0]]), UserNumber(), 1.0)
    assert plain_scores(network, SessionBatch.of(batch, "cpu"))[:, 0].tolist() == [7.0, 9.0]


def test_sequences_keep_their_last_items_and_the_target() -> None:
    sequences_NL, length_N = inputs_of([[1, 2, 3], [4, 9, 9]], [3, 1], [5, 6]).sequences(max_len=3)
    assert sequences_NL.tolist() == [[2, 3, 5], [4, 6, 0]]
    assert length_N.tolist() == [3, 2]


def test_draws_are_those_of_the_sample_whatever_the_batch() -> None:
    both = inputs_of([[1], [2]], [1, 1], [3, 4])
    one = both._replace(samples_N=np.array([1]))
    assert torch.equal(both.draws(6)[1:], one.draws(6))
    assert torch.equal(both.draws(6)[:, :4], both.draws(4))
    assert not torch.equal(both.draws(6), both.draws(6, purpose=1))
    assert not torch.equal(both.draws(6), both._replace(seed=1).draws(6))
    many = inputs_of([[1]] * 500, [1] * 500, [2] * 500).draws(40)
    assert many.min().item() >= 0
    assert many.max().item() < 1
    assert abs(many.mean().item() - 0.5) < 0.01
