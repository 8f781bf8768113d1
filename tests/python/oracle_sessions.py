"""Slow, obvious twins of the session store, its batches and the neighbour kernels."""

from __future__ import annotations

import numpy as np


def grouped(session_ids, item_ids, timestamps=None, user_ids=None):
    """[(session id, items, times, user)] in order of first appearance, sorted by time inside."""
    sessions = {}
    for row, name in enumerate(session_ids):
        sessions.setdefault(int(name), []).append(row)
    groups = []
    for name, rows in sessions.items():
        if timestamps is not None:
            rows = sorted(rows, key=lambda row: timestamps[row])
        times = None if timestamps is None else [int(timestamps[row]) for row in rows]
        user = None if user_ids is None else int(user_ids[rows[0]])
        groups.append((name, [int(item_ids[row]) for row in rows], times, user))
    return groups


def cut(users, timestamps, gap):
    """Sessions as lists of rows: by user, by time, and as they stand where times are equal."""
    sessions = []
    for row in sorted(range(len(users)), key=lambda row: (users[row], timestamps[row] if timestamps else 0)):
        last = sessions[-1][-1] if sessions else None
        again = last is not None and users[last] == users[row]
        if again and (timestamps is None or gap is None or timestamps[row] - timestamps[last] <= gap):
            sessions[-1].append(row)
        else:
            sessions.append([row])
    return sessions


def prefixes(sessions, targets):
    pairs = [(s, end) for s, items in enumerate(sessions) for end in range(1, len(items))]
    return [(s, end) for s, end in pairs if targets == "every" or end == len(sessions[s]) - 1]


def repeat_share(sessions):
    repeats = [sessions[s][end] in sessions[s][:end] for s, end in prefixes(sessions, "every")]
    return sum(repeats) / len(repeats) if repeats else 0.0


def batch(sessions, pairs, max_len, pad):
    """(padded items, lengths, targets, samples) of (session, end) pairs, one row each."""
    starts = np.cumsum([0] + [len(items) for items in sessions])
    kept = [sessions[s][:end][-max_len:] for s, end in pairs]
    width = max((len(prefix) for prefix in kept), default=0)
    items = np.full((len(pairs), width), pad, np.int64)
    for row, prefix in enumerate(kept):
        items[row, : len(prefix)] = prefix
    targets = [sessions[s][end] for s, end in pairs]
    return items, [len(p) for p in kept], targets, [int(starts[s]) + end for s, end in pairs]


def packed(sessions, pairs, max_len):
    """(items, positions, offsets) of the same prefixes, one after the other."""
    kept = [sessions[s][:end][-max_len:] for s, end in pairs]
    items = [item for prefix in kept for item in prefix]
    positions = [position for prefix in kept for position in range(len(prefix))]
    return items, positions, np.cumsum([0] + [len(prefix) for prefix in kept]).tolist()


def co_occurrence(sessions, num_items):
    """(V, V) sessions that hold both items; the diagonal counts the sessions of an item."""
    holds = np.zeros((len(sessions), num_items))
    for s, items in enumerate(sessions):
        holds[s, items] = 1
    return holds.T @ holds


def item_neighbours(sessions, num_items, k, shrinkage):
    """For each item its k most similar items that share a session: [(id, similarity)], best first."""
    counts = co_occurrence(sessions, num_items)
    neighbours = []
    for i in range(num_items):
        row = [
            (j, np.float32(counts[i, j] / (np.sqrt(counts[i, i] * counts[j, j]) + shrinkage)))
            for j in range(num_items)
            if j != i and counts[i, j] > 0
        ]
        neighbours.append(sorted(row, key=lambda pair: (-pair[1], pair[0]))[:k])
    return neighbours


def covisited(sessions, num_items, k, after, before):
    """For each item its k most similar items by the weights of their places: [(id, similarity)]."""
    neighbours = []
    for i in range(num_items):
        sums, count = np.zeros(num_items), 0
        for items in sessions:
            for place, item in enumerate(items):
                if item != i:
                    continue
                count += 1
                for other, j in enumerate(items):
                    distance = other - place
                    if 0 < distance <= len(after):
                        sums[j] += after[distance - 1]
                    elif 0 < -distance <= len(before):
                        sums[j] += before[-distance - 1]
        row = [(j, np.float32(sums[j] / count)) for j in range(num_items) if j != i and sums[j] > 0]
        neighbours.append(sorted(row, key=lambda pair: (-pair[1], pair[0]))[:k])
    return neighbours


def item_neighbour_scores(neighbours, num_items, prefix, decay):
    scores = np.zeros(num_items)
    for distance, item in enumerate(reversed(prefix)):
        for candidate, similarity in neighbours[item]:
            scores[candidate] += decay**distance * similarity
    return scores


def session_neighbour_scores(sessions, num_items, prefix, k, sample):
    """V-SKNN by its definition; positions count from 1 at the oldest item of the prefix."""
    position = {item: place for place, item in enumerate(prefix, start=1)}
    sharing = [s for s, items in enumerate(sessions) if set(items) & set(position)]
    recent = sharing[::-1][:sample]
    weight = {s: sum(position[item] for item in set(sessions[s]) & set(position)) for s in recent}
    kept = sorted(recent, key=lambda s: (-weight[s], -s))[:k]
    scores = np.zeros(num_items)
    for s in kept:
        steps = len(prefix) + 1 - max(position.get(item, 0) for item in sessions[s])
        for item in set(sessions[s]):
            scores[item] += weight[s] / len(prefix) / steps
    return scores
