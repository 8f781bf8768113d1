"""A mixture of experts over text vectors.

Legend: V items, R rows of a part, F width of text vectors, D width, E experts.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alterrec.nn.dropout import kept
from alterrec.nn.item_encoders import TextItems


class MixtureAdapter(TextItems):
    """Text vectors through experts that shift and rotate them, mixed by gates: UniSRec's adaptor.

    ``sum_e gate_e W_e (x - shift_e)`` with ``gate = softmax(x G)``. While it learns, each gate's logit has
    noise ``n (softplus(x N) + 0.01)``, n ~ N(0, 1), and each expert its own dropout on x. Gates and shifts
    start at 0, experts from N(0, 0.02), whatever the rest of a network starts from. Hou et al., "Towards
    Universal Sequence Representation Learning for Recommender Systems", KDD 2022, section 2.1.

    Example:
        >>> MixtureAdapter(torch.randn(5, 8), dim=4, experts=3)().shape
        torch.Size([5, 4])
    """

    keeps_start = True

    def __init__(
        self, vectors_VF: Tensor, dim: int, experts: int, dropout: float = 0.0, standardise: bool = False
    ) -> None:
        super().__init__(vectors_VF, dim, standardise)
        width = vectors_VF.shape[1]
        self.gates_FE = nn.Parameter(torch.zeros(width, experts))
        self.noise_FE = nn.Parameter(torch.zeros(width, experts))
        self.shifts_EF = nn.Parameter(torch.zeros(experts, width))
        self.experts_EDF = nn.Parameter(torch.empty(experts, dim, width).normal_(std=0.02))
        self.dropout = dropout

    def rows(self, vectors_RF: Tensor) -> Tensor:
        """Rows (R, D) of a part."""
        noise_RE = None
        if self.training:
            noise_RE = vectors_RF.new_empty(len(vectors_RF), self.gates_FE.shape[1]).normal_()
        return self.mixed(vectors_RF, self.gates(vectors_RF, noise_RE))

    def gates(self, vectors_RF: Tensor, noise_RE: Tensor | None = None) -> Tensor:
        """The share of each expert (R, E)."""
        logits_RE = vectors_RF @ self.gates_FE
        if noise_RE is not None:
            logits_RE = logits_RE + noise_RE * (F.softplus(vectors_RF @ self.noise_FE) + 0.01)
        return logits_RE.softmax(1)

    def mixed(self, vectors_RF: Tensor, gates_RE: Tensor) -> Tensor:
        """Rows (R, D) by given shares."""
        share = self.dropout if self.training else 0.0
        parts = [
            # W (x / kept - shift), without dividing or shifting every vector.
            gate_R[:, None]
            * F.linear(
                vectors_RF * kept(vectors_RF, share) if share else vectors_RF,
                expert_DF / (1 - share),
                -(expert_DF @ shift_F),
            )
            for gate_R, expert_DF, shift_F in zip(
                gates_RE.unbind(1), self.experts_EDF, self.shifts_EF, strict=True
            )
        ]
        return torch.stack(parts).sum(0)
