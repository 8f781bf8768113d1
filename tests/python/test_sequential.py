"""What builders of sequential systems decide beyond their recipes: how they start."""

from __future__ import annotations

import torch

from alterrec.models.base import Network
from alterrec.models.catalogue import build_model
from alterrec.models.parts import ModelInputs
from alterrec.recipe import resolve


def network(name: str, presets: tuple[str, ...], **overrides: object) -> Network:
    torch.manual_seed(0)
    items = ModelInputs(2000, None, torch.ones(2000, dtype=torch.bool))
    given = {"model.dim": 16} | {key.replace("__", "."): value for key, value in overrides.items()}
    return build_model(resolve(name, presets, given), items).network("model")


def bound(values: torch.Tensor) -> float:
    return values.abs().max().item()


def test_core_starts_its_table_uniform_and_its_transformer_normal_under_every_preset() -> None:
    for preset in ("best", "paper", "authors"):
        start = network("core", (preset,))
        assert 0.24 < bound(start.items.rows_VD) <= 0.25
        assert start.session.transformer.entrance.norm.weight.tolist() == [1.0] * 16
        up = start.session.transformer.blocks[0].ffn.up
        assert 0.018 < up.weight.std().item() < 0.022
        assert bound(up.bias) == 0


def test_gru4rec_starts_by_xavier_for_every_recipe() -> None:
    for preset in ("best", "paper", "authors"):
        start = network("gru4rec", (preset,), model__layers=2)
        std = (2 / (2000 + 16)) ** 0.5
        assert 0.97 * std < start.items.rows_VD.std().item() < 1.03 * std
        limit = (6 / (3 * 32 + 16)) ** 0.5
        assert 0.98 * limit < bound(start.session.units.weight_ih_l0) <= limit
        # The deeper layer and the one behind it are torch's: within 1 / sqrt(hidden).
        assert 0.97 * 32**-0.5 < bound(start.session.units.weight_hh_l1) <= 32**-0.5
        assert bound(start.session.out.bias) > 0


def test_sizes_that_follow_from_others() -> None:
    assert network("gru4rec", ("best",)).session.units.hidden_size == 32
    assert network("gru4rec", ("best",), gru__hidden=5).session.units.hidden_size == 5
    assert network("gru4rec", ("paper",)).session.units.num_layers == 1
    assert network("gru4rec", ("original",), model__dim=100).session.units.hidden_size == 100
