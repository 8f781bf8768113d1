"""Files of tensors have the bytes of the safetensors library."""

from __future__ import annotations

import json
from pathlib import Path
from unittest import mock

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from alterrec import tensor_files
from alterrec.errors import InputError
from alterrec.recipe import dump_recipe, resolve
from alterrec.tensor_files import all_finite, check_sum, read_tensors, write_tensors
from alterrec.training.checkpoint import TrainingState

TYPES = [*tensor_files._TYPES]
METADATA = {"weights": '{"id": 0.5}', "seen": '"kept"'}


def drawn(shape: tuple[int, ...], kind: torch.dtype, seed: int = 0) -> Tensor:
    values = torch.randint(0, 100, shape, generator=torch.Generator().manual_seed(seed))
    return values.to(kind)


@st.composite
def some_tensors(draw: st.DrawFn) -> dict[str, Tensor]:
    """Of any type and shape, some of them not contiguous, with names that JSON escapes."""
    names = draw(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=3), unique=True))
    tensors = {}
    for name in names:
        shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
        tensor = drawn(shape, draw(st.sampled_from(TYPES)), draw(st.integers(0, 9)))
        tensors[name] = tensor.transpose(0, -1) if shape and draw(st.booleans()) else tensor
    return tensors


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some_tensors(), st.text(st.characters(exclude_categories=["Cs"])))
def test_files_have_the_bytes_of_the_library(tmp_path: Path, tensors: dict[str, Tensor], text: str) -> None:
    """Old files were written by it, and their digests are in manifests."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    with mock.patch.object(tensor_files, "PART", 16):
        write_tensors(ours, tensors, {"progress": text})
    save_file({name: value.contiguous() for name, value in tensors.items()}, theirs, {"progress": text})
    assert ours.read_bytes() == theirs.read_bytes()
    found, metadata = read_tensors(theirs)
    assert metadata == {"progress": text}
    assert all(found[name].dtype == value.dtype for name, value in tensors.items())
    assert all(torch.equal(found[name], value) for name, value in tensors.items())


def test_metadata_are_sorted(tmp_path: Path) -> None:
    for name, metadata in (("a", METADATA), ("b", dict(reversed(METADATA.items())))):
        write_tensors(tmp_path / name, {}, metadata)
    content = (tmp_path / "a").read_bytes()
    assert content == (tmp_path / "b").read_bytes()
    assert json.loads(content[8:]) == {"__metadata__": METADATA}


def test_values_are_checked_in_parts() -> None:
    values = torch.zeros(3, 7)
    with mock.patch.object(tensor_files, "PART", 16):
        assert all_finite(values)
        assert all_finite(torch.zeros(0))
        for place in range(21):
            for wrong in (torch.nan, torch.inf, -torch.inf):
                changed = values.clone()
                changed.view(-1)[place] = wrong
                assert not all_finite(changed)
                assert not all_finite(changed.T)


def test_every_flipped_byte_of_a_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    recipe = dump_recipe(resolve("id_only"))
    state = TrainingState(recipe, "of data", 2, parameters={"x": torch.arange(6.0)}, warnings=["so"])
    state.save(path)
    assert TrainingState.load(path, recipe, "of data").parameters["x"].tolist() == [0, 1, 2, 3, 4, 5]
    whole = path.read_bytes()
    for place in [*range(32), *range(32, len(whole), 41), *range(len(whole) - 24, len(whole))]:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        with pytest.raises(InputError):
            TrainingState.load(path, recipe, "of data")


def test_the_checksum_does_not_depend_on_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for part in (8, 64, tensor_files.PART):
        monkeypatch.setattr(tensor_files, "PART", part)
        write_tensors(tmp_path / f"{part}", {"x": torch.arange(50)}, {}, checksum=True)
        check_sum(tmp_path / f"{part}")
        found.append((tmp_path / f"{part}").read_bytes())
    assert len({*found}) == 1
