"""Counts, losses and mixtures of `alterrec.ranking` in torch, for scores on a device.

Ids, counts and bits equal those of the Rust core; losses and probabilities agree up to rounding.
Shapes: B rows, V items, E excluded ids per row, N mixtures of J rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def pack_bits(mask_BV: Tensor) -> Tensor:
    padded = torch.nn.functional.pad(mask_BV, (0, -mask_BV.shape[1] % 8))
    values = (1 << torch.arange(8, device=mask_BV.device)).to(torch.uint8)
    bytes_BK8 = padded.view(torch.uint8).view(len(padded), padded.shape[1] // 8, 8)
    return (bytes_BK8 * values).sum(2, dtype=torch.uint8)


def unpack_bits(bits: Tensor, num_items: int) -> Tensor:
    places = torch.arange(8, device=bits.device, dtype=torch.uint8)
    return (bits[:, :, None] >> places & 1).flatten(1)[:, :num_items].bool()


def target_counts(scores: Tensor, targets: Any, exclude: Any, missed: bool) -> tuple[Tensor, Tensor]:
    scores_BV = rounded("scores", scores)
    targets_B1, counted_BV = _counted(scores_BV, targets, exclude, missed)
    return _counts(scores_BV, targets_B1, counted_BV)


def fused_target_counts(
    views: Sequence[Tensor], weights: Sequence[float], targets: Any, exclude: Any, missed: bool
) -> tuple[Tensor, Tensor]:
    matrices = _with_sum(views, weights)
    targets_B1, counted_BV = _counted(matrices[0], targets, exclude, missed)
    return _counts_of_all(matrices, targets_B1, counted_BV)


def seen_target_counts(
    views: Sequence[Tensor],
    weights: Sequence[float],
    targets: Any,
    seen: Any,
    log_odds: Any,
    temperatures: Sequence[float],
) -> tuple[Any, Any, Any]:
    matrices = _with_sum(views, weights)
    targets_B1 = _targets(matrices[0], targets)
    seen_BV = _excluded(matrices[0], seen, "seen")
    kept = _counts_of_all(matrices, targets_B1, torch.ones_like(seen_BV))
    excluded = _counts_of_all(matrices, targets_B1, ~seen_BV)
    if log_odds is None:
        return kept, excluded, None
    own_odds = [_own_odds(matrices[0], seen, odds) for odds in log_odds]
    num_items = seen_BV.shape[1]
    found = []
    for place, (scores_BV, temperature) in enumerate(zip(matrices, temperatures, strict=True)):
        ids_BE, odds_BE = own_odds[place % len(own_odds)]
        # An additional column takes the padding.
        places_BE = ids_BE.masked_fill(ids_BE < 0, num_items)
        candidates_BV = torch.nn.functional.pad(~seen_BV, (0, 1)).scatter(1, places_BE, odds_BE > -torch.inf)
        wide_BV = torch.nn.functional.pad(scores_BV, (0, 1))
        own_BE = _own_scores(odds_BE, _log_sums(scores_BV, seen_BV, temperature), temperature)
        # An item that is not a candidate keeps its score, with which others are compared if it is the target.
        own_BE = torch.where(odds_BE == -torch.inf, wide_BV.gather(1, places_BE), own_BE)
        replaced_BV = wide_BV.scatter(1, places_BE, own_BE)[:, :num_items]
        found.append(_counts_of_all([replaced_BV], targets_B1, candidates_BV[:, :num_items]))
    return kept, excluded, tuple(torch.cat(parts) for parts in zip(*found, strict=True))


def repeat_scores(scores: Tensor, seen: Any, log_odds: Any, temperature: float) -> Tensor:
    scores_BV = rounded("scores", scores)
    seen_BV = _excluded(scores_BV, seen, "seen")
    _, odds_BE = _own_odds(scores_BV, seen, log_odds)
    return _own_scores(odds_BE, _log_sums(scores_BV, seen_BV, temperature), temperature)


def log_normaliser(scores: Tensor, seen: Any, temperatures: Sequence[float]) -> Tensor:
    scores_BV = rounded("scores", scores)
    seen_BV = _excluded(scores_BV, seen, "seen")
    sums = [_log_sums(scores_BV, seen_BV, temperature)[:, 0] for temperature in temperatures]
    return torch.stack(sums) if sums else torch.empty((0, len(scores_BV)), dtype=torch.float64)


def _own_odds(scores_BV: Tensor, seen: Any, log_odds: Any) -> tuple[Tensor, Tensor]:
    """Return the ids (B, E) and for each of them the largest log odds of its item; -inf for padding."""
    ids_BE = torch.as_tensor(seen, device=scores_BV.device).to(torch.int64)
    odds_BE = torch.as_tensor(log_odds, device=scores_BV.device).masked_fill(ids_BE < 0, -torch.inf)
    wrong = (odds_BE.isnan() | odds_BE.isposinf()).nonzero()
    if len(wrong):
        row, column = wrong[0].tolist()
        raise ValueError(
            f"log_odds: row {row}, column {column} is {float(odds_BE[row, column])}; "
            "expected a finite number, or -inf for an item that is not a candidate"
        )
    # An additional column takes the padding.
    places_BE = ids_BE.masked_fill(ids_BE < 0, scores_BV.shape[1])
    wide_BV = odds_BE.new_full((len(ids_BE), scores_BV.shape[1] + 1), -torch.inf)
    largest_BV = wide_BV.scatter_reduce(1, places_BE, odds_BE, "amax")
    return ids_BE, largest_BV.gather(1, places_BE).masked_fill(ids_BE < 0, -torch.inf)


def _log_sums(scores_BV: Tensor, seen_BV: Tensor, temperature: float) -> Tensor:
    """Return the logsumexp (B, 1), float64, of score / temperature over the items that are not seen."""
    # The additional column is for rows without items.
    others_BV = torch.nn.functional.pad(scores_BV.masked_fill(seen_BV, -torch.inf), (0, 1), value=-torch.inf)
    most_B1 = others_BV.amax(1, keepdim=True)
    shift_B1 = most_B1.masked_fill(most_B1.isinf(), 0.0)
    sum_B1 = ((others_BV - shift_B1) / temperature).exp().sum(1, keepdim=True, dtype=torch.float64)
    return torch.where(most_B1.isinf(), most_B1.double(), most_B1.double() / temperature + sum_B1.log())


def _own_scores(odds_BE: Tensor, log_sum_B1: Tensor, temperature: float) -> Tensor:
    log_sum_B1 = log_sum_B1.masked_fill(log_sum_B1.isneginf(), 0.0)
    own_BE = (temperature * (odds_BE.double() + log_sum_B1)).float().clamp(min=torch.finfo(torch.float32).min)
    return own_BE.masked_fill(odds_BE.isneginf(), -torch.inf)


def _with_sum(views: Sequence[Tensor], weights: Sequence[float]) -> list[Tensor]:
    views_BV = [rounded(f"views[{place}]", view) for place, view in enumerate(views)]
    sum_BV = views_BV[0] * weights[0]
    for view_BV, weight in zip(views_BV[1:], weights[1:], strict=True):
        sum_BV = sum_BV + view_BV * weight
    _refuse_nan("weighted sum of views", sum_BV)
    return [*views_BV, sum_BV]


def cross_entropy_(
    scores: Tensor,
    positives: Any,
    weights: Any,
    candidates: Tensor | None,
    exclude: Any,
    each: float,
    factor: float,
) -> Tensor:
    device = scores.device
    positives_BP = torch.as_tensor(positives, device=device).long()
    if candidates is not None:
        candidates = torch.as_tensor(candidates, device=device)
    weights_P = torch.as_tensor(weights, device=device).to(scores.dtype)
    own_BP = scores.gather(1, positives_BP)
    left_out_BV = None
    if exclude is not None:
        left_out_BV = _mask(scores, torch.as_tensor(exclude, device=device).long())
    if candidates is not None and candidates.dtype != torch.uint8:
        ids_BC = candidates.long().clamp(min=0)
        out_BV = torch.zeros_like(scores, dtype=torch.bool) if left_out_BV is None else left_out_BV
        void_BC = (candidates < 0) | out_BV.scatter_(1, positives_BP, True).gather(1, ids_BC)
        drawn_BC = scores.gather(1, ids_BC).masked_fill_(void_BC, -torch.inf)
        most_B1 = torch.cat([drawn_BC, own_BP], 1).amax(1, keepdim=True)
        values_BC = drawn_BC.sub_(most_B1).exp_()
        sum_B1 = each * values_BC.sum(1, keepdim=True)
        gradient_BC = values_BC.mul_(factor * each * _share(own_BP, weights_P, sum_B1, most_B1))
        scores.zero_().scatter_add_(1, ids_BC, gradient_BC)
        return _pull(scores, positives_BP, own_BP, weights_P, sum_B1, most_B1, factor)
    whole = candidates is None
    if candidates is not None or left_out_BV is not None:
        kept_BV = (
            torch.ones_like(scores, dtype=torch.bool)
            if candidates is None
            else unpack_bits(candidates, scores.shape[1])
        )
        if left_out_BV is not None:
            kept_BV &= ~left_out_BV
        scores.masked_fill_(~kept_BV.scatter_(1, positives_BP, whole), -torch.inf)
    most_B1 = torch.maximum(scores.amax(1, keepdim=True), own_BP.amax(1, keepdim=True))
    sum_B1 = scores.sub_(most_B1).exp_().sum(1, keepdim=True)
    if not whole:
        sum_B1 *= each
        scores.mul_(factor * each * _share(own_BP, weights_P, sum_B1, most_B1))
        return _pull(scores, positives_BP, own_BP, weights_P, sum_B1, most_B1, factor)
    scores.mul_(factor * weights_P.sum() / sum_B1)
    scores.scatter_add_(1, positives_BP, (-factor * weights_P).expand_as(own_BP))
    return (sum_B1.log() + most_B1 - own_BP) @ weights_P


def softmax_(scores: Tensor, exclude: Any, candidates: Tensor | None, check: bool) -> Tensor:
    _leave_out(scores, exclude, candidates, check)
    return _softmax(scores)


def _leave_out(scores: Tensor, exclude: Any, candidates: Tensor | None, check: bool) -> None:
    """Overwrite the scores of items that are no candidates with -inf."""
    if candidates is not None:
        marks = torch.as_tensor(candidates, device=scores.device)
        scores.masked_fill_(~unpack_bits(marks, scores.shape[1]), -torch.inf)
    if exclude is not None:
        ids = torch.as_tensor(exclude, device=scores.device).to(torch.int64)
        scores.masked_fill_((_excluded if check else _mask)(scores, ids), -torch.inf)


def _softmax(scores: Tensor) -> Tensor:
    """Overwrite each row with its softmax and return its logsumexp, float64."""
    if scores.shape[1] == 0:
        return torch.full((len(scores),), -torch.inf, dtype=torch.float64, device=scores.device)
    most_B1 = scores.amax(1, keepdim=True)
    # So that -inf minus this is not NaN.
    most_B1.masked_fill_(most_B1.isneginf(), 0.0)
    sum_B1 = scores.sub_(most_B1).exp_().sum(1, keepdim=True, dtype=torch.float64)
    scores.div_(sum_B1.masked_fill(sum_B1 == 0, 1.0))
    return (most_B1.double() + sum_B1.log())[:, 0]


def mixture_cross_entropy_(
    scores: Tensor,
    rows: Any,
    log_weights: Any,
    positives: Any,
    weights: Any,
    exclude: Any,
    candidates: Tensor | None,
    factor: float,
    check: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    device, num_rows = scores.device, len(scores)
    rows_NJ, positives_NP = (torch.as_tensor(each, device=device).long() for each in (rows, positives))
    log_weights_NJ, weights_P = (
        torch.as_tensor(each, device=device).double() for each in (log_weights, weights)
    )
    if check:
        _check_rows(rows_NJ, "scores", num_rows)
        _check_positives(positives_NP, scores.shape[1])
    shape = *positives_NP.shape, rows_NJ.shape[1]
    item_NPJ = positives_NP[..., None].expand(shape)
    if candidates is not None:
        candidates = torch.as_tensor(candidates, device=device).clone()
        mark_(candidates, rows_NJ[:, None].expand(shape), item_NPJ, False)
    _leave_out(scores, exclude, candidates, check)
    if num_rows == 0:
        # Every entry is padding, and there is no row that it could point to.
        losses_N = torch.full((len(rows_NJ),), torch.inf, dtype=torch.float64, device=device)
        return losses_N, torch.zeros_like(log_weights_NJ), losses_N.new_empty(0)
    row_NPJ = rows_NJ.clamp(min=0)[:, None].expand(shape)
    scores_NPJ = scores[row_NPJ, item_NPJ].double()
    logs_NPJ = scores_NPJ - _softmax(scores)[row_NPJ]
    # Where nothing is a candidate, the difference is NaN.
    logs_NPJ = torch.where(scores_NPJ.isneginf(), scores_NPJ, logs_NPJ) + log_weights_NJ[:, None]
    void_NPJ = (rows_NJ < 0)[:, None].expand(shape)
    logs_NPJ = logs_NPJ.masked_fill(void_NPJ, -torch.inf)
    log_NP1 = logs_NPJ.logsumexp(2, keepdim=True)
    share_NPJ = (logs_NPJ - log_NP1).exp() * (factor * weights_P[:, None])
    share_NPJ = share_NPJ.masked_fill(void_NPJ, 0.0)
    share_NJ = share_NPJ.sum(1)
    share_Q = share_NJ.new_zeros(num_rows).index_add_(0, rows_NJ.clamp(min=0).flatten(), share_NJ.flatten())
    parts_NPJ = share_NPJ / share_Q.masked_fill(share_Q == 0, 1.0)[row_NPJ]
    _subtract(scores, row_NPJ.flatten(), item_NPJ.flatten(), parts_NPJ.flatten())
    return -(log_NP1[..., 0] @ weights_P), share_NJ, share_Q


def _subtract(scores: Tensor, rows_K: Tensor, items_K: Tensor, parts_K: Tensor) -> None:
    """Subtract float64 parts from scores; those of one score are added first, so that it is rounded once."""
    order_K = (rows_K * scores.shape[1] + items_K).argsort(stable=True)
    rows_K, items_K, parts_K = (each[order_K] for each in (rows_K, items_K, parts_K))
    first_K = torch.ones_like(rows_K, dtype=torch.bool)
    first_K[1:] = (rows_K[1:] != rows_K[:-1]) | (items_K[1:] != items_K[:-1])
    group_K = first_K.cumsum(0) - 1
    sums_K = torch.zeros_like(parts_K).index_add_(0, group_K, parts_K)[group_K].masked_fill(~first_K, 0.0)
    scores.index_put_((rows_K, items_K), -sums_K.to(scores.dtype), accumulate=True)


def mark_(bits: Tensor, rows: Any, items: Any, check: bool) -> None:
    num_rows, num_items = len(bits), 8 * bits.shape[1]
    rows_K, items_K = (torch.as_tensor(each, device=bits.device).long().flatten() for each in (rows, items))
    skipped_K = (rows_K == -1) | (items_K == -1)
    if check:
        _check_marks(rows_K, skipped_K, num_rows, "rows", "number", f"{num_rows} rows")
        _check_marks(items_K, skipped_K, num_items, "items", "id", f"room for {num_items} items")
    if num_rows == 0:
        return
    # An additional column takes the entries that are skipped.
    mask = torch.nn.functional.pad(unpack_bits(bits, num_items), (0, 1))
    places_K = torch.where(skipped_K, num_items, rows_K * (num_items + 1) + items_K)
    mask.view(-1).scatter_(0, places_K, True)
    bits.copy_(pack_bits(mask[:, :num_items]))


def _check_marks(
    values_K: Tensor, skipped_K: Tensor, count: int, argument: str, kind: str, what: str
) -> None:
    wrong = (~skipped_K & ((values_K < 0) | (values_K >= count))).nonzero()
    if len(wrong):
        entry = int(wrong[0])
        raise ValueError(
            f"{argument}: entry {entry} has the {kind} {int(values_K[entry])}; expected 0 to {count - 1} "
            f"(bits has {what}), or -1 as padding"
        )


def mixture_scores(probabilities: Tensor, rows: Any, weights: Any, out: Tensor | None) -> Tensor:
    rows_NJ = torch.as_tensor(rows, device=probabilities.device).to(torch.int64)
    weights_NJ = torch.as_tensor(weights, device=probabilities.device).float()
    _check_rows(rows_NJ, "probabilities", len(probabilities))
    _check_weights(rows_NJ, weights_NJ)
    if out is None:
        out = probabilities.new_empty((len(rows_NJ), probabilities.shape[1]), dtype=torch.float32)
    out.zero_()
    for rows_N, weights_N in zip(rows_NJ.T, weights_NJ.T, strict=True):
        (places,) = (rows_N >= 0).nonzero(as_tuple=True)
        # One column at a time, because (N, J, V) products do not fit the memory.
        out[places] += weights_N[places, None] * probabilities[rows_N[places]].float()
    return out.clamp_(min=torch.finfo(torch.float32).tiny).log_()


def _check_positives(positives_NP: Tensor, num_items: int) -> None:
    wrong = ((positives_NP < 0) | (positives_NP >= num_items)).nonzero()
    if len(wrong):
        row, column = wrong[0].tolist()
        raise ValueError(
            f"positives: row {row} has the id {int(positives_NP[row, column])}; "
            f"expected 0 to {num_items - 1} (the catalogue has {num_items} items)"
        )


def _check_rows(rows_NJ: Tensor, matrix: str, size: int) -> None:
    wrong = ((rows_NJ < -1) | (rows_NJ >= size)).nonzero()
    if len(wrong):
        row, column = wrong[0].tolist()
        raise ValueError(
            f"rows: row {row} has the number {int(rows_NJ[row, column])}; expected 0 to {size - 1} "
            f"({matrix} has {size} rows), or -1 as padding"
        )


def _check_weights(rows_NJ: Tensor, weights_NJ: Tensor) -> None:
    fine_NJ = (rows_NJ == -1) | ((weights_NJ >= 0) & weights_NJ.isfinite())
    if not fine_NJ.all():
        row, column = (~fine_NJ).nonzero()[0].tolist()
        raise ValueError(
            f"weights: row {row}, column {column} is {float(weights_NJ[row, column])}; "
            "expected a finite number that is not negative"
        )


def _share(own_BP: Tensor, weights_P: Tensor, sum_B1: Tensor, most_B1: Tensor) -> Tensor:
    """Return the factor (B, 1) of the exponentials of candidates in the gradient."""
    return (weights_P / ((own_BP - most_B1).exp() + sum_B1)).sum(1, keepdim=True)


def _pull(
    scores: Tensor,
    positives_BP: Tensor,
    own_BP: Tensor,
    weights_P: Tensor,
    sum_B1: Tensor,
    most_B1: Tensor,
    factor: float,
) -> Tensor:
    """Add the gradient of positives that are compared separately with the candidates; return their loss."""
    whole_BP = (own_BP - most_B1).exp() + sum_B1
    scores.scatter_add_(1, positives_BP, -factor * weights_P * (sum_B1 / whole_BP))
    return (whole_BP.log() + most_B1 - own_BP) @ weights_P


def _targets(scores_BV: Tensor, targets: Any) -> Tensor:
    num_items = scores_BV.shape[1]
    targets_B = torch.as_tensor(targets, device=scores_BV.device).to(torch.int64)
    wrong = ((targets_B < 0) | (targets_B >= num_items)).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(
            f"targets: row {row} has the id {int(targets_B[row])}; expected 0 to {num_items - 1} "
            f"(the catalogue has {num_items} items)"
        )
    return targets_B[:, None]


def _counted(scores_BV: Tensor, targets: Any, exclude: Any, missed: bool) -> tuple[Tensor, Tensor]:
    """Return the targets (B, 1) and which items are candidates (B, V)."""
    targets_B1 = _targets(scores_BV, targets)
    counted_BV = ~_excluded(scores_BV, exclude)
    return targets_B1, counted_BV if missed else counted_BV.scatter_(1, targets_B1, True)


def _counts(scores_BV: Tensor, targets_B1: Tensor, counted_BV: Tensor) -> tuple[Tensor, Tensor]:
    target_B1 = scores_BV.gather(1, targets_B1)
    greater = ((scores_BV > target_B1) & counted_BV).sum(dim=1)
    tied = ((scores_BV == target_B1) & counted_BV).sum(dim=1)
    # Nothing is tied with a target that is not a candidate.
    return greater, tied * counted_BV.gather(1, targets_B1)[:, 0]


def _counts_of_all(
    matrices: Sequence[Tensor], targets_B1: Tensor, counted_BV: Tensor
) -> tuple[Tensor, Tensor]:
    counts = [_counts(scores_BV, targets_B1, counted_BV) for scores_BV in matrices]
    return torch.stack([greater for greater, _ in counts]), torch.stack([tied for _, tied in counts])


def _excluded(scores_BV: Tensor, exclude: Any, argument: str = "exclude") -> Tensor:
    ids_BE = torch.as_tensor(exclude, device=scores_BV.device).to(torch.int64)
    check_ids(argument, ids_BE, scores_BV.shape[1])
    return _mask(scores_BV, ids_BE)


def check_ids(argument: str, ids_BE: Tensor, num_items: int) -> None:
    """Raise ValueError for an id outside the catalogue; -1 is padding."""
    wrong = ((ids_BE < -1) | (ids_BE >= num_items)).nonzero()
    if len(wrong):
        row, place = wrong[0].tolist()
        raise ValueError(
            f"{argument}: row {row} has the id {int(ids_BE[row, place])}; expected 0 to {num_items - 1} "
            f"(the catalogue has {num_items} items), or -1 as padding"
        )


def _mask(scores_BV: Tensor, ids_BE: Tensor) -> Tensor:
    """Return a mask of the ids of each row; -1 is padding."""
    rows, num_items = scores_BV.shape
    # An additional column takes the padding.
    mask = torch.zeros((rows, num_items + 1), dtype=torch.bool, device=scores_BV.device)
    return mask.scatter_(1, ids_BE.masked_fill(ids_BE == -1, num_items), True)[:, :num_items]


def rounded(name: str, scores: Tensor) -> Tensor:
    """Return float32 scores; ValueError for NaN, and for finite values beyond float32."""
    scores_BV = scores.detach().to(torch.float32).contiguous()
    _refuse_nan(name, scores_BV)
    if scores.dtype == torch.float64 and (scores_BV.isinf() & scores.isfinite()).any():
        raise ValueError(f"{name} has finite values beyond float32; scale them, or use infinities")
    return scores_BV


def _refuse_nan(name: str, scores_BV: Tensor) -> None:
    found = scores_BV.isnan()
    if found.any():
        row, column = found.nonzero()[0].tolist()
        raise ValueError(
            f"{name}: NaN at row {row}, column {column}; a score must be a number (infinities are allowed)"
        )
