"""Slow, obvious twins of `alterrec.ranking` and `alterrec.metrics`: one row, one item, one rank at a time."""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray


def float32s(*values: float) -> list[float]:
    """These values rounded to float32; numpy 1.26 notices elements of float32 arrays that are not."""
    return list(np.array(values, np.float32).tolist())


def excluded(exclude: NDArray[np.int64] | None, row: int) -> set[int]:
    return set() if exclude is None else set(np.atleast_1d(exclude[row]).tolist())


def ranking(scores: NDArray[np.float32], exclude: NDArray[np.int64] | None, row: int) -> list[int]:
    """All candidates of one row in rank order: score descending, then id ascending."""
    values = scores[row].tolist()
    candidates = [item for item in range(len(values)) if item not in excluded(exclude, row)]
    return sorted(candidates, key=lambda item: (-values[item], item))


def fewest_candidates(scores: NDArray[np.float32], exclude: NDArray[np.int64] | None) -> int:
    return min((len(ranking(scores, exclude, row)) for row in range(len(scores))), default=scores.shape[1])


def rank_window(
    scores: NDArray[np.float32], start: int, stop: int, exclude: NDArray[np.int64] | None
) -> list[list[int]]:
    return [sorted(ranking(scores, exclude, row)[start:stop]) for row in range(len(scores))]


def score_key(score: float) -> int:
    """An integer of 32 bits that ascends as scores descend; the zeros have one key."""
    (bits,) = struct.unpack("<I", struct.pack("<f", score if score else 0.0))
    return int(bits if bits >= 2**31 else 2**31 - 1 - bits)


def key_counts(
    scores: NDArray[np.float32], prefixes: NDArray[np.int64], known: int, exclude: NDArray[np.int64] | None
) -> list[list[list[int]]]:
    """For each row and prefix, how many candidates have each next byte among those with the prefix."""
    counts = [[[0] * 256 for _ in row] for row in prefixes]
    for row, of_row in enumerate(prefixes.tolist()):
        for item in ranking(scores, exclude, row):
            digits = f"{score_key(scores[row, item]):032b}"
            for place, prefix in enumerate(of_row):
                if int("0" + digits[:known], 2) == prefix:
                    counts[row][place][int(digits[known : known + 8], 2)] += 1
    return counts


def cut(
    scores: NDArray[np.float32], exclude: NDArray[np.int64] | None, row: int, count: int
) -> tuple[int, int, int]:
    """The cut after the first ``count`` candidates of a row: its key, its ties before it, all of its ties."""
    keys = [score_key(scores[row, item]) for item in ranking(scores, exclude, row)]
    key = keys[max(count - 1, 0)] if keys else score_key(-math.inf)
    return key, keys[:count].count(key), keys.count(key)


def top_ranked(scores: NDArray[np.float32], k: int, exclude: NDArray[np.int64] | None) -> list[list[int]]:
    return [ranking(scores, exclude, row)[:k] for row in range(len(scores))]


def target_counts(
    scores: NDArray[np.float32],
    targets: NDArray[np.int64],
    exclude: NDArray[np.int64] | None,
    excluded_target: str = "missed",
) -> tuple[list[int], list[int]]:
    greater, tied = [], []
    for row, target in enumerate(targets.tolist()):
        values = scores[row].tolist()
        candidates = set(range(len(values))) - excluded(exclude, row)
        if excluded_target == "ranked":
            candidates |= {target}
        greater.append(sum(values[item] > values[target] for item in candidates))
        same = sum(values[item] == values[target] for item in candidates)
        tied.append(same if target in candidates else 0)
    return greater, tied


def log_normaliser(
    scores: NDArray[np.float32], seen: NDArray[np.int64], row: int, temperature: float
) -> float:
    """log(sum(exp(score / temperature))) over the items of a row that are not seen."""
    others = [value for item, value in enumerate(scores[row].tolist()) if item not in excluded(seen, row)]
    most = max(others, default=-math.inf)
    if math.isinf(most):
        return most
    return most / temperature + math.log(sum(math.exp((value - most) / temperature) for value in others))


def softmax(
    scores: NDArray[np.float32],
    exclude: NDArray[np.int64] | None,
    candidates: NDArray[np.bool_] | None,
    row: int,
) -> tuple[list[float], float]:
    """The probability of each item of a row, 0 for those that are no candidates, and their logsumexp."""
    chosen = [True] * scores.shape[1] if candidates is None else candidates[row].tolist()
    inside = [item for item, is_one in enumerate(chosen) if is_one and item not in excluded(exclude, row)]
    values = {item: float(scores[row, item]) for item in inside}
    if math.inf in values.values() or any(map(math.isnan, values.values())):
        return [math.nan] * scores.shape[1], math.nan
    most = max(values.values(), default=-math.inf)
    if most == -math.inf:
        return [0.0] * scores.shape[1], -math.inf
    total = sum(math.exp(value - most) for value in values.values())
    probabilities = [math.exp(values.get(item, -math.inf) - most) / total for item in range(scores.shape[1])]
    return probabilities, most + math.log(total)


def mixture_cross_entropy(
    scores: NDArray[np.float32],
    rows: NDArray[np.int64],
    log_weights: NDArray[np.float32],
    positives: NDArray[np.int64],
    weights: Sequence[float],
    exclude: NDArray[np.int64] | None,
    candidates: NDArray[np.bool_] | None,
    factor: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Losses, shares of entries, shares of rows, and the gradient of factor times the sum of the losses."""
    pairs = [(n, j, int(q)) for (n, j), q in np.ndenumerate(rows) if q >= 0]
    chosen = None if candidates is None else candidates.copy()
    for n, _, q in pairs:
        if chosen is not None:
            chosen[q, positives[n]] = True
    p = np.array([softmax(scores, exclude, chosen, q)[0] for q in range(len(scores))]).reshape(scores.shape)
    losses, shares = np.zeros(len(rows)), np.zeros(rows.shape)
    gradient = np.zeros(scores.shape)
    for n in range(len(rows)):
        own = [(j, q) for m, j, q in pairs if m == n]
        for item, weight in zip(positives[n].tolist(), weights, strict=True):
            parts = {j: math.exp(log_weights[n, j]) * p[q, item] for j, q in own}
            total = sum(parts.values())
            losses[n] += -weight * math.log(total) if total > 0 else weight * math.inf
            for j, q in own:
                share = factor * weight * (parts[j] / total if total > 0 else math.nan)
                shares[n, j] += share
                gradient[q] += share * p[q]
                gradient[q, item] -= share
    row_shares = np.zeros(len(scores))
    for n, j, q in pairs:
        row_shares[q] += shares[n, j]
    return losses, shares, row_shares, gradient


def mark(bits: NDArray[np.uint8], rows: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The bits with those of the given entries set."""
    marked = bits.copy()
    for row, item in zip(rows.ravel().tolist(), items.ravel().tolist(), strict=True):
        if row >= 0 and item >= 0:
            marked[row, item // 8] |= np.uint8(2 ** (item % 8))
    return marked


def mixture_scores(
    probabilities: NDArray[np.float32], rows: NDArray[np.int64], weights: NDArray[np.float32], mixture: int
) -> list[float]:
    """The logarithm of a weighted sum of rows, item by item; at least that of the smallest normal float32."""
    pairs = [
        (row, w) for row, w in zip(rows[mixture].tolist(), weights[mixture].tolist(), strict=True) if row >= 0
    ]
    sums = [
        sum(w * float(probabilities[row, item]) for row, w in pairs) for item in range(probabilities.shape[1])
    ]
    return [math.log(total if math.isnan(total) else max(total, 2.0**-126)) for total in sums]


def repeat_scores(
    scores: NDArray[np.float32],
    seen: NDArray[np.int64],
    log_odds: NDArray[np.float32],
    row: int,
    temperature: float,
) -> dict[int, float]:
    """The score of each seen item of a row under the repeat component; -inf: not a candidate."""
    normaliser = log_normaliser(scores, seen, row, temperature)
    largest: dict[int, float] = {}
    for item, odds in zip(seen[row].tolist(), log_odds[row].tolist(), strict=True):
        if item >= 0:
            largest[item] = max(odds, largest.get(item, -math.inf))
    with np.errstate(over="ignore"):
        values = {
            item: float(np.float32(temperature * (odds + (0 if normaliser == -math.inf else normaliser))))
            for item, odds in largest.items()
        }
    lowest = float(np.finfo(np.float32).min)
    return {item: -math.inf if largest[item] == -math.inf else max(v, lowest) for item, v in values.items()}


def repeat_counts(
    scores: NDArray[np.float32],
    targets: NDArray[np.int64],
    seen: NDArray[np.int64],
    log_odds: NDArray[np.float32],
    temperature: float,
) -> tuple[list[int], list[int]]:
    """The counts of `target_counts` where seen items have the scores of the repeat component."""
    replaced, left_out = scores.copy(), np.full(seen.shape, -1)
    for row in range(len(scores)):
        for item, value in repeat_scores(scores, seen, log_odds, row, temperature).items():
            if value == -math.inf:
                left_out[row][seen[row] == item] = item
            else:
                replaced[row][item] = value
    return target_counts(replaced, targets, left_out)


def weighted_sum(views: Sequence[NDArray[np.float32]], weights: Sequence[float]) -> NDArray[np.float32]:
    total = views[0] * np.float32(weights[0])
    for view, weight in zip(views[1:], weights[1:], strict=True):
        total = total + view * np.float32(weight)
    return total


def metric(greater: int, tied: int, name: str) -> float:
    """The mean over the ranks that the target can have; 0 for a target that is not a candidate."""
    kind, _, cutoff = name.partition("@")
    ranks = range(greater + 1, greater + tied + 1)
    return sum(gain(kind, rank) for rank in ranks if not cutoff or rank <= int(cutoff)) / max(tied, 1)


def gain(kind: str, rank: int) -> float:
    return {"hits": 1.0, "ndcg": 1 / math.log2(rank + 1), "mrr": 1 / rank}[kind]


def philox(key: int, counter: tuple[int, int]) -> tuple[int, int]:
    """Philox 2x64-10 as in its paper, in whole numbers."""
    first, second = counter
    for round_ in range(10):
        product = first * 0xD2B74407B1CE6E93
        bumped = (key + round_ * 0x9E3779B97F4A7C15) % 2**64
        first, second = (product >> 64) ^ bumped ^ second, product % 2**64
    return first, second


def derive_seed(seed: int, *words: int) -> int:
    for place, word in enumerate(words, 1):
        seed = philox(seed, (word, place))[0]
    return seed


def stream(key: int, row: int, bits: int) -> Iterator[int]:
    """The 64-bit numbers of a row, or their halves, lower first."""
    for index in itertools.count():
        for word in philox(key, (row, index)):
            yield from [word] if bits == 64 else [word % 2**32, word >> 32]


def below(numbers: Iterator[int], n: int, bits: int) -> int:
    """Lemire: the upper half of a product, unless its lower half is among those that would be too many."""
    while True:
        product = next(numbers) * n
        if product % 2**bits >= 2**bits % n:
            return product >> bits


def window_positions(count: int, population: int, seed: int, row: int) -> list[int]:
    """Floyd's sample of positions, ascending."""
    numbers = stream(derive_seed(seed, 1), row, 32)
    drawn: set[int] = set()
    for last in range(population - count, population):
        position = below(numbers, last + 1, 32)
        drawn.add(last if position in drawn else position)
    return sorted(drawn)


def uniform_items(count: int, num_items: int, seed: int, row: int) -> list[int]:
    numbers = stream(derive_seed(seed, 2), row, 64)
    return [below(numbers, num_items, 64) for _ in range(count)]


def split_mix(key: int, index: int) -> int:
    """SplitMix64 after splitmix64.c of Sebastiano Vigna: word ``index`` of the stream of ``key``."""
    word = (key + (index + 1) * 0x9E3779B97F4A7C15) % 2**64
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) % 2**64
    return word ^ (word >> 31)


def random_word(seed: int, number: int, place: int, index: int) -> int:
    return split_mix(split_mix(split_mix(seed, number % 2**64), place % 2**64), index)
