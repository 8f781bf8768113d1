"""Systems that read graphs: of each session (`srgnn`), of all sessions and their users (`hggnn`)."""

from __future__ import annotations

from alterrec.models.base import Recommender
from alterrec.models.parts import Items, only_id
from alterrec.recipe import Recipe


def srgnn(recipe: Recipe, items: Items) -> Recommender:
    """SR-GNN: a gated graph neural network over the graph of each session.

    Paper: Wu et al., "Session-based Recommendation with Graph Neural Networks", AAAI 2019.

    Public code: CRIPAC-DIG/SR-GNN (its PyTorch part), and RecBole 1.2.1; both tested for parity. They differ
    in the update of a node: the paper's Eq. 5 and RecBole have ``(1 - z) * old + z * new``, the authors' code
    ``z * old + (1 - z) * new``, which is that of torch's GRU cell and ours. As 1 - sigmoid(x) is sigmoid(-x),
    the two are one function: with the update gate's rows of all weights negated one model is the other, and
    start values are as likely as their negatives. So there is no field to choose.

    As both codes, and unlike the paper's equations: messages have a bias before the mean over neighbours and
    one after it, and the reset gate acts after the linear layer of the state, as in every GRU cell.

    Deviations:
        - the last ``model.max_len`` items of a prefix are read, in the authors' code all of it;
        - the softmax has the items alone, RecBole's a column for padding too;
        - in the preset ``original`` the learning rate decays after 3, 6, ... epochs; the authors' code steps
          its schedule before the first epoch, and so after 2, 5, ...; it chooses its epochs on the test set,
          those of Hits and of MRR apart, ours one epoch on validation.
    """
    return only_id(recipe, items)
