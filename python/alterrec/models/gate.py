"""A gate: weights of the parts of a sum that depend on the prefix.

Legend: N samples, V items, F features, P parts whose weight the gate changes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from alterrec.models.batches import SessionBatch

# The features of a prefix that the weights depend on.
FEATURES = (
    "log training count of the last item",
    "log length of the prefix",
    "largest log probability of ID",
    "largest log probability of text",
)
# A feature counts as at most this many standard deviations from its mean.
FARTHEST = 3.0


class Gate(NamedTuple):
    """Weights of the parts of a sum that depend on the features f of a prefix.

    The weight of ID is ``sigmoid(logit(alpha) + c_id . f)``, where alpha is its fixed weight, and text has
    the rest of 1. A part without training has its fixed weight times ``exp(c_part . f)``. If all coefficients
    c are 0, or f is the mean of validation, these are the fixed weights.

    Attributes:
        parts: the parts that have coefficients: ``id``, and those without training.
        coefficients_PF: float64 coefficients of each part.
        centre_F, spread_F: float64 mean and standard deviation of each feature on validation.
        counts_V: interactions of each item in training.

    Example:
        >>> from alterrec.models.batches import SessionBatch
        >>> zeros, ones = torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
        >>> by_count = torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
        >>> gate = Gate(("id",), by_count, zeros, ones, counts_V=torch.tensor([0, 6]))
        >>> batch = SessionBatch.of_prefixes(torch.tensor([[0], [1]]), torch.tensor([1, 1]))
        >>> parts = {"id": torch.ones(2, 2), "text": torch.ones(2, 2)}
        >>> gate.scaled(parts, parts, batch, {"id": 0.5, "text": 0.5})["id"]  # 1.75 is 2 * 7 / (7 + 1)
        tensor([[1.0000, 1.0000],
                [1.7500, 1.7500]])
    """

    parts: tuple[str, ...]
    coefficients_PF: Tensor
    centre_F: Tensor
    spread_F: Tensor
    counts_V: Tensor

    def scaled(
        self,
        terms: Mapping[str, Tensor],
        parts: Mapping[str, Tensor],
        batch: SessionBatch,
        weights: Mapping[str, float],
    ) -> dict[str, Tensor]:
        """Return the terms (N, V) of a sum, multiplied so that their fixed weights become those of the gate.

        Args:
            terms: the terms of the sum.
            parts: the scores of the parts, of which the features are computed.
            batch: the prefixes.
            weights: the fixed weights.
        """
        raw_NF = features(parts, batch, self.counts_V)
        return multiplied(terms, factors(self, self.standardised(raw_NF), weights))

    def standardised(self, raw_NF: Tensor) -> Tensor:
        """Return features in standard deviations from their mean on validation."""
        centre_F, spread_F = self.centre_F.to(raw_NF), self.spread_F.to(raw_NF)
        return ((raw_NF - centre_F) / spread_F).clamp(-FARTHEST, FARTHEST)


def features(parts: Mapping[str, Tensor], batch: SessionBatch, counts_V: Tensor) -> Tensor:
    """Return the features (N, F) of prefixes, float64, in their own units."""
    last_N = batch.items_RL[batch.row_N, batch.length_N - 1]
    tops = [(parts[part].amax(1) - parts[part].logsumexp(1)).double() for part in ("id", "text")]
    count_N = counts_V.to(last_N.device)[last_N].double()
    return torch.stack([count_N.log1p(), batch.length_N.double().log(), *tops], 1)


def factors(gate: Gate, features_NF: Tensor, weights: Mapping[str, float]) -> dict[str, Tensor]:
    """Return the factor (N,) of the fixed weight of each part, for standardised features."""
    change_NP = features_NF @ gate.coefficients_PF.to(features_NF).T
    changes = dict(zip(gate.parts, change_NP.unbind(1), strict=True))
    found = {part: change_N.exp() for part, change_N in changes.items() if part != "id"}
    if "id" in changes:
        share_N = (math.log(weights["id"] / weights["text"]) + changes["id"]).sigmoid()
        found |= {"id": share_N / weights["id"], "text": (1 - share_N) / weights["text"]}
    return found


def multiplied(terms: Mapping[str, Tensor], by_part: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return terms (N, V) whose rows are multiplied by the factors (N,) of their part, if it has any."""
    return {
        part: term * by_part[part][:, None].to(term) if part in by_part else term
        for part, term in terms.items()
    }


def gated_parts(weights: Mapping[str, float], untrained: Sequence[str]) -> tuple[str, ...]:
    """Return the parts of a sum whose weights a gate can change.

    Example:
        >>> gated_parts({"id": 0.4, "text": 0.6, "neighbours": 0.5, "trend": 0.0}, ["neighbours", "trend"])
        ('id', 'neighbours')
    """
    both = ("id",) if 0 < weights["id"] < 1 else ()
    return (*both, *(part for part in untrained if weights[part]))
