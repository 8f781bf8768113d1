"""From the host to a device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def on_device(values: np.ndarray, device: str) -> Tensor:
    """An array as a tensor on a device, through pinned memory where that lets the copy go on alone.

    Example:
        >>> on_device(np.array([1, 2]), "cpu")
        tensor([1, 2])
    """
    tensor = torch.from_numpy(values)
    if not device.startswith("cuda"):
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
