"""Published systems that are one network of blocks in ``alterrec.nn``, with deviations from public code.

Their sizes and losses are in their recipes. The softmax of every public code has a column for padding;
ours has items only.
"""

from __future__ import annotations

from torch import nn

from alterrec.errors import InputError
from alterrec.graphs import transition_graph
from alterrec.models.base import Network, Recommender
from alterrec.models.bert4rec import bert4rec
from alterrec.models.parts import (
    SESSIONS,
    ModelInputs,
    alone,
    id_items,
    network_of,
    only_id,
    own_dropout,
    text_items,
    transformer_sizes,
)
from alterrec.nn.graph_encoders import GraphNodes, PersonalSession
from alterrec.nn.item_encoders import BiasedItems, CategoryFeatures, JoinedItems
from alterrec.nn.layers import keep_start
from alterrec.nn.transformer import RECBOLE, EncoderWithHead, Head, TwoStreams
from alterrec.recipe import Recipe
from alterrec.shards import fill_rows


def sasrec(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    """SASRec: a causal Transformer over item ids.

    Paper: Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018.

    Public code: kang205/SASRec, and RecBole 1.2.1, whose Transformer (post-norm, GELU, start N(0, 0.02)) is
    used in most comparisons. ``id.session = "sasrec"`` is RecBole's, tested for parity;
    ``"sasrec_original"`` is the original: normalised queries with raw keys and values, item vectors times
    sqrt(d), a final norm.

    The default loss is full cross-entropy. The original's binary loss with one random negative is
    ``loss.name = "gbce"``, ``loss.calibration = 0``, ``window.sample = 1`` and ``schedule.negatives =
    "random"``. With ``data.prefixes = 0`` there is a loss at every position: each prefix of a session is a
    sample, and all are read in one pass. These are also the samples of RecBole, which reads them one by one.

    Deviations of the preset ``original`` from kang205/SASRec:
        - positions are counted from the first item of a session, in the code from the last one (left
          padding);
        - the item table starts from N(0, 0.02), in the code uniform within sqrt(6 / (V + d)), of similar
          size;
        - only the target is excluded from the negatives, in the code the whole session;
        - a step has 512 prefixes, in the code 128 whole sessions;
        - the second moment of Adam decays by 0.999, in the code by 0.98;
        - validation runs after each epoch on the whole catalogue, in the code after every 20th on 100 sampled
          items.
    """
    return only_id(recipe, inputs)


def core(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    """CORE: a session is a weighted mean of item vectors, scored by cosine against the same vectors.

    Paper: Hou et al., "CORE: Simple and Effective Session-based Recommendation within Consistent
    Representation Space", SIGIR 2022.

    Public code: RUCAIBox/CORE and RecBole 1.2.1, whose scores are bit-equal. This is CORE-trm, whose weights
    come from a causal Transformer; ``id.session = "mean"`` is CORE-ave. Both are tested for parity. The loss
    is full cross-entropy for every prefix (``data.prefixes = 0``), computed in one pass per session.

    Deviations:
        - initialisation as in RUCAIBox/CORE: the table uniform within 1/sqrt(d), the Transformer N(0, 0.02)
          with norms at 1 and 0. RecBole draws all parameters, including norms, like the table;
        - the softmax of the weights has the precision of the run, in the code double precision.
    """
    table = id_items(recipe, inputs)
    bound = table.dim**-0.5
    fill_rows(table.rows_VD, table.shard, lambda rows: rows.uniform_(-bound, bound))
    keep_start(table)
    return alone(network_of(recipe, recipe.id, table))


def gru4rec(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    """GRU4Rec: gated recurrent units over item ids, followed by a linear layer.

    Paper: Hidasi et al., "Session-based Recommendations with Recurrent Neural Networks", ICLR 2016; losses
    over sampled negatives: Hidasi and Karatzoglou, "Recurrent Neural Networks with Top-k Gains for
    Session-based Recommendations", CIKM 2018.

    Public code: RecBole 1.2.1, which most comparisons use and with which ours is tested for parity; the
    authors' code is hidasib/GRU4Rec (Theano) and hidasib/GRU4Rec_PyTorch_Official. Other versions, including
    RecBole's, differ from it in ways that cost accuracy (Hidasi and Czapp, "The Effect of Third Party
    Implementations on Reproducibility", RecSys 2023).

    Deviations of the preset ``original`` from the authors' code:
        - cross-entropy with sampled negatives and the correction for their sampling probability is the only
          one of its losses; BPR-max and TOP1 are missing;
        - negatives are uniform and drawn for each sample; in the code, 2048 per step are drawn by popularity
          to the power 0.5 and shared by the step, in addition to its other targets;
        - a session is read whole; in the code, a step is one item of 32 parallel sessions, and no gradient
          goes back beyond it;
        - units and items have no biases, and a linear layer follows the units;
        - dropout is on item vectors, in the code on hidden states;
        - the optimiser is Adam, in the code Adagrad with momentum.
    """
    table = id_items(recipe, inputs)
    std = (2 / (inputs.num_items + table.dim)) ** 0.5
    fill_rows(table.rows_VD, table.shard, lambda rows: rows.normal_(std=std))
    keep_start(table)
    return alone(network_of(recipe, recipe.id, table))


def bsarec(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    """BSARec: SASRec's Transformer with a filter of low and high frequencies added to each attention.

    Paper: Shin et al., "An Attentive Inductive Bias for Sequential Recommendation beyond the
    Self-Attention", AAAI 2024. ``frequency.alpha`` and ``frequency.low`` are its alpha and c, which it tunes
    for each data set; the defaults are those of its code.

    Public code: yehjin-shin/BSARec. With ``model.faithful``, ours is tested for parity with it and
    reproduces three faults that are otherwise corrected:
        - sessions are padded on the left to ``model.max_len`` and filters include the padding, so scores
          depend on ``max_len``. Corrected, a filter covers the prefix only;
        - padded places attend to all places, including later ones, and filters spread what they attended to.
          Corrected, padding has no influence;
        - layers are copies and start with the same beta. Corrected, each draws its own.

    Deviations:
        - the vector that the faithful variant reads at padded places is not trained;
        - no sample has an empty prefix;
        - seen items are excluded if ``data.exclude_seen`` says so; the code sets their scores to 0.

    A filter covers the whole prefix, so prefixes are read separately, and an epoch takes up to as many times
    that of SASRec as a session has prefixes; the faithful variant also pads each to ``max_len``.
    """
    return only_id(recipe, inputs)


def srgnn(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    """SR-GNN: a gated graph neural network over the graph of each session.

    Paper: Wu et al., "Session-based Recommendation with Graph Neural Networks", AAAI 2019.

    Public code: CRIPAC-DIG/SR-GNN (its PyTorch part), and RecBole 1.2.1; both are tested for parity. They
    differ in the update of a node: the paper's Eq. 5 and RecBole have ``(1 - z) * old + z * new``, the
    authors' code has ``z * old + (1 - z) * new``, as do torch's GRU cell and ours. As 1 - sigmoid(x) is
    sigmoid(-x), negating the weights of the update gate turns one model into the other, and initial values
    are as likely as their negatives. So there is no option for it.

    As in both codes, and unlike the paper's equations, messages have a bias before and after the mean over
    neighbours, and the reset gate acts after the linear layer of the state, as in every GRU cell.

    Deviations:
        - the last ``model.max_len`` items of a prefix are read, in the authors' code all items;
        - in the preset ``original`` the learning rate decays after 3, 6, ... epochs; the authors' code steps
          its schedule before the first epoch, so after 2, 5, ...; it chooses the epochs of Hits and of MRR
          separately and on the test set, ours chooses one epoch on validation.
    """
    return only_id(recipe, inputs)


def hggnn(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    """HG-GNN: one graph of all items and users, and a session encoder that depends on the user.

    The sessions of the data must have a ``user_id``.

    Paper: Pang et al., "Heterogeneous Global Graph Neural Networks for Personalized Session-based
    Recommendation", WSDM 2022.

    Public code: 0215Arthur/HG-GNN, tested for parity. Ours follows the code where it differs from the paper:
    all relations share one kind of edge and one set of weights; one layer of a mean convolution over the
    graph of :func:`alterrec.graphs.transition_graph`; no links between similar items or between similar
    users, which are switched off in the code; dropout only on the input of the convolution.

    Deviations from the code:
        - its softmax and its ranking include users; here only items are scored;
        - a user who is unknown or not in training is the mean of all users (of their vectors and of their
          neighbours' means); in the code the users of all splits have vectors, some of which are not trained;
        - there is no padding item and no unused user 0; neither affects a session vector;
        - in the preset ``original`` the best epoch is chosen on validation, in the code on the test set.
    """
    graph, choices = inputs.graph, recipe.id
    if graph is None:
        assert inputs.train is not None
        graph = transition_graph(inputs.train, recipe.graph.predecessors)
    nodes = GraphNodes(inputs.num_items, graph, recipe.model.dim, own_dropout(recipe, choices))
    users = nodes.num_nodes - inputs.num_items
    network = Network(
        nodes,
        PersonalSession(recipe.model.dim, recipe.model.max_len, users),
        choices.temperature,
        outputs=nodes.items,
        cosine=choices.cosine,
        output_dropout=choices.output_dropout,
        settings=choices,
    )
    return alone(network)


def fdsa(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    """FDSA: one causal Transformer over items and one over their features, scored against item vectors.

    Paper: Zhang et al., "Feature-level Deeper Self-Attention Network for Sequential Recommendation", IJCAI
    2019.

    Public code: RUCAIBox/UniSRec (``baselines/fdsa.py``), whose feature is the projected text vector
    (``fdsa.features = "text"``; AlterRec's paper compares this version), and RecBole 1.2.1, whose features
    are categories under attention over fields (``"attributes"``, see ``data.categories``). Both are tested
    for parity.

    Corrected: at construction, the code with text overwrites its frozen text table with N(0, 0.02), together
    with all other tables, so it never reads a text. Here the vectors are those of the texts.

    Deviations:
        - columns of text vectors are standardised if ``text.standardise`` is set (preset ``best``);
        - an item without a value in a field has zeros there; RecBole gives fields with one value per item a
          learned vector for none;
        - the preset ``original`` reads attributes, as the paper does, with RecBole's sizes and cross-entropy.

    Raises:
        InputError: attributes are asked for and the data has no categories.
    """
    table, features = id_items(recipe, inputs), recipe.fdsa.features
    if features == "attributes" and inputs.categories_VCK is None:
        raise InputError(
            "fdsa.features is 'attributes', but the items have no categories; give a column called "
            "category, categories, brand or taxonomy, set data.categories=COLUMN, or set fdsa.features=text"
        )
    if features == "text" or inputs.categories_VCK is None:
        second: nn.Module = text_items(recipe, inputs)
    else:
        second = CategoryFeatures(inputs.categories_VCK, recipe.model.dim)
    session = TwoStreams(transformer_sizes(recipe, recipe.id, recipe.model.dim))
    read = JoinedItems([table, second])
    # The encoder reads an item together with its features, so that items alone cannot be queries.
    one_query = recipe.id.model_copy(update={"queries": "one"})
    return alone(network_of(recipe, one_query, read, session=session, outputs=table.forward))


def fdsa_id(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    """Item stream of FDSA alone: SASRec in RecBole's layers (Figures 2 and 8 of AlterRec's paper)."""
    return only_id(recipe, inputs)


def fdsa_text(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    """Text stream of FDSA alone: the same Transformer reads projected texts and is scored against them.

    AlterRec's paper (Figures 2 and 8) does not state what it is scored against; FDSA itself scores no text.
    """
    return alone(network_of(recipe, recipe.id, text_items(recipe, inputs)))


def llm2sasrec(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    """LLM2SASRec: SASRec whose ID table starts from the principal components of text vectors.

    Papers: Harte et al., "Leveraging Large Language Models for Sequential Recommendation", RecSys 2023 (with
    BERT4Rec); Boz et al., "Improving Sequential Recommendations with LLMs", 2024 (also SASRec).

    Public code: dh-r/LLM-Sequential-Recommendation, in Keras. The start of the table is tested for parity
    with its recipe: ``id.start = "pca"``, all items of the catalogue, centred, not scaled. Its alternative
    of random directions is ``"projection"``. Linear discriminants of item classes, an alternative in its
    later work, are missing: they need classes and give fewer columns than there are classes.

    Deviations:
        - components are exact and their signs fixed; in the code, a library chooses the solver, without a
          seed;
        - a random projection is of centred vectors, in the code of raw ones;
        - the Transformer is RecBole's, as in ``sasrec``: right-padded, padding is masked, a norm over the sum
          of item and position, epsilon 1e-12; in the code left-padded with the mask token, which takes part
          in attention, no norm over the sum, epsilon 1e-5;
        - as in the code, a dense layer with GELU and a bias per item lie between states and scores;
          BERT4Rec's norm follows the layer, which the code does not have;
        - ``model.inner`` is 4 d by default, in the code d;
        - a step has prefixes, in the code whole sessions with a loss at every place (``data.prefixes = 0``
          has the same samples); weight decay is that of Adam, in the code separate from the gradient;
          gradients are not clipped.
    """
    biased = BiasedItems(id_items(recipe, inputs), inputs.num_items)
    encoder = SESSIONS[recipe.id.session](recipe, recipe.id, biased.dim)
    session = EncoderWithHead(encoder, Head(biased.dim, RECBOLE.eps))
    return alone(network_of(recipe, recipe.id, biased, session=session, outputs=biased.scored))


def llm2bert4rec(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    """LLM2BERT4Rec: BERT4Rec whose ID table starts from the principal components of text vectors.

    For papers, public code and start see :func:`llm2sasrec`; for the network, ``model.faithful`` and the
    deviations from RecBole see :func:`~alterrec.models.bert4rec.bert4rec`.

    Deviations from the public code:
        - those of the start and of the Transformer in :func:`llm2sasrec`; the head has BERT4Rec's norm;
        - masks are drawn for each prefix of a session; in the code, for ten copies of the whole session plus
          one copy with its last item masked;
        - the mask token starts from N(0, 0.02) like tables, in the code uniform within 0.05.
    """
    return bert4rec(recipe, inputs)
