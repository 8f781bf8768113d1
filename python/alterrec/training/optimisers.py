"""Optimisers of a network: Adam, and rules for ID tables that read and write only the rows with a gradient.

Legend: V items, U rows with a gradient, D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from alterrec.nn.item_encoders import IdTable

Moments = dict[int, dict[str, Tensor]]

# Rows that are updated at a time, so that intermediate tensors stay small.
PART = 16_384
# Those of Adam in torch.
BETAS, EPSILON = (0.9, 0.999), 1e-8


class RowOptimiser(torch.optim.Optimizer, ABC):
    """Base class of optimisers of tables (V, D) that change only rows whose gradient is not zero.

    Gradients may be dense or sparse; the result is the same. Subclasses implement ``start`` and ``update``.
    Weight decay is an L2 penalty of the rows that are changed.
    """

    def __init__(self, tables: list[nn.Parameter], lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(tables, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Change the rows of all tables that have a gradient."""
        for group in self.param_groups:
            for table_VD in group["params"]:
                if table_VD.grad is None:
                    continue
                state = self.state[table_VD]
                if not state:
                    state.update(self.start(table_VD))
                if "step" in state:
                    state["step"] += 1
                for rows_U, gradient_UD in touched_rows(table_VD.grad):
                    if group["weight_decay"]:
                        gradient_UD = gradient_UD.add(table_VD[rows_U], alpha=group["weight_decay"])
                    table_VD.index_add_(
                        0, rows_U, self.update(state, rows_U, gradient_UD), alpha=-group["lr"]
                    )

    @abstractmethod
    def start(self, table_VD: Tensor) -> dict[str, Tensor]:
        """Return the state of a table before its first step."""

    @abstractmethod
    def update(self, state: Mapping[str, Tensor], rows_U: Tensor, gradient_UD: Tensor) -> Tensor:
        """Change the state of some rows, and return what is subtracted from them at a learning rate of 1."""


class RowwiseAdagrad(RowOptimiser):
    """Adagrad with one number for each row: the sum of the mean squares of its gradients.

    It needs 4 V bytes, where Adam needs 8 V D. It is the usual rule for the tables of large recommenders
    (``EXACT_ROWWISE_ADAGRAD`` of FBGEMM and TorchRec). Adagrad: Duchi, Hazan and Singer, "Adaptive
    Subgradient Methods for Online Learning and Stochastic Optimization", JMLR 2011.

    Example:
        >>> table = nn.Parameter(torch.zeros(3, 2))
        >>> table.grad = torch.tensor([[3.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
        >>> RowwiseAdagrad([table], lr=1.0).step()
        >>> table.detach()[0].round(decimals=4)  # 3 and 1, divided by the root of (9 + 1) / 2
        tensor([-1.3416, -0.4472])
    """

    def start(self, table_VD: Tensor) -> dict[str, Tensor]:
        return {"sum": table_VD.new_zeros(len(table_VD))}

    def update(self, state: Mapping[str, Tensor], rows_U: Tensor, gradient_UD: Tensor) -> Tensor:
        # The mean of squares in one pass, without a matrix of squares.
        length_U: Tensor = torch.linalg.vector_norm(gradient_UD, dim=1)
        sum_U: Tensor = state["sum"][rows_U] + length_U.square_() / gradient_UD.shape[1]
        state["sum"][rows_U] = sum_U
        return gradient_UD / (sum_U.sqrt() + EPSILON)[:, None]


class LazyAdam(RowOptimiser):
    """Adam whose moments of a row decay only in steps in which the row has a gradient.

    It needs as much memory as Adam, but a step reads and writes only the rows that it uses. The correction of
    the bias counts all steps. The rule is that of ``torch.optim.SparseAdam``.

    Example:
        >>> table = nn.Parameter(torch.zeros(2, 1))
        >>> table.grad = torch.tensor([[5.0], [0.0]])
        >>> LazyAdam([table], lr=0.1).step()
        >>> table.detach().round(decimals=4).tolist()
        [[-0.10000000149011612], [0.0]]
    """

    def start(self, table_VD: Tensor) -> dict[str, Tensor]:
        return {
            "step": torch.zeros((), dtype=torch.float32),
            "exp_avg": torch.zeros_like(table_VD),
            "exp_avg_sq": torch.zeros_like(table_VD),
        }

    def update(self, state: Mapping[str, Tensor], rows_U: Tensor, gradient_UD: Tensor) -> Tensor:
        steps = int(state["step"])
        first_UD = state["exp_avg"][rows_U].lerp_(gradient_UD, 1 - BETAS[0])
        second_UD = state["exp_avg_sq"][rows_U].lerp_(gradient_UD.square(), 1 - BETAS[1])
        state["exp_avg"][rows_U] = first_UD
        state["exp_avg_sq"][rows_U] = second_UD
        root_UD = second_UD.div_(1 - BETAS[1] ** steps).sqrt_().add_(EPSILON)
        return first_UD.div_(1 - BETAS[0] ** steps).div_(root_UD)


RULES: Mapping[str, Callable[..., RowOptimiser]] = {
    "lazy_adam": LazyAdam,
    "rowwise_adagrad": RowwiseAdagrad,
}


def touched_rows(gradient_VD: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the rows of a gradient that are not zero, and their values (U, D), in parts.

    Example:
        >>> gradient = torch.tensor([[0.0, 0.0], [0.0, 2.0]])
        >>> [(rows.tolist(), values.tolist()) for rows, values in touched_rows(gradient)]
        [([1], [[0.0, 2.0]])]
        >>> [(rows.tolist(), values.tolist()) for rows, values in touched_rows(gradient.to_sparse(1))]
        [([1], [[0.0, 2.0]])]
    """
    if gradient_VD.is_sparse:
        numbers, values_RD = gradient_VD._indices()[0], gradient_VD._values()
        if not bool((numbers[1:] > numbers[:-1]).all()):
            whole = gradient_VD.coalesce()
            numbers, values_RD = whole.indices()[0], whole.values()
    else:
        numbers, values_RD = torch.arange(len(gradient_VD), device=gradient_VD.device), gradient_VD
    for first in range(0, len(numbers), PART):
        rows_R, part_RD = numbers[first : first + PART], values_RD[first : first + PART]
        # Twice as fast as `any`; NaN differs from 0, too.
        used_R = part_RD.abs().amax(1) != 0
        yield (rows_R, part_RD) if bool(used_R.all()) else (rows_R[used_R], part_RD[used_R])


class NetworkOptimiser:
    """The optimiser of a network: Adam, and with another rule for its ID tables also that one.

    Args:
        network: the network.
        rule: ``adam``, ``lazy_adam`` or ``rowwise_adagrad``, for the rows of its ID tables.
        lr: learning rate of all parameters.
        weight_decay: L2 penalty.

    Example:
        >>> network = nn.Sequential(IdTable(5, 4), nn.Linear(4, 4))
        >>> optimiser = NetworkOptimiser(network, "rowwise_adagrad", lr=0.1)
        >>> network(torch.tensor([0, 3])).sum().backward()
        >>> optimiser.step()
        >>> {index: sorted(state) for index, state in optimiser.tensors().items()}[0]
        ['sum']
    """

    def __init__(self, network: nn.Module, rule: str, lr: float, weight_decay: float = 0.0) -> None:
        tables = [part.rows_VD for part in network.modules() if isinstance(part, IdTable)]
        own = {id(table) for table in tables} if rule in RULES else set()
        self.parameters = list(network.parameters())
        others = [value for value in self.parameters if id(value) not in own]
        self.parts: list[torch.optim.Optimizer] = []
        if others:
            self.parts.append(torch.optim.Adam(others, lr=lr, weight_decay=weight_decay, fused=True))
        if own:
            self.parts.append(RULES[rule](tables, lr, weight_decay))

    def step(self) -> None:
        """Change the parameters, and free their gradients."""
        for part in self.parts:
            part.step()
            part.zero_grad(set_to_none=True)

    def set_rate(self, lr: float) -> None:
        """Set the learning rate of all parameters."""
        for part in self.parts:
            part.param_groups[0]["lr"] = lr

    def tensors(self) -> Moments:
        """Return the state of each parameter, by its place in the network; the next step changes it."""
        return {
            index: dict(part.state[value])
            for part in self.parts
            for index, value in enumerate(self.parameters)
            if value in part.state
        }

    def restore(self, moments: Mapping[int, Mapping[str, Tensor]]) -> None:
        """Continue from what :meth:`tensors` returned.

        Raises:
            ValueError: the state is not that of these parameters.
        """
        places = {id(value): index for index, value in enumerate(self.parameters)}
        for part in self.parts:
            values = part.param_groups[0]["params"]
            state = {
                own: moments[places[id(value)]]
                for own, value in enumerate(values)
                if places[id(value)] in moments
            }
            for own, found in state.items():
                _check_state(part, values[own], found, places[id(values[own])])
            part.load_state_dict(part.state_dict() | {"state": state})


def _check_state(part: torch.optim.Optimizer, value: Tensor, found: Mapping[str, Tensor], index: int) -> None:
    like = value.shape, value.dtype
    wanted = {"step": (torch.Size([]), torch.float32), "exp_avg": like, "exp_avg_sq": like}
    if isinstance(part, RowwiseAdagrad):
        wanted = {"sum": (value.shape[:1], value.dtype)}
    if {key: (each.shape, each.dtype) for key, each in found.items()} != wanted:
        raise ValueError(f"the moments of parameter {index} are not those of its optimiser")
