"""Building blocks of networks: the interface of session encoders, dropout and initialisation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Each draw has 16 bits.
STEPS = 2**16


class SessionEncoder(nn.Module):
    """Base class of session encoders; class attributes declare what an encoder reads.

    By default ``forward(table_VD, items_RL)`` gets the item table and whole right-padded sessions and returns
    a state (R, L, D) at every place: the vector of the prefix that ends there.

    Attributes:
        reads_prefixes: ``forward(table_VD, items_NL, length_N)`` gets prefixes with their lengths and returns
            vectors (N, D).
        reads_users: the users of the prefixes (N,) are passed as a further argument.
        reads_graphs: the graphs of the prefixes are passed as a further argument.
        encodes_last: ``last(table_VD, items_NL, length_N)`` returns the vectors of prefixes faster than
            ``forward``.
    """

    reads_prefixes: bool = False
    reads_users: bool = False
    reads_graphs: bool = False
    encodes_last: bool = False

    def last(self, table_VD: Tensor, items_NL: Tensor, length_N: Tensor) -> Tensor:
        """Return the vectors (N, D) of prefixes; only for encoders that declare ``encodes_last``."""
        raise NotImplementedError


class Dropout(nn.Module):
    """Dropout that is fast on CPUs.

    In training, each value becomes 0 with probability ``p``, and the others are multiplied by
    ``1 / (1 - p)``. On a CPU, ``torch.nn.Dropout`` took a sixth of the step of a Transformer, this class a
    fiftieth. Probabilities are rounded to multiples of 1 / 65536.

    Example:
        >>> thinned = Dropout(0.5)(torch.ones(100))
        >>> thinned.unique().tolist(), Dropout(0.5).eval()(torch.ones(2)).tolist()
        ([0.0, 2.0], [1.0, 1.0])
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.p:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.p)
        return x * dropout_mask(x, self.p).mul_(1 / (1 - self.p))


def dropout_mask(x: Tensor, p: float) -> Tensor:
    """Return a mask with the shape, type and device of ``x``: 0 with probability ``p``, else 1.

    Example:
        >>> dropout_mask(torch.rand(2, 3), p=0.0).tolist()
        [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device).random_(-(2**63), None)
    draws = words.view(torch.int16)[: x.numel()].view(x.shape)
    return draws.ge_(round(p * STEPS) - STEPS // 2).to(x.dtype)


def initialise(module: nn.Module, kind: str, std: float, dim: int) -> None:
    """Initialise the parameters of ``module`` from torch's global generator.

    Scalar parameters, and parameters of submodules with the attribute ``keeps_start``, are left unchanged.

    Args:
        module: changed in place.
        kind: ``normal``: tables and matrices from N(0, std), biases 0, norms 1 and 0; ``uniform``: every
            parameter, including norms, uniform within 1/sqrt(dim), as in the authors' code.
        std: standard deviation of ``normal``.
        dim: width d of ``uniform``.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> initialise(layer, "normal", std=0.02, dim=2)
        >>> layer.bias.tolist()
        [0.0, 0.0]
    """
    for part in module.modules():
        for name, value in part.named_parameters(recurse=False):
            if getattr(part, "keeps_start", False) or value.ndim == 0:
                continue
            with torch.no_grad():
                if kind == "uniform":
                    value.uniform_(-(dim**-0.5), dim**-0.5)
                elif isinstance(part, nn.LayerNorm):
                    value.fill_(1.0 if name == "weight" else 0.0)
                elif name == "bias":
                    value.zero_()
                else:
                    value.normal_(std=std)


def keep_start(module: nn.Module) -> None:
    """Exclude ``module`` and its submodules from :func:`initialise`.

    Example:
        >>> layer = nn.Linear(2, 2, bias=False)
        >>> before = layer.weight.clone()
        >>> keep_start(layer)
        >>> initialise(layer, "normal", std=0.02, dim=2)
        >>> torch.equal(layer.weight, before)
        True
    """
    for part in module.modules():
        part.keeps_start = True  # type: ignore[assignment]
