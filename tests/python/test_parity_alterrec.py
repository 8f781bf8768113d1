"""The ``authors`` preset against numbers of the authors' own code, in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import parity
import pytest
import torch
from parity import close

from alterrec.models.base import Network, Recommender, Tables
from alterrec.models.batches import SessionBatch
from alterrec.models.catalogue import build_model
from alterrec.models.parts import ModelInputs
from alterrec.nn.losses import candidate_cross_entropy
from alterrec.ranking import rank_window
from alterrec.recipe import resolve
from alterrec.recipe_settings import WindowSettings
from alterrec.training.windows import WindowRanks

FILES = parity.files("alterrec")

SESSIONS = ("mean", "transformer")


class Instance:
    """One file, the batch, and our model with the file's weights."""

    def __init__(self, path: Path, id_session: str) -> None:
        self.numbers = parity.Arrays(path)
        self.arrays = self.numbers.arrays
        self.tensor, self.setting = self.numbers.__getitem__, self.numbers.setting
        self.name = f"id_{id_session}"
        self.batch = SessionBatch.of_prefixes(self.tensor("input.sessions"), self.tensor("input.lengths"))
        self.targets_N = self.tensor("input.targets")
        self.model = self._model(id_session)

    def network(self, name: str) -> Network:
        return self.model.network(name)

    def _model(self, id_session: str) -> Recommender:
        recipe = resolve(
            "alterrec",
            ["authors"],
            {
                "model.dim": self.setting("dim"),
                "model.heads": self.setting("heads"),
                "model.layers": self.setting("layers"),
                "model.max_len": self.setting("max_len"),
                "model.dropout": 0.0,
                "text.dropout": 0.0,
                "id.session": id_session,
                "text.temperature": self.setting("temperature"),
                "fusion.alpha": self.setting("alpha"),
            },
        )
        num_items = int(self.setting("items"))
        items = ModelInputs(num_items, self.tensor("input.text"), torch.ones(num_items, dtype=torch.bool))
        model = build_model(recipe, items).double()
        for network in model.networks:
            for name, value in model.network(network).named_parameters():
                with torch.no_grad():
                    value.copy_(self.tensor(f"weight.{network}.{theirs(name)}"))
        return model.eval()


def theirs(name: str) -> str:
    """Our parameter name in the words of the file."""
    for ours, their in (
        ("items.rows_VD", "item"),
        ("items.project.", "project."),
        ("items.norm.", "item_norm."),
        ("session.entrance.positions_LD", "pos"),
        ("session.entrance.norm.", "in_norm."),
        ("session.blocks.", "layer"),
    ):
        if name.startswith(ours):
            name = their + name.removeprefix(ours)
    name = name.replace(".attention.", ".").replace(".ffn.", ".")
    is_norm = "norm." in name
    return (
        name.removesuffix("weight") + ("gain" if is_norm else "W")
        if name.endswith(".weight")
        else (name if is_norm else name.removesuffix("bias") + "b" if name.endswith(".bias") else name)
    )


@pytest.fixture(
    params=[(path, session) for path in FILES for session in SESSIONS], ids=lambda p: f"{p[0].stem}-{p[1]}"
)
def instance(request: pytest.FixtureRequest) -> Instance:
    return Instance(*request.param)


def networks(instance: Instance) -> list[tuple[str, str]]:
    return [("id", instance.name), ("text", "text")]


def test_parity_tables_sessions_and_scores(instance: Instance) -> None:
    for network, label in networks(instance):
        ours = instance.network(network)
        tables = ours.item_tables()
        close(tables.outputs, instance.tensor(f"output.{network}.table"))
        close(
            ours.encode_sessions(instance.batch, tables) * ours.log_temperature.exp(),
            instance.tensor(f"output.{label}.session"),
        )
        close(ours.scores(instance.batch), instance.tensor(f"output.{label}.scores"))


def test_parity_stages_of_the_transformer(instance: Instance) -> None:
    real_BL = instance.tensor("input.mask").bool()
    for network, _ in networks(instance):
        session = instance.network(network).session
        if not hasattr(session, "blocks"):
            continue
        table_VD = instance.network(network).items()
        x = session.entrance(table_VD[instance.batch.items_RL])
        close(x[real_BL], instance.tensor(f"stage.{network}.embedded")[real_BL])
        for number, block in enumerate(session.blocks):
            x = block(x)
            close(x[real_BL], instance.tensor(f"stage.{network}.layer{number}")[real_BL])


def test_parity_fused_scores(instance: Instance) -> None:
    parts = instance.model.part_scores(instance.batch, instance.model.prepare())
    fused = sum(instance.model.weights[name] * part for name, part in parts.items())
    close(fused, instance.tensor(f"output.{instance.name}.fused_scores"))


def test_parity_teacher_windows(instance: Instance) -> None:
    start, stop = int(instance.setting("window_start")), int(instance.setting("window_stop"))
    for teacher in ("text", "id"):
        if teacher == "id" and instance.name == "id_mean":
            continue  # the file's ID teacher is the Transformer
        network = instance.network(teacher)
        tables = network.item_tables()
        raw = (
            network.encode_sessions(instance.batch, tables) * network.log_temperature.exp() @ tables.outputs.T
        )
        close(raw, instance.tensor(f"output.teacher_{teacher}.scores"))
        window = rank_window(network.scores(instance.batch).detach().float(), start, stop)
        np.testing.assert_array_equal(window.numpy(), instance.arrays[f"output.teacher_{teacher}.window"])


def test_parity_window_of_the_recipe(instance: Instance) -> None:
    """`window.first` counts ranks from 1, the authors' slice from 0."""
    start, stop = int(instance.setting("window_start")), int(instance.setting("window_stop"))
    window = WindowSettings(first=start + 1, last=stop, exclude_target=False)
    assert WindowRanks.on(window, int(instance.setting("items"))) == (start, stop)


def test_parity_candidates_and_masks(instance: Instance) -> None:
    """A negative that is the target has no weight; the authors give it the score -1e5."""
    for network, label in networks(instance):
        candidates = instance.tensor(f"input.{network}.candidates")
        theirs_masked = instance.tensor(f"input.{network}.candidate_is_target").bool()
        ours_masked = candidates == candidates[:, :1]
        ours_masked[:, 0] = False
        assert torch.equal(ours_masked, theirs_masked)
        picked = instance.network(network).scores(instance.batch).gather(1, candidates)
        close(picked.masked_fill(ours_masked, -1e5), instance.tensor(f"output.{label}.candidate_scores"))


@pytest.mark.parametrize("loss_name", ["loss_full", "loss_candidates", "loss_candidates_augmented"])
def test_parity_losses_and_gradients(instance: Instance, loss_name: str) -> None:
    for network, label in networks(instance):
        if f"output.{label}.{loss_name}" not in instance.arrays:
            continue
        ours = instance.network(network)
        ours.zero_grad()
        loss = _loss(instance, network, loss_name)
        close(loss, instance.tensor(f"output.{label}.{loss_name}"))
        loss.backward()
        compared = 0
        for name, value in ours.named_parameters():
            key = f"gradnorm.{label}.{loss_name}.{network}.{theirs(name)}"
            if key in instance.arrays:
                np.testing.assert_allclose(value.grad.norm().item(), instance.arrays[key], rtol=1e-6)
                compared += 1
        assert compared


def _loss(instance: Instance, network: str, loss_name: str) -> torch.Tensor:
    tables = instance.network(network).item_tables()
    vectors_ND, table_VD = instance.network(network).encode_sessions(instance.batch, tables), tables.outputs
    one = torch.ones(1).double()
    if loss_name == "loss_full":
        return candidate_cross_entropy(vectors_ND, table_VD, instance.targets_N[:, None], one, None)
    candidates = instance.tensor(f"input.{network}.candidates")
    targets_N, negatives_NC = candidates[:, 0], candidates[:, 1:]

    def over(rows: torch.Tensor) -> torch.Tensor:
        own_N1 = targets_N[rows, None]
        return candidate_cross_entropy(vectors_ND[rows], table_VD, own_N1, one, negatives_NC[rows])

    if loss_name == "loss_candidates":
        return over(torch.ones(len(targets_N), dtype=torch.bool))
    extra = instance.tensor("input.extra_positive").bool()
    return over(~extra) + instance.setting("extra_positive_weight") * over(extra)


def test_parity_one_inner_product_gives_the_fused_score(instance: Instance) -> None:
    """Eq. 6 as one product of joined columns."""
    model, weights = instance.model, instance.model.weights
    sessions, outputs = [], []
    for name in model.networks:
        tables: Tables = model.network(name).item_tables()
        sessions.append(weights[name] * model.network(name).encode_sessions(instance.batch, tables))
        outputs.append(tables.outputs)
    joined = torch.cat(sessions, 1) @ torch.cat(outputs, 1).T
    close(joined, instance.tensor(f"output.{instance.name}.fused_scores"))
