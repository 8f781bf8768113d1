"""Sequential systems over item ids that are one network each: an ID table and a session encoder.

What each is, where it comes from and where it differs; sizes and all else are in its recipes.
"""

from __future__ import annotations

from torch import nn

from alterrec.models.base import Recommender
from alterrec.models.parts import ModelInputs, alone, id_items, network_of, only_id
from alterrec.nn.layers import keep_start
from alterrec.recipe import Recipe


def sasrec(recipe: Recipe, inputs: ModelInputs) -> Recommender:
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
    return only_id(recipe, inputs)


def core(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    """CORE: a session is a weighted mean of its items' raw rows, scored by cosine against the same rows.

    Paper: Hou et al., "CORE: Simple and Effective Session-based Recommendation within Consistent
    Representation Space", SIGIR 2022.

    Public code: RUCAIBox/CORE and RecBole 1.2.1, which score alike to the last bit. This is CORE-trm, whose
    weights come from a causal Transformer; ``id.session = "mean"`` is CORE-ave. Both are tested for parity.
    Their loss is full cross-entropy for every prefix (``data.prefixes = 0``); prefixes of a session are read
    in one pass.

    Deviations:
        - start of RUCAIBox/CORE: the table uniform within 1/sqrt(d), the Transformer N(0, 0.02) with norms at
          1 and 0. RecBole draws all parameters like the table, gains of norms too;
        - weights are a softmax in the precision of the run, there in double precision;
        - the public softmax has a column for padding, ours the items alone.
    """
    table = id_items(recipe, inputs)
    bound = table.dim**-0.5
    nn.init.uniform_(table.rows_VD, -bound, bound)
    keep_start(table)
    return alone(network_of(recipe, recipe.id, table))


def gru4rec(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    """GRU4Rec: gated recurrent units over item ids, a linear layer, scored against the rows that it reads.

    Paper: Hidasi et al., "Session-based Recommendations with Recurrent Neural Networks", ICLR 2016; losses
    over drawn negatives: Hidasi and Karatzoglou, "Recurrent Neural Networks with Top-k Gains for
    Session-based Recommendations", CIKM 2018.

    Public code: RecBole 1.2.1, which most comparisons run and ours is tested for parity with; the authors'
    is hidasib/GRU4Rec (Theano) and hidasib/GRU4Rec_PyTorch_Official. Versions by others differ from it in
    ways that cost accuracy, RecBole's among them (Hidasi and Czapp, "The Effect of Third Party
    Implementations on Reproducibility", RecSys 2023).

    Deviations from RecBole:
        - its softmax has a column for padding, ours the items alone.

    Deviations of the preset ``original`` from the authors' code:
        - of its losses cross-entropy with drawn negatives and the correction for how they were drawn; its
          BPR-max and TOP1 are not ours;
        - negatives are uniform and each sample's own; there 2048 a step by popularity to the power 0.5 are
          shared by the step, in addition to its other targets;
        - a session is read whole; there a step is one item of 32 sessions side by side, and no gradient goes
          back beyond it;
        - units and items have no biases, and a linear layer follows the units;
        - dropout is on item rows, there on hidden states;
        - Adam, there Adagrad with momentum.
    """
    table = id_items(recipe, inputs)
    nn.init.xavier_normal_(table.rows_VD)
    keep_start(table)
    return alone(network_of(recipe, recipe.id, table))


def bsarec(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    """BSARec: SASRec's Transformer with a filter of low and high frequencies added to each attention.

    Paper: Shin et al., "An Attentive Inductive Bias for Sequential Recommendation beyond the
    Self-Attention", AAAI 2024. ``frequency.alpha`` and ``frequency.low`` are its alpha and c, which it
    searches for each data set; the defaults are those of its code.

    Public code: yehjin-shin/BSARec. With ``model.faithful`` ours is tested for parity with it and repeats
    what is otherwise mended:
        - sessions are padded on the left to ``model.max_len`` and filters run over the padding, so that
          scores depend on ``max_len``. Mended, a filter runs over the prefix, as long as it is;
        - padded places attend to all places, later ones included, and filters spread what they saw.
          Mended, nothing is seen of padding;
        - layers are copies and start with one beta. Mended, each draws its own.

    Deviations:
        - the public softmax has a column for padding, ours the items alone; so the row that the faithful
          variant reads at padded places stays as it was drawn;
        - no sample has an empty prefix;
        - seen items are no candidates where ``data.exclude_seen`` says so; there their scores are set to 0.

    A filter sees the whole prefix, so that each prefix is read alone, and an epoch takes up to as many times
    SASRec's as a session has prefixes; the faithful variant also pads each to ``max_len``.
    """
    return only_id(recipe, inputs)
