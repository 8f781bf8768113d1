"""Sequential systems over item ids that are one network each: an ID table and a session encoder.

What each is, where it comes from and where it differs; sizes and all else are in its recipes.
"""

from __future__ import annotations

from alterrec.models.base import Recommender
from alterrec.models.parts import Items, only_id
from alterrec.recipe import Recipe


def sasrec(recipe: Recipe, items: Items) -> Recommender:
    """SASRec: a causal Transformer over item ids, scored against the rows that it reads.

    Paper: Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018.

    Public code: kang205/SASRec, and RecBole 1.2.1, whose Transformer (post-norm, GELU, start N(0, 0.02)) most
    comparisons run. ``id.session = "sasrec"`` is RecBole's, tested for parity; ``"sasrec_original"`` is the
    original's: normed queries against raw keys and values, item rows times sqrt(d), a last norm.

    Losses are fields. Full cross-entropy is the default, as the paper's comparison has it. The original's
    binary one with one random negative is ``loss.name = "gbce"``, ``loss.calibration = 0``,
    ``window.sample = 1`` and ``schedule.negatives = "random"``. A loss at every position is
    ``data.prefixes = 0``: each prefix of a session is a sample and all are read in one pass. RecBole's
    prefixes with a loss at their last position are the same samples, read one by one.

    Deviations from RecBole:
        - its softmax has a column for padding, ours the items alone.

    Deviations of the preset ``original`` from kang205/SASRec:
        - positions count from a session's first item, there from its last (left padding);
        - the item table starts from N(0, 0.02), there within sqrt(6 / (V + d)), which is of that size;
        - negatives leave out the target, there the whole session;
        - a step takes 512 prefixes, there 128 whole sessions;
        - Adam's second moment decays by 0.999, there by 0.98;
        - validation after each epoch, on the whole catalogue; there after every 20th, on 100 drawn items.
    """
    return only_id(recipe, items)
