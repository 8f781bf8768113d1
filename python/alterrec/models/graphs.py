"""Systems that read graphs: of each session (`srgnn`), of all sessions and their users (`hggnn`)."""

from __future__ import annotations

from alterrec.graphs import transition_graph
from alterrec.models.base import Network, Recommender
from alterrec.models.parts import ModelInputs, alone, only_id, own_dropout
from alterrec.nn.graph_encoders import GraphNodes, PersonalSession
from alterrec.recipe import Recipe


def srgnn(recipe: Recipe, inputs: ModelInputs) -> Recommender:
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
    return only_id(recipe, inputs)


def hggnn(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    """HG-GNN: one graph of all items and users, and sessions read by their order and by their user.

    Needs users: the data's sessions must have ``user_id``.

    Paper: Pang et al., "Heterogeneous Global Graph Neural Networks for Personalized Session-based
    Recommendation", WSDM 2022.

    Public code: 0215Arthur/HG-GNN, tested for parity; ours follows it where it differs from the paper: one
    kind of edge and of weights for all relations, not one for each; one layer of a mean convolution over the
    graph of :func:`alterrec.graphs.transition_graph`; links between similar items and between similar users
    are switched off in it and are not here. Dropout is on the rows that enter the convolution alone.

    Deviations from the code:
        - its softmax and its ranking have the users' rows among the items'; here items alone are scored;
        - a user who is not in training, or not given, is the mean of all users (the mean of their rows and of
          their neighbours'); in the code the users of all splits have rows, and some are never trained;
        - without a padding item and the user 0 that is never used: neither reaches a session vector.
        - in the preset ``original`` the best epoch is chosen on validation, in the code on the test set.
    """
    graph = inputs.graph
    if graph is None:
        assert inputs.train is not None
        graph = transition_graph(inputs.train, recipe.graph.predecessors)
    choices = recipe.id
    nodes = GraphNodes(inputs.num_items, graph, recipe.model.dim, own_dropout(recipe, choices))
    network = Network(
        nodes,
        PersonalSession(recipe.model.dim, recipe.model.max_len, nodes.num_nodes - inputs.num_items),
        choices.temperature,
        outputs=nodes.items,
        cosine=choices.cosine,
        output_dropout=choices.output_dropout,
        settings=choices,
    )
    return alone(network)
