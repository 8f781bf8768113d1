"""Dropout whose masks do not depend on the batch, the process or the device.

Each value is dropped or kept by bits that are a function of (seed of the step, layer, number of the row,
place, column). The row is an item or a session, so that a sample has the same masks in whatever batch and on
whatever process it is read, and a run that continues needs no state of a generator.

Legend: R rows, L places, K requested places, U items, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from alterrec.sessions import derive_seed, random_words

# Each draw has 16 bits.
STEPS = 2**16
# Heads of attention are this many places apart.
PLACES_PER_HEAD = 2**20
# Purposes of derived seeds.
_ITEMS, _SESSIONS = range(2)

# SplitMix64 on a device, see rust/random.rs: its constants as int64, and (shift, multiplier) of its rounds.
_WEYL = 0x9E3779B97F4A7C15 - 2**64
_ROUNDS = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))


@dataclass
class _Draws:
    """The draws of one step.

    Attributes:
        seed: seed of the step.
        number_R: int64 number of each row that session encoders read; None: rows are counted from 0.
        masks: how many masks of sessions were drawn, shared by all replaced copies.
    """

    seed: int
    number_R: Tensor | None
    masks: list[int]


_draws: ContextVar[_Draws | None] = ContextVar("draws", default=None)


@contextmanager
def step_draws(seed: int, number_R: Tensor | None = None) -> Iterator[None]:
    """Context manager of one training step: all masks derive from its seed and the numbers of its rows.

    Outside of it, the seed of each mask comes from torch's global generator, and rows are counted from 0.

    Args:
        seed: seed of the step, 0 to 2**64 - 1.
        number_R: int64 number of each row that session encoders read, on their device.

    Example:
        >>> layer, x = Dropout(0.5), torch.ones(2, 1, 64)
        >>> with step_draws(1, torch.tensor([5, 8])):
        ...     both = layer(x)
        >>> with step_draws(1, torch.tensor([8])):
        ...     torch.equal(layer(x[:1]), both[1:])
        True
    """
    with _using(_Draws(seed, number_R, [0])):
        yield


@contextmanager
def rows_numbered(number_R: Tensor | None) -> Iterator[None]:
    """Context manager in which session encoders read other rows of the same step; None changes nothing."""
    draws = _draws.get()
    if draws is None or number_R is None:
        yield
        return
    with _using(replace(draws, number_R=number_R)):
        yield


@contextmanager
def _using(draws: _Draws) -> Iterator[None]:
    token = _draws.set(draws)
    try:
        yield
    finally:
        _draws.reset(token)


class Dropout(nn.Module):
    """Dropout: in training, each value becomes 0 with probability ``p``, the others grow by ``1 / (1 - p)``.

    Probabilities are rounded to multiples of 1 / 65536. Call it with the rows of sessions (R, ..., D), or
    :meth:`items` with those of items. A session that is encoded twice in a step has two masks; an item has
    one in each step.

    Attributes:
        p: the probability.
        layer: a number that no other layer of the model has, see :func:`number_layers`.

    Example:
        >>> thinned = Dropout(0.5)(torch.ones(1, 100))
        >>> thinned.unique().tolist(), Dropout(0.5).eval()(torch.ones(2)).tolist()
        ([0.0, 2.0], [1.0, 1.0])
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.layer = 0

    def forward(self, x: Tensor, place_RK: Tensor | None = None) -> Tensor:
        """Return the values after dropout.

        Args:
            x: (R, D), (R, L, D), or weights of attention (R, H, L, L).
            place_RK: the place of each vector (R, K). Default: 0, 1, 2, ...
        """
        if not (self.training and self.p and x.numel()):
            return x
        return x * self.mask(x, place_RK)

    def mask(self, x: Tensor, place_RK: Tensor | None = None) -> Tensor:
        """Return what the values are multiplied by."""
        return self._mask(x, *_sessions(self.layer, x, place_RK))

    def items(self, x_UD: Tensor, ids_U: Tensor | None = None) -> Tensor:
        """Return vectors of items after dropout; default: of all items."""
        if not (self.training and self.p and x_UD.numel()):
            return x_UD
        return x_UD * self._mask(x_UD, *_items(self.layer, x_UD, ids_U))

    def _mask(self, x: Tensor, seed: int, numbers: Tensor, places: Tensor) -> Tensor:
        draws = _words(seed, numbers, places, -(-x.shape[-1] // 4)).view(torch.int16)[:, : x.shape[-1]]
        kept = draws.ge(round(self.p * STEPS) - STEPS // 2)
        return kept.to(x.dtype).mul_(1 / (1 - self.p)).view(x.shape)


class ItemNoise(nn.Module):
    """Numbers from N(0, 1) for items, drawn as masks of :class:`Dropout` are.

    Example:
        >>> noise = ItemNoise()
        >>> with step_draws(1):
        ...     both = noise(torch.zeros(2, 3), torch.tensor([5, 8]))
        ...     torch.equal(noise(torch.zeros(1, 3), torch.tensor([8])), both[1:])
        True
    """

    def __init__(self) -> None:
        super().__init__()
        self.layer = 0

    def forward(self, like_UE: Tensor, ids_U: Tensor | None = None) -> Tensor:
        """Return noise of the shape, type and device of ``like_UE``; default: for all items."""
        words = _words(*_items(self.layer, like_UE, ids_U), like_UE.shape[1])
        # 23 bits, in the middle of their step, are exact in float32. 0 and 1 have infinite quantiles.
        uniform = (words & (2**23 - 1)).float().add_(0.5).mul_(2.0**-23)
        return torch.special.ndtri(uniform).to(like_UE)


def keep_masks_uncompiled() -> None:
    """Keep the compiler of torch out of the masks of sessions, which the core draws.

    Example:
        >>> keep_masks_uncompiled()
    """
    uncompiled: Any = torch.compiler.disable(Dropout.mask)  # type: ignore[no-untyped-call]
    Dropout.mask = uncompiled  # type: ignore[method-assign]


def number_layers(module: nn.Module) -> None:
    """Number the layers of a model that draw, so that no two of them have the same masks.

    Example:
        >>> layers = nn.Sequential(Dropout(0.1), nn.Linear(2, 2), Dropout(0.1))
        >>> number_layers(layers)
        >>> layers[0].layer, layers[2].layer
        (1, 2)
    """
    drawing = (part for part in module.modules() if isinstance(part, Dropout | ItemNoise))
    for number, part in enumerate(drawing, start=1):
        part.layer = number


def _sessions(layer: int, x: Tensor, place_RK: Tensor | None) -> tuple[int, Tensor, Tensor]:
    """Return the seed of a mask of sessions, and the number and the place of each of its lines."""
    draws = _draws.get()
    number_R = None if draws is None else draws.number_R
    if number_R is None:
        number_R = torch.arange(len(x), device=x.device)
    lines = x.shape[:-1]
    place = torch.zeros(1, dtype=torch.int64, device=x.device)
    if len(lines) > 1:
        place = torch.arange(lines[-1], device=x.device) if place_RK is None else place_RK
    if len(lines) > 2:
        heads = torch.arange(lines[1], device=x.device)[:, None] * PLACES_PER_HEAD
        place = heads + (place if place_RK is None else place[:, None])
    count = 0
    if draws is not None:
        count = draws.masks[0] = draws.masks[0] + 1
    number = number_R.view(-1, *(1 for _ in lines[1:]))
    return _seed(_SESSIONS, layer, count), number.expand(lines).flatten(), place.expand(lines).flatten()


def _items(layer: int, x_UD: Tensor, ids_U: Tensor | None) -> tuple[int, Tensor, Tensor]:
    """Return the seed of a mask of items, and the number and the place of each of its lines."""
    if ids_U is None:
        ids_U = torch.arange(len(x_UD), device=x_UD.device)
    return _seed(_ITEMS, layer, 0), ids_U, torch.zeros_like(ids_U)


def _seed(purpose: int, layer: int, count: int) -> int:
    draws = _draws.get()
    seed = int(torch.randint(2**63 - 1, ())) if draws is None else draws.seed
    return derive_seed(seed, purpose, layer, count)


def _words(seed: int, numbers: Tensor, places: Tensor, count: int) -> Tensor:
    """Return :func:`~alterrec.sessions.random_words` as int64, on the device of the numbers."""
    if numbers.device.type == "cpu":
        words = random_words(numbers.numpy(), places.numpy(), count, seed=seed)
        return torch.from_numpy(words).view(torch.int64)
    start = torch.full_like(numbers, seed - 2**64 if seed >= 2**63 else seed)
    keys = _split_mix(_split_mix(start, numbers), places)
    return _split_mix(keys[:, None], torch.arange(count, device=numbers.device))


def _split_mix(keys: Tensor, indices: Tensor) -> Tensor:
    """SplitMix64 for tensors of any device: int64, which overflows as its unsigned numbers do."""
    words = keys + (indices + 1) * _WEYL
    for shift, multiplier in _ROUNDS:
        words = (words ^ _shifted(words, shift)) * multiplier
    return words ^ _shifted(words, 31)


def _shifted(words: Tensor, bits: int) -> Tensor:
    """Shift to the right with zeros instead of the sign."""
    return (words >> bits) & (2 ** (64 - bits) - 1)
