"""Add up the gradients of all processes, and tell all of them who asks for a checkpoint or a stop."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from alterrec import parallel
from alterrec.nn.item_encoders import divided_tensors
from alterrec.training.optimisers import touched_rows

# Gradients with more values are sent alone; smaller ones are copied into one message.
ALONE = 2**16
# A table is sent as rows if all processes together have a gradient in fewer than one in so many of its rows.
# Measured with gloo and two processes (benches/processes.py): at one in 8, finding and sending the rows takes
# 0.8 to 1.0 of the time of the table, at one in 4 as long, at one in 2 up to twice as long.
ROWS = 8


class GradientSum:
    """Adds up the gradients of the parameters of a network over all processes.

    A process has the whole gradient of its rows of a divided table, which stays as it is.

    Args:
        network: the network that is trained.
    """

    def __init__(self, network: nn.Module) -> None:
        self._parameters = [value for value in network.parameters() if value.requires_grad]
        divided = divided_tensors(network)
        self._divided = {id(value) for name, value in network.named_parameters() if name in divided}
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
        trained = [value for value in self._trained_in_all() if id(value) not in self._divided]
        for value in trained:
            if value.grad is not None and value.grad.is_sparse:
                value.grad = _rows_of_all(value.grad)
        gradients = [value.grad for value in trained if value.grad is not None and not value.grad.is_sparse]
        small = [gradient for gradient in gradients if gradient.numel() <= ALONE]
        large = [gradient for gradient in gradients if gradient.numel() > ALONE]
        rows = [rows_with_gradient(gradient) for gradient in large]
        like = self._parameters[0]
        # Flags and counts travel with the gradients, so a step has one small message.
        flags = torch.tensor([wanted, stopped, *map(len, rows)], dtype=like.dtype, device=like.device)
        message = parallel.add_up(torch.cat([*(gradient.flatten() for gradient in small), flags]))
        sizes = [*(gradient.numel() for gradient in small), len(flags)]
        *sums, flags = torch.split(message, sizes)
        for gradient, total in zip(small, sums, strict=True):
            gradient.copy_(total.view_as(gradient))
        asks, stops, *counts = flags.tolist()
        for gradient, own, count in zip(large, rows, counts, strict=True):
            if count * ROWS < len(gradient):
                add_up_rows(gradient, own)
            else:
                parallel.add_up(gradient)
        return asks > 0, stops > 0

    def _trained_in_all(self) -> list[nn.Parameter]:
        """Return the parameters that have a gradient in at least one process, with zeros where it is missing.

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


def add_up_rows(gradient_VD: Tensor, rows_U: Tensor) -> None:
    """Replace a gradient by its sum over all processes, of which each sends the rows that it has.

    Args:
        gradient_VD: the gradient of a table.
        rows_U: the rows that are not zero in this process.
    """
    numbers, values = parallel.rows_of_each(rows_U, gradient_VD[rows_U])
    gradient_VD[rows_U] = 0
    # In the order of the processes in each of them, so that all get the same sums to the last bit. A process
    # has no row twice, so a device's order of additions does not matter either.
    for own, parts in zip(numbers, values, strict=True):
        gradient_VD.index_add_(0, own, parts)


def rows_with_gradient(gradient: Tensor) -> Tensor:
    """Return the numbers of the rows of a gradient that are not all zero.

    Example:
        >>> rows_with_gradient(torch.tensor([[0.0, 0.0], [0.0, 2.0]]))
        tensor([1])
    """
    return torch.cat([rows for rows, _ in touched_rows(gradient.reshape(len(gradient), -1))])


def _rows_of_all(gradient_VD: Tensor) -> Tensor:
    """Return the sum of gradients (V, D) of which each process has some rows; only these are sent."""
    own = gradient_VD.coalesce()
    numbers, values = (torch.cat(each) for each in parallel.rows_of_each(own.indices()[0], own.values()))
    return torch.sparse_coo_tensor(numbers[None], values, gradient_VD.shape).coalesce()
