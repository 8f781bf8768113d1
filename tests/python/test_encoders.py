"""Item and session encoders, by hand where possible."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from alterrec.nn.item_encoders import CategoryFeatures, IdTable, JoinedItems, SummedItems, TextProjection
from alterrec.nn.layers import initialise
from alterrec.nn.session_encoders import Gru, Mean, Recency, Weighted
from alterrec.nn.transformer import SasrecTransformer, Transformer, TransformerSizes, TwoStreams

SIZES = TransformerSizes(dim=8, max_len=5, layers=2, heads=2, inner=32, dropout=0.0)
TABLE = torch.tensor([[1.0, 0.0], [0.0, 2.0], [4.0, 4.0]])


def test_equation_1_by_hand() -> None:
    """Linear, ReLU, LayerNorm of one text vector."""
    encoder = TextProjection(torch.tensor([[1.0, 2.0]]), dim=2).eval()
    with torch.no_grad():
        encoder.project.weight.copy_(torch.tensor([[1.0, 1.0], [-1.0, 0.0]]))
        encoder.project.bias.zero_()
    # ReLU([3, -1]) = [3, 0]; mean 1.5, deviation 1.5
    scale = 1.5 / math.sqrt(1.5**2 + 1e-5)
    assert encoder()[0].tolist() == pytest.approx([scale, -scale], rel=1e-6)


def test_id_table_is_layer_normed_rows() -> None:
    encoder = IdTable(2, 2)
    with torch.no_grad():
        encoder.rows_VD.copy_(torch.tensor([[1.0, 3.0], [5.0, 1.0]]))
    assert encoder()[0].tolist() == pytest.approx([-1.0, 1.0], abs=1e-4)
    assert encoder()[1].tolist() == pytest.approx([1.0, -1.0], abs=1e-4)


def test_sum_and_join_of_tables() -> None:
    parts = [IdTable(3, 2), IdTable(3, 2)]
    tables = [part() for part in parts]
    assert torch.equal(SummedItems(parts)(), tables[0] + tables[1])
    assert torch.equal(JoinedItems(parts)(), torch.cat(tables, 1))


def test_mean_by_hand_ignores_padding() -> None:
    states = Mean()(TABLE, torch.tensor([[0, 2, 1], [1, 0, 0]]))
    assert states[0, 1].tolist() == [2.5, 2.0]
    assert states[1, 0].tolist() == [0.0, 2.0]


def test_recency_by_hand_counts_distance_from_the_end() -> None:
    encoder = Recency(max_len=3)
    with torch.no_grad():
        encoder.logits_L.copy_(torch.log(torch.tensor([3.0, 1.0, 4.0])))
    # weights 3/4 for the last item and 1/4 for the one before; padding has none
    states = encoder(TABLE, torch.tensor([[0, 1, 2]]))
    assert states[0, 1].tolist() == pytest.approx([0.25, 1.5])


CAUSAL = {
    "mean": Mean(),
    "recency": Recency(max_len=5),
    "transformer": Transformer(SIZES),
    "weighted": Weighted(
        Transformer(SIZES),
        dim=8,
        dropout=0.0,
    ),
    "gru": Gru(dim=8, hidden=12, layers=2, dropout=0.0),
    "sasrec_original": SasrecTransformer(
        TransformerSizes(dim=8, max_len=5, layers=2, heads=2, inner=8, dropout=0.0)
    ),
}


@pytest.mark.parametrize("name", CAUSAL)
def test_every_prefix_of_a_causal_encoder_is_one_reading_of_the_session(name: str) -> None:
    torch.manual_seed(0)
    encoder = CAUSAL[name]
    initialise(encoder, "uniform", std=0.02, dim=8)
    table = torch.randn(6, 8)
    session = torch.tensor([[3, 1, 4, 1, 5]])
    states = encoder(table, session)[0]
    for end in range(1, 6):
        prefix = torch.zeros_like(session)
        prefix[0, :end] = session[0, :end]
        torch.testing.assert_close(encoder(table, prefix)[0, end - 1], states[end - 1])


def test_weighted_mean_by_hand() -> None:
    """States are the rows themselves and the first column weighs: logits 1, 0, 4, all plus 1/2."""
    encoder = Weighted(Transformer(TransformerSizes(2, 3, 1, 1, 2, 0.0)), dim=2)
    encoder.transformer.states = lambda rows_RLD: rows_RLD
    with torch.no_grad():
        encoder.weigh.weight.copy_(torch.tensor([[1.0, 0.0]]))
        encoder.weigh.bias.fill_(0.5)
    states = encoder(TABLE, torch.tensor([[0, 1, 2]]))[0]
    e = math.e
    assert states[0].tolist() == pytest.approx([1.0, 0.0])
    assert states[1].tolist() == pytest.approx([e / (e + 1), 2 / (e + 1)])
    total = e + 1 + e**4
    assert states[2].tolist() == pytest.approx([(e + 4 * e**4) / total, (2 + 4 * e**4) / total])


def test_gru_by_hand() -> None:
    """Both gates at 1/2; new states tanh(x) and tanh(x + h), for 2 h is let through by half."""
    encoder = Gru(dim=1, hidden=1, layers=1, dropout=0.0)
    with torch.no_grad():
        encoder.units.weight_ih_l0.copy_(torch.tensor([[0.0], [0.0], [1.0]]))
        encoder.units.weight_hh_l0.copy_(torch.tensor([[0.0], [0.0], [2.0]]))
        encoder.out.weight.fill_(3.0)
        encoder.out.bias.fill_(1.0)
    states = encoder(torch.tensor([[1.0], [-2.0]]), torch.tensor([[0, 1]]))[0, :, 0]
    first = math.tanh(1) / 2
    second = math.tanh(-2 + first) / 2 + first / 2
    assert states.tolist() == pytest.approx([1 + 3 * first, 1 + 3 * second])


@pytest.mark.parametrize("name", ["mean", "weighted", "gru"])
def test_dropout_on_item_rows_is_another_at_every_place(name: str) -> None:
    """All else is off, so the first place of each of many equal sessions shows its own row's dropout."""
    torch.manual_seed(0)
    encoder = {
        "mean": Mean(dropout=0.5),
        "weighted": Weighted(Transformer(TransformerSizes(4, 3, 1, 1, 4, 0.0)), dim=4, dropout=0.5),
        "gru": Gru(dim=4, hidden=4, layers=1, dropout=0.5),
    }[name]
    table, sessions = torch.ones(2, 4), torch.zeros(64, 2, dtype=torch.long)
    states = encoder(table, sessions)[:, 0]
    assert len(states.unique(dim=0)) > 8
    assert len(encoder.eval()(table, sessions)[:, 0].unique(dim=0)) == 1


def test_the_original_sasrec_step_by_step() -> None:
    """Its own code in plain numpy: one head's attention, place by place, of normed queries to raw states."""
    torch.manual_seed(0)
    dim, heads = 6, 2
    encoder = SasrecTransformer(
        TransformerSizes(dim, max_len=4, layers=2, heads=heads, inner=dim, dropout=0.0)
    ).double()
    with torch.no_grad():
        for value in encoder.parameters():
            value.add_(0.3 * torch.randn_like(value))
    table, items = torch.randn(9, dim, dtype=torch.float64), torch.tensor([[4, 7, 4, 1]])
    weights = {name: value.numpy() for name, value in encoder.state_dict().items()}

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        scaled = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-8)
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    x = table.numpy()[items[0]] * np.sqrt(dim) + weights["positions_LD"]
    for layer in range(2):
        block = f"blocks.{layer}"
        queries = norm(x, f"{block}.attn_norm")
        q = linear(queries, f"{block}.attention.q")
        k, v = linear(x, f"{block}.attention.k"), linear(x, f"{block}.attention.v")
        mixed = np.zeros_like(x)
        for head in range(heads):
            own = slice(head * dim // heads, (head + 1) * dim // heads)
            for place in range(4):
                logits = np.exp(k[: place + 1, own] @ q[place, own] / np.sqrt(dim // heads))
                mixed[place, own] = logits / logits.sum() @ v[: place + 1, own]
        normed = norm(queries + mixed, f"{block}.ffn_norm")
        x = normed + linear(np.maximum(linear(normed, f"{block}.ffn.0"), 0), f"{block}.ffn.3")
    np.testing.assert_allclose(encoder(table, items)[0].detach().numpy(), norm(x, "norm"), rtol=1e-10)


def test_starts() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(IdTable(2000, 16), Recency(4), torch.nn.Linear(4, 4))
    initialise(network, "normal", std=0.02, dim=16)
    assert network[0].rows_VD.std().item() == pytest.approx(0.02, rel=0.02)
    assert network[0].norm.weight.tolist() == [1.0] * 16
    assert network[1].logits_L.tolist() == pytest.approx([-math.log(d) for d in (1, 2, 3, 4)])
    assert network[2].bias.tolist() == [0.0] * 4
    initialise(network, "uniform", std=0.02, dim=16)
    assert network[0].norm.weight.abs().max().item() <= 0.25
    assert network[0].rows_VD.abs().max().item() == pytest.approx(0.25, rel=0.01)


def test_half_precision_vectors_stay_half_and_are_standardised_on_the_way() -> None:
    torch.manual_seed(0)
    vectors = (torch.randn(9000, 6) * 3 + 1).half()
    vectors[:, 5] = 2.0
    encoder = TextProjection(vectors, dim=4, standardise=True).eval()
    assert encoder.vectors_VF is vectors
    columns = vectors.double()
    expected = ((columns - columns.mean(0)) / columns.std(0, correction=0)).float()
    expected[:, 5] = 0
    whole = TextProjection(expected, dim=4).eval()
    whole.load_state_dict(encoder.state_dict() | {"vectors_VF": expected}, strict=False)
    torch.testing.assert_close(encoder(), whole(), rtol=1e-4, atol=1e-4)
    ids = torch.tensor([8999, 3])
    torch.testing.assert_close(encoder(ids), encoder()[ids])


def test_parts_of_many_texts_are_one_table() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(10_000, 6)
    encoder = TextProjection(vectors, dim=4)
    expected = encoder.norm(torch.relu(encoder.project(vectors)))
    torch.testing.assert_close(encoder(), expected)


def test_category_features_by_hand() -> None:
    """Item 0: rows 1 and 3 averaged, weighed by softmax(2, 4). Item 1 has no value."""
    features = CategoryFeatures(torch.tensor([[[0, 1], [0, -1]], [[-1, -1], [-1, -1]]]), dim=1)
    with torch.no_grad():
        features.rows[0].copy_(torch.tensor([[1.0], [3.0]]))
        features.rows[1].copy_(torch.tensor([[4.0]]))
        for layer in (features.hidden, features.score):
            layer.weight.fill_(1.0)
            layer.bias.zero_()
    weight = math.exp(2) / (math.exp(2) + math.exp(4))
    expected = torch.tensor([[2 * weight + 4 * (1 - weight)], [0.0]])
    torch.testing.assert_close(features(), expected)
    torch.testing.assert_close(features(torch.tensor([1, 1, 0])), expected[[1, 1, 0]])
    torch.testing.assert_close(features(torch.tensor([1])), expected[[1]])


def test_streams_see_their_own_columns_and_what_is_before_them() -> None:
    encoder = TwoStreams(TransformerSizes(dim=4, max_len=5, layers=1, heads=2, inner=8, dropout=0.0))
    table_VD2 = torch.randn(6, 8)
    states_RLD = encoder(table_VD2, torch.tensor([[1, 2, 3]]))
    torch.testing.assert_close(encoder(table_VD2, torch.tensor([[1, 2, 5]]))[:, :2], states_RLD[:, :2])
    assert not torch.allclose(encoder(table_VD2, torch.tensor([[1, 2, 5]]))[:, 2], states_RLD[:, 2])
    with torch.no_grad():
        encoder.concat.weight[:, 4:] = 0.0
    without_features = encoder(table_VD2, torch.tensor([[1, 2, 3]]))
    table_VD2[:, 4:] = 0.0
    torch.testing.assert_close(encoder(table_VD2, torch.tensor([[1, 2, 3]])), without_features)


def test_states_at_some_places_are_those_of_all() -> None:
    torch.manual_seed(0)
    encoder = Transformer(TransformerSizes(dim=8, max_len=6, layers=2, heads=2, inner=16, dropout=0.0))
    table, items, length_R = torch.randn(9, 8), torch.randint(9, (5, 6)), torch.tensor([1, 6, 3, 2, 5])
    rows, each_R = table[items], torch.arange(5)
    torch.testing.assert_close(
        encoder.last(table, items, length_R), encoder(table, items)[each_R, length_R - 1]
    )
    places = torch.tensor([[4, 0]]).expand(5, -1)
    for mask in (None, (torch.arange(6) < length_R[:, None])[:, None, None]):
        torch.testing.assert_close(encoder.states(rows, mask, places), encoder.states(rows, mask)[:, [4, 0]])


def test_two_layers_of_text_by_hand() -> None:
    items = TextProjection(torch.tensor([[1.0, 2.0]]), dim=1, norm=False, hidden=2)
    with torch.no_grad():
        items.project.weight.copy_(torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
        items.project.bias.copy_(torch.tensor([0.5, 0.0]))
        items.out.weight.copy_(torch.tensor([[2.0, 10.0]]))
        items.out.bias.copy_(torch.tensor([1.0]))
    # Hidden values: 3.5 and ReLU(-1) = 0.
    assert items().tolist() == [[8.0]]
