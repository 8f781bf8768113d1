"""`s3rec` against RecBole's and UniSRec's numbers, in float64."""

from __future__ import annotations

from pathlib import Path

import parity
import pytest
import torch
from parity import close

from alterrec.models.base import Network
from alterrec.models.catalogue import build_model
from alterrec.models.parts import ModelInputs
from alterrec.models.s3rec import FourTasks, Rows
from alterrec.nn.layers import left_padded
from alterrec.nn.losses import candidate_cross_entropy
from alterrec.recipe import resolve

TASKS = ("aap", "mip", "map", "sp")


def names_of(arrays: parity.Arrays) -> dict[str, str]:
    names = {"items.rows_VD": "item", "objectives.pretrain.mask_D": "mask"}
    names |= parity.transformer_names(arrays, "session")
    for layer in TASKS:
        names |= parity.layer_names(arrays, f"objectives.pretrain.{layer}", layer)
    if "input.text" in arrays:
        return names | parity.layer_names(arrays, "objectives.pretrain.attributes.text.project", "project")
    return names | {"objectives.pretrain.attributes.rows_AD": "attribute"}


def network_of(arrays: parity.Arrays) -> Network:
    sizes = ("dim", "layers", "heads", "max_len", "inner")
    choices = {f"model.{name}": arrays.setting(name) for name in sizes}
    choices |= {f"s3rec.{task}": arrays.setting(f"{task}_weight") for task in TASKS}
    recipe = resolve("s3rec", ["paper"], choices | {"s3rec.attributes": "auto", "model.faithful": True})
    num_items = int(arrays.setting("items"))
    vectors = arrays.table("input.text") if "input.text" in arrays else torch.ones(num_items, 1)
    categories = None
    if "input.text" not in arrays:
        categories = arrays.table("input.item_attributes")[:, None] - 1
    trained = torch.ones(num_items, dtype=torch.bool)
    model = build_model(recipe, ModelInputs(num_items, vectors, trained, categories_VCK=categories))
    network = model.network("model").double().eval()
    if categories is not None:
        # The data says how many attributes there are, the file says it again: some may be no item's.
        size = int(arrays.setting("attributes")), network.dim
        tasks_of(network).attributes.rows_AD = torch.nn.Parameter(torch.zeros(size).double())
    parity.set_weights(network, arrays, names_of(arrays))
    return network


def tasks_of(network: Network) -> FourTasks:
    tasks = network.objectives["pretrain"]
    assert isinstance(tasks, FourTasks)
    return tasks


def rows_of(arrays: parity.Arrays) -> Rows:
    """The file's masked rows: mask tokens and items by our numbers."""
    names = ("positive_items", "negative_items", "masked_segment", "positive_segment", "negative_segment")
    items, negatives, *segments = (arrays.items(f"input.{name}") for name in names)
    masked = arrays["input.masked_sessions"]
    # The one-hots of text are of right-padded sessions; padding is the last attribute, not the first.
    labels = arrays["input.attributes"]
    described = items
    if "input.text" in arrays:
        described = labels.argmax(2) - 1
        described[described < 0] = int(arrays.setting("items"))
    return Rows(items, masked > 0, masked == arrays.setting("mask_id"), negatives, described, *segments)


@pytest.fixture(params=[*parity.files("s3rec"), *parity.files("s3rec_text")], ids=lambda path: path.stem)
def arrays(request: pytest.FixtureRequest) -> parity.Arrays:
    path: Path = request.param
    arrays = parity.Arrays(path)
    # The mask token is a row of the public item table, and a parameter of its own here.
    arrays.arrays["weight.mask"] = arrays.arrays["weight.item"][int(arrays.setting("mask_id"))]
    return arrays


def test_parity_fine_tuning(arrays: parity.Arrays) -> None:
    network, batch = network_of(arrays), arrays.batch()
    tables = network.item_tables()
    vectors_ND = network.encode_sessions(batch, tables)
    close(vectors_ND, arrays["output.session"])
    close(network.scores(batch), arrays.columns())
    targets_N1 = arrays["input.targets"][:, None] - 1
    loss = candidate_cross_entropy(vectors_ND, tables.outputs, targets_N1, torch.ones(1).double(), None)
    close(loss, arrays["output.loss_without_padding"])
    loss.backward()
    parity.gradients_close(network, arrays, "loss_without_padding", names_of(arrays))


def test_parity_of_the_public_loss_is_that_of_two_more_candidates(arrays: parity.Arrays) -> None:
    """Padding and mask token, which ours never scores."""
    scores = arrays["output.session"] @ arrays["weight.item"].T
    loss = torch.nn.functional.cross_entropy(scores, arrays["input.targets"])
    close(loss, arrays["output.loss"])


def test_parity_pretraining_stages(arrays: parity.Arrays) -> None:
    network, rows = network_of(arrays), rows_of(arrays)
    states = tasks_of(network).read(network, network.items(), rows)
    close(states.masked_RLD[rows.real_RL], arrays["stage.pretrain.hidden"][rows.real_RL])
    close(states.context_RD, arrays["stage.pretrain.segment_context"])
    close(states.positive_RD, arrays["stage.pretrain.segment_positive"])
    close(states.negative_RD, arrays["stage.pretrain.segment_negative"])


@pytest.mark.parametrize("task", TASKS)
def test_parity_of_each_task_and_its_gradients(arrays: parity.Arrays, task: str) -> None:
    network = network_of(arrays)
    loss = tasks_of(network).losses(network, network.items(), rows_of(arrays))[task]
    close(loss, arrays[f"output.pretrain.{task}"])
    loss.backward()
    names = names_of(arrays)
    # Public gradients of the item table count the mask token's row.
    mask_D, table_VD = tasks_of(network).mask_D, network.items.rows_VD
    joined = torch.cat([table_VD.grad, mask_D.grad[None]])
    expected = arrays[f"gradnorm.pretrain.{task}.item"]
    torch.testing.assert_close(joined.norm(), expected, rtol=1e-6, atol=0)
    del names["items.rows_VD"]
    parity.gradients_close(network, arrays, f"pretrain.{task}", names)


def test_parity_of_the_weighted_sum(arrays: parity.Arrays) -> None:
    network = network_of(arrays)
    tasks = tasks_of(network)
    close(
        tasks.weighted(tasks.losses(network, network.items(), rows_of(arrays))),
        arrays["output.pretrain.loss"],
    )


def test_parity_of_what_pads(arrays: parity.Arrays) -> None:
    """Faithful rows are padded as the public ones."""
    rows = rows_of(arrays)
    width = int(arrays.setting("max_len"))
    items, real = left_padded(arrays.items(), arrays["input.lengths"], width)
    assert torch.equal(real, rows.real_RL)
    assert torch.equal(items[real], rows.items_RL[real])
