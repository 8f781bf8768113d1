"""Graphs of sessions; needs only numpy.

There are two kinds: one graph per prefix with its items and their order (`session_graphs`), and one graph of
the transitions of all sessions with their users (`transition_graph`). Edges are an `Adjacency`; in torch, the
mean over neighbours is ``embedding_bag(ids, states, offsets, mode="mean", include_last_offset=True)``.

This format was chosen for its speed: forward and backward passes at width 64 take, in milliseconds on one
thread of a 2-core CPU:

======================================  ==========================  ==========  =============================
edges as                                512 prefixes of 1-20 items  of 1-50     40,000 nodes, 1,040,000 edges
======================================  ==========================  ==========  =============================
dense matrices (N, M, M)                9                           26          -
pairs, ``index_add``                    8                           24          580
``segment_reduce``                      -                           -           1270
bags                                    7                           16          105
bags, gradient by bags of transposed    6                           10          14
the same without padded nodes           1                           7           -
======================================  ==========================  ==========  =============================
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alterrec import _core
from alterrec._core import SessionStore

__all__ = ["Adjacency", "SessionGraphs", "session_graphs", "transition_graph"]

Int64: TypeAlias = NDArray[np.int64]


class Adjacency(NamedTuple):
    """Edges as compressed rows: the neighbours of a node are ``ids[offsets[node]:offsets[node + 1]]``.

    Attributes:
        offsets: (nodes + 1,) int64.
        ids: (edges,) int64, ascending for each node.
    """

    offsets: Int64
    ids: Int64


class SessionGraphs(NamedTuple):
    """The graphs of N prefixes, whose T nodes are numbered consecutively. All arrays are int64.

    Attributes:
        nodes: (T,) item of each node: the distinct items of each prefix, ascending.
        starts: (N + 1,); prefix n has the nodes ``starts[n]`` to ``starts[n + 1] - 1``.
        node_of_place: (N, L) node of each item. It is 0 at padding, which is also a node, so mask by lengths.
        predecessors: for each node, the distinct nodes that directly precede it in the prefix.
        successors: for each node, the distinct nodes that directly follow it: the same edges reversed.
    """

    nodes: Int64
    starts: Int64
    node_of_place: Int64
    predecessors: Adjacency
    successors: Adjacency


def session_graphs(items: ArrayLike, lengths: ArrayLike, num_items: int) -> SessionGraphs:
    """Build one graph per prefix: a node for each item, and an edge u -> v if v directly follows u.

    A pair that occurs twice is one edge; an item that follows itself has an edge to itself.

    Args:
        items: (N, L) integer item ids, right-padded.
        lengths: (N,) integers, number of items of each prefix, 1 to L.
        num_items: size of the catalogue.

    Raises:
        ValueError: an argument is outside its range, or an item is not in 0..num_items-1.

    Example:
        >>> graphs = session_graphs([[7, 2, 7, 0]], [3], num_items=8)
        >>> graphs.nodes, graphs.node_of_place
        (array([2, 7]), array([[1, 0, 1, 0]]))
        >>> graphs.predecessors
        Adjacency(offsets=array([0, 1, 2]), ids=array([1, 0]))

    Wu et al., "Session-based Recommendation with Graph Neural Networks", AAAI 2019, Section 3.
    """
    nodes, starts, node_of_place, predecessors, successors = _core.session_graphs(items, lengths, num_items)
    return SessionGraphs(nodes, starts, node_of_place, Adjacency(*predecessors), Adjacency(*successors))


def transition_graph(store: SessionStore, predecessors: int = 12) -> Adjacency:
    """Build one graph of the transitions of all sessions, over items 0..V-1 and users V..V+U-1.

    U is the highest user + 1, or 0 if the store has no users. The user -1 is unknown and has no node.
    There is an edge in both directions between

    - each item and its ``predecessors`` most frequent direct predecessors (ties: the one seen first);
    - each two consecutive items, once per occurrence;
    - the user and the item of each interaction;

    and an edge from each node to itself. Parallel edges are kept, so that they weight the mean. The graph is
    its own transpose, so the gradient of a mean over it is a sum over it.

    Args:
        store: the training sessions; users are numbered from 0, and -1 is an unknown user.
        predecessors: number of predecessors per item, 1 or more.

    Raises:
        ValueError: an argument is outside its range.

    Example:
        >>> store = SessionStore.from_arrays([0, 0, 1], [0, 1, 1], user_ids=[0, 0, 0])
        >>> graph = transition_graph(store)
        >>> [graph.ids[start:stop].tolist() for start, stop in zip(graph.offsets, graph.offsets[1:])]
        [[0, 1, 1, 2], [0, 0, 1, 2, 2], [0, 1, 1, 2]]

    Pang et al., "Heterogeneous Global Graph Neural Networks for Personalized Session-based Recommendation",
    WSDM 2022, Section 4.1, as its published code builds it, where the links between similar items and between
    similar users are switched off.
    """
    return Adjacency(*_core.transition_graph(store, predecessors))
