"""From text vectors to the starting values of an ID table of less width.

Legend: V items, F width of text vectors, D width of the table.
"""

from __future__ import annotations

import torch
from torch import Tensor

from alterrec.nn.item_encoders import column_means, in_parts


def principal_components(vectors_VF: Tensor, dim: int) -> Tensor:
    """Coordinates (V, D) float64 of centred vectors on their D principal components, in descending order.

    Neither vectors nor coordinates are scaled. Exact: the eigenvectors of the covariance, which is added up
    part by part in float64, so that half-precision vectors in a mapped file are widened a part at a time. It
    equals the singular value decomposition to 1e-12 on text vectors of real catalogues, whose largest
    singular value is some 5 times the last one kept. The largest entry of each component is positive.

    Args:
        vectors_VF: floating, any precision.
        dim: D, at most V and F.

    Example:
        >>> principal_components(torch.tensor([[3.0, 0.0], [1.0, 0.0], [2.0, 0.0]]), dim=1).flatten()
        tensor([ 1., -1.,  0.], dtype=torch.float64)
    """
    width = vectors_VF.shape[1]
    mean_F = column_means(vectors_VF)
    covariance_FF = torch.zeros(width, width, dtype=torch.float64)
    for part_RF in in_parts(vectors_VF):
        centred_RF = part_RF.double() - mean_F
        covariance_FF.addmm_(centred_RF.T, centred_RF)
    directions_FD = torch.linalg.eigh(covariance_FF).eigenvectors.flip(1)[:, :dim]
    largest_1D = directions_FD.abs().argmax(0, keepdim=True)
    return _projected(vectors_VF, mean_F, directions_FD * directions_FD.gather(0, largest_1D).sign())


def random_projection(vectors_VF: Tensor, dim: int) -> Tensor:
    """Coordinates (V, D) float64 of centred vectors on D directions drawn from N(0, 1 / D).

    Distances between items are kept in expectation (Johnson and Lindenstrauss, 1984). The directions come
    from torch's global generator.

    Example:
        >>> random_projection(torch.randn(5, 8), dim=3).shape
        torch.Size([5, 3])
    """
    directions_FD = torch.randn(vectors_VF.shape[1], dim, dtype=torch.float64) * dim**-0.5
    return _projected(vectors_VF, column_means(vectors_VF), directions_FD)


def _projected(vectors_VF: Tensor, mean_F: Tensor, directions_FD: Tensor) -> Tensor:
    return torch.cat([(part_RF.double() - mean_F) @ directions_FD for part_RF in in_parts(vectors_VF)])
