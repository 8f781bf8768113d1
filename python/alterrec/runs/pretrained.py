"""Load UniSRec's adaptor and encoder from a run folder or from a checkpoint of its public code.

Tensors of both are renamed to those of our networks, with the prefix ``adapter.`` for the mixture of experts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import count, takewhile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from alterrec.errors import InputError
from alterrec.files import reading
from alterrec.models.base import Recommender
from alterrec.recipe import Recipe, load_recipe
from alterrec.tensor_files import read_tensors

GATES, PLACES, INNER = "adapter.gates_FE", "session.entrance.positions_LD", "session.blocks.0.ffn.up.weight"
# Parts of a Transformer layer: public name -> our name.
LAYER = {
    "multi_head_attention.query": "attention.q",
    "multi_head_attention.key": "attention.k",
    "multi_head_attention.value": "attention.v",
    "multi_head_attention.dense": "attention.o",
    "multi_head_attention.LayerNorm": "attn_norm",
    "feed_forward.dense_1": "ffn.up",
    "feed_forward.dense_2": "ffn.down",
    "feed_forward.LayerNorm": "ffn_norm",
}
LAYOUTS = "the folder of a unisrec run, or a .pth of RUCAIBox/UniSRec"


class PretrainedWeights(NamedTuple):
    """Pretrained tensors by name, attention heads (None if unknown) and, for our runs, the recipe."""

    tensors: dict[str, Tensor]
    heads: int | None
    recipe: Recipe | None = None


def start_from(path: str, model: Recommender, recipe: Recipe) -> None:
    """Copy the adaptor and the encoder of ``path`` into a UniSRec model; its item embeddings are not changed.

    Args:
        path: a run folder, or a ``.pth`` file of the public code. Only tensors are read from it; other
            objects are not built.
        model: changed in place.
        recipe: the model's recipe.

    Raises:
        InputError: there is no such file, its layout is unknown, a size differs from the model's (the message
            names the first), text vectors are of another encoder, or the model has no such parts.
    """
    network = model.network("model") if "model" in model.networks else None
    parameters = dict(network.named_parameters()) if network is not None else {}
    ours = _by_common_name(parameters)
    if not {GATES, PLACES, INNER} <= ours.keys():
        raise InputError(
            f"model.init_from is set, but the model is {recipe.model_name!r}; use it with "
            "unisrec_pretrained, or another model that has UniSRec's text adaptor and encoder"
        )
    source = _read(Path(path))
    _check_sizes(path, source.tensors, ours, recipe)
    _check_text(path, source, recipe)
    with torch.no_grad():
        for name, value in ours.items():
            value.copy_(source.tensors[name][: len(value)] if name == PLACES else source.tensors[name])


def check_source(recipe: Recipe) -> None:
    """Check ``model.init_from`` of a recipe as far as that is possible before its model is built.

    Raises:
        InputError: as :func:`start_from`.
    """
    path = recipe.model.init_from
    source = _read(Path(path))
    _check_names(path, source.tensors, (GATES, PLACES, INNER))
    wanted = {key: recipe.value(key) for key in ("model.dim", "model.layers", "text.experts")}
    for key, size in _sizes(source.tensors).items():
        if key in wanted and size != wanted[key]:
            raise InputError(f"{path} has {key} {size}, but this run has {wanted[key]}; set {key}={size}")
    _check_text(path, source, recipe)


def _by_common_name(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the session encoder and of the mixture of a network."""
    found = {name: value for name, value in tensors.items() if name.startswith("session.")}
    mixture = next((name.removesuffix("gates_FE") for name in tensors if name.endswith("gates_FE")), None)
    if mixture is not None:
        length = len(mixture)
        found |= {
            f"adapter.{name[length:]}": value for name, value in tensors.items() if name.startswith(mixture)
        }
    return found


def _read(path: Path) -> PretrainedWeights:
    if (path / "recipe.toml").is_file():
        return _read_run(path)
    if not path.is_file():
        raise InputError(f"model.init_from is {str(path)!r}: no such file or run folder; give {LAYOUTS}")
    content = _load(path)
    state = {
        str(name): value
        for name, value in content.get("state_dict", content).items()
        if isinstance(value, Tensor)
    }
    tensors = {_our_name(name): value for name, value in state.items()}
    for part, name in (("lin.weight", "adapter.experts_EDF"), ("bias", "adapter.shifts_EF")):
        if experts := _stacked(state, part):
            tensors[name] = torch.stack(experts)
    settings = getattr(content.get("config"), "final_config_dict", {})
    return PretrainedWeights(tensors, settings.get("n_heads"))


def _our_name(public: str) -> str:
    """Translate a name of the public code (RecBole's SASRec with a mixture of experts); keep others."""
    layer = re.fullmatch(r"trm_encoder\.layer\.(\d+)\.(\w+\.\w+)\.(weight|bias)", public)
    if layer and layer[2] in LAYER:
        return f"session.blocks.{layer[1]}.{LAYER[layer[2]]}.{layer[3]}"
    return {
        "position_embedding.weight": PLACES,
        "LayerNorm.weight": "session.entrance.norm.weight",
        "LayerNorm.bias": "session.entrance.norm.bias",
        "moe_adaptor.w_gate": GATES,
        "moe_adaptor.w_noise": "adapter.noise_FE",
    }.get(public, public)


def _stacked(state: Mapping[str, Tensor], part: str) -> list[Tensor]:
    """Return a part of each expert, in order."""
    experts = (f"moe_adaptor.experts.{expert}.{part}" for expert in count())
    return [state[name] for name in takewhile(state.__contains__, experts)]


def _read_run(path: Path) -> PretrainedWeights:
    recipe = load_recipe(path / "recipe.toml")
    state, _ = read_tensors(path / "model.safetensors", f"give {LAYOUTS}")
    of_network = {name.removeprefix("model/networks.model."): value for name, value in state.items()}
    return PretrainedWeights(_by_common_name(of_network), recipe.model.heads, recipe)


class _StandIn:
    """Replaces every object of a file that is neither a tensor nor a plain container; it runs no code."""

    def __init__(self, *arguments: Any) -> None:
        """Ignore all arguments."""


def _load(path: Path) -> Mapping[str, Any]:
    """Read a file of ``torch.save``; objects that are neither tensors nor containers become stand-ins."""
    with reading(path, f"give {LAYOUTS}"):
        others = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        with torch.serialization.safe_globals([(_StandIn, name) for name in others]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    return content if isinstance(content, Mapping) else {}


def _sizes(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the sizes by the recipe key that sets them."""
    layers = {name.split(".")[2] for name in tensors if name.startswith("session.blocks.")}
    return {
        "model.dim": tensors[PLACES].shape[1],
        "model.layers": len(layers),
        "model.inner": len(tensors[INNER]),
        "text.experts": tensors[GATES].shape[1],
    }


def _check_sizes(path: str, theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor], recipe: Recipe) -> None:
    _check_names(path, theirs, (GATES, PLACES, INNER))
    own = _sizes(ours)
    for key, size in _sizes(theirs).items():
        if size != own[key]:
            raise InputError(f"{path} has {key} {size}, but this run has {own[key]}; set {key}={size}")
    there, here = (tensors[GATES].shape[0] for tensors in (theirs, ours))
    if there != here:
        raise InputError(
            f"{path} needs text vectors of {there} columns, but this run has {here}; use its text encoder "
            "(text.encoder, text.truncate_dim, data.vectors)"
        )
    if len(theirs[PLACES]) < len(ours[PLACES]):
        raise InputError(
            f"{path} has {len(theirs[PLACES])} positions, but model.max_len is {recipe.model.max_len}; "
            f"set model.max_len={len(theirs[PLACES])}"
        )
    _check_names(path, theirs, ours)
    more = next((name for name in theirs if name.startswith("session.") and name not in ours), None)
    if more is not None:
        raise InputError(f"{path} has {more}, which the model does not have; set id.session=sasrec")


def _check_names(path: str, theirs: Mapping[str, Tensor], wanted: Iterable[str]) -> None:
    missing = next((name for name in wanted if name not in theirs), None)
    if missing is not None:
        raise InputError(f"{path} has an unknown layout: {missing} is missing; give {LAYOUTS}")


def _check_text(path: str, source: PretrainedWeights, recipe: Recipe) -> None:
    """Check what shapes do not show: attention heads, and whether text vectors have the same meaning."""
    if source.heads is not None and source.heads != recipe.model.heads:
        raise InputError(
            f"{path} has model.heads {source.heads}, but this run has {recipe.model.heads}; "
            f"set model.heads={source.heads}"
        )
    if source.recipe is None:
        return
    given = recipe.data.vectors or source.recipe.data.vectors
    scaling = ("whiten",) if recipe.text.whiten else ("whiten", "standardise")
    for key in () if given else ("encoder", *scaling, "prompt", "truncate_dim"):
        there, here = getattr(source.recipe.text, key), getattr(recipe.text, key)
        if there != here:
            raise InputError(
                f"{path} has text.{key} {there!r}, but this run has {here!r}; set text.{key}={there}, or "
                "pretrain again"
            )
