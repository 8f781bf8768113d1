"""The start of the ID table of `llm2sasrec` and `llm2bert4rec` against scikit-learn's numbers."""

from __future__ import annotations

from pathlib import Path

import parity
import pytest
import torch
from parity import close

from alterrec.models.catalogue import build_model
from alterrec.models.parts import ModelInputs
from alterrec.nn.item_encoders import IdTable
from alterrec.nn.vector_statistics import principal_components
from alterrec.recipe import resolve


@pytest.fixture(params=parity.files("llm2_table"), ids=lambda path: path.stem)
def arrays(request: pytest.FixtureRequest) -> parity.Arrays:
    path: Path = request.param
    return parity.Arrays(path)


def same_signs(ours_VD: torch.Tensor, theirs_VD: torch.Tensor) -> torch.Tensor:
    """Our columns with their signs, which are a convention."""
    return ours_VD * (ours_VD * theirs_VD).sum(0).sign()


def test_parity_coordinates_and_their_variance(arrays: parity.Arrays) -> None:
    ours_VD = principal_components(arrays["input.text"], int(arrays.setting("dim")))
    close(same_signs(ours_VD, arrays["output.reduced_all"]), arrays["output.reduced_all"])
    close(ours_VD.var(0), arrays["output.explained_variance"])


def test_parity_item_table(arrays: parity.Arrays) -> None:
    """All products enter the components; the items are some of them, in an order of their own."""
    ours_VD = principal_components(arrays["input.text"], int(arrays.setting("dim")))
    table_VD = ours_VD[arrays["input.text_row_of_item"]]
    close(same_signs(table_VD, arrays["output.item_table"]), arrays["output.item_table"])
    close(table_VD @ table_VD.T, arrays["output.item_gram"])


@pytest.mark.parametrize("name", ["llm2sasrec", "llm2bert4rec"])
def test_parity_of_the_built_model_in_float32(arrays: parity.Arrays, name: str) -> None:
    text_VF = arrays["input.text"].float()
    recipe = resolve(name, ["paper"], {"model.dim": arrays.setting("dim"), "model.max_len": 7})
    items = ModelInputs(len(text_VF), text_VF, torch.ones(len(text_VF), dtype=torch.bool))
    (table,) = (part for part in build_model(recipe, items).modules() if isinstance(part, IdTable))
    expected_VD = arrays["output.reduced_all"].float()
    torch.testing.assert_close(same_signs(table().detach(), expected_VD), expected_VD, rtol=1e-5, atol=1e-5)
