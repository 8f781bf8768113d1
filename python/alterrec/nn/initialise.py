"""Starting values of all parameters of a network."""

from __future__ import annotations

import torch
from torch import nn


def initialise(module: nn.Module, kind: str, std: float, dim: int) -> None:
    """Draw the parameters of ``module`` anew from torch's global generator.

    Those of a part with the attribute ``keeps_start`` and single numbers stay as they were built.

    Args:
        module: changed in place.
        kind: ``normal``: tables and matrices N(0, std), biases 0, norms at 1 and 0;
            ``uniform``: every parameter within 1/sqrt(dim), norms included, as in the authors' code.
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
    """Let ``module`` and all within it keep the values that they were built with.

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
