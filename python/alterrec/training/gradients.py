"""The gradients of all processes, added up; with what they tell each other in every step."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from alterrec import parallel

# Gradients with more values are sent as they are; smaller ones are copied into one message.
ALONE = 2**16


class GradientSum:
    """Adds up the gradients of the parameters of a network over all processes.

    Args:
        parameters: those of the network that is trained.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self._parameters = [value for value in parameters if value.requires_grad]
        self._trained: list[nn.Parameter] | None = None

    def add_up(self, *, wanted: bool, stopped: bool) -> tuple[bool, bool]:
        """Replace every gradient by its sum.

        Args:
            wanted: whether this process asks for a checkpoint.
            stopped: whether this process was asked to stop.

        Returns:
            Whether any process asks for a checkpoint, and whether any was asked to stop.
        """
        if parallel.job().world == 1:
            return wanted, stopped
        trained = self._trained_in_all()
        for value in trained:
            if value.grad is not None and value.grad.is_sparse:
                value.grad = _rows_of_all(value.grad)
        gradients = [value.grad for value in trained if value.grad is not None and not value.grad.is_sparse]
        small = [gradient for gradient in gradients if gradient.numel() <= ALONE]
        like = gradients[0]
        flags = torch.tensor([wanted, stopped], dtype=like.dtype, device=like.device)
        # Flags travel with the gradients, so a step has one small message.
        message = parallel.add_up(torch.cat([*(gradient.flatten() for gradient in small), flags]))
        *sums, flags = message.split([*(gradient.numel() for gradient in small), 2])
        for gradient, total in zip(small, sums, strict=True):
            gradient.copy_(total.view_as(gradient))
        for gradient in gradients:
            if gradient.numel() > ALONE:
                parallel.add_up(gradient)
        asked = (flags > 0).tolist()
        return asked[0], asked[1]

    def _trained_in_all(self) -> list[nn.Parameter]:
        """Return the parameters that have a gradient in some process; they get one in each.

        The same parameters have one in every step of a phase, so this is found out once.
        """
        if self._trained is None:
            device = self._parameters[0].device
            found = torch.tensor([value.grad is not None for value in self._parameters], device=device)
            found = parallel.add_up(found.int())
            self._trained = [
                value for value, any_ in zip(self._parameters, found.tolist(), strict=True) if any_
            ]
        for value in self._trained:
            if value.grad is None:
                value.grad = torch.zeros_like(value)
        return self._trained


def _rows_of_all(gradient_VD: Tensor) -> Tensor:
    """Return the sum of gradients (V, D) of which each process has some rows; only these are sent."""
    own = gradient_VD.coalesce()
    numbers, values = parallel.laid_end_to_end(own.indices()[0], own.values())
    return torch.sparse_coo_tensor(numbers[None], values, gradient_VD.shape).coalesce()
