"""Slow, obvious twins of the graphs."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise


def session_graph(prefix):
    """(nodes, node of each place, edges u -> v between nodes) of one prefix."""
    nodes = sorted(set(prefix))
    places = [nodes.index(item) for item in prefix]
    return nodes, places, {(places[i], places[i + 1]) for i in range(len(prefix) - 1)}


def transition_edges(sessions, users, num_items, predecessors):
    """The multiset of edges (source, target)."""
    num_users = 0 if users is None else max(users, default=-1) + 1
    edges = [(node, node) for node in range(num_items + num_users)]
    steps = [(before, item) for items in sessions for before, item in pairwise(items)]
    for item in range(num_items):
        # Of equal counts the one met first comes first.
        before = Counter(source for source, target in steps if target == item)
        for other, _ in before.most_common(predecessors):
            edges += [(item, other), (other, item)]
    for source, target in steps:
        edges += [(source, target), (target, source)]
    for items, user in zip(sessions, users or [], strict=False):
        for item in items if user >= 0 else ():
            edges += [(num_items + user, item), (item, num_items + user)]
    return Counter(edges)
