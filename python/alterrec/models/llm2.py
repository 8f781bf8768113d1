"""LLM2SASRec and LLM2BERT4Rec: an ID table that starts from text and is trained like any other."""

from __future__ import annotations

import torch

from alterrec.errors import InputError
from alterrec.models.base import Recommender
from alterrec.models.bert4rec import bert4rec
from alterrec.models.parts import SESSIONS, ModelInputs, alone, id_items, network_of
from alterrec.nn.item_encoders import BiasedItems, IdTable, principal_components, random_projection
from alterrec.nn.transformer import RECBOLE, EncoderWithHead, Head
from alterrec.recipe import Recipe


def llm2sasrec(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    """LLM2SASRec: SASRec whose ID table starts from the principal components of text vectors.

    Papers: Harte et al., "Leveraging Large Language Models for Sequential Recommendation", RecSys 2023 (with
    BERT4Rec); Boz et al., "Improving Sequential Recommendations with LLMs", 2024 (SASRec too).

    Public code: dh-r/LLM-Sequential-Recommendation, in Keras. The start of the table is tested for parity
    with its recipe: ``id.start = "pca"``, all items of the catalogue, centred, not scaled. Its random
    alternative is ``"projection"``. Its other one in later work, linear discriminants of item classes, is not
    here, for it needs classes of items and gives fewer columns than there are of them.

    Deviations:
        - components are exact and their signs fixed, there a library chooses the solver and sets no seed;
        - a random projection is of centred vectors, there of raw ones;
        - the Transformer is RecBole's, as that of ``sasrec``: right-padded with padding hidden, a norm over
          item and position, epsilon 1e-12; there left-padded with the mask token, which attention sees, no
          norm over the sum, epsilon 1e-5;
        - as there, a dense layer with GELU, and a bias an item, lie between states and scores; here the
          layer has BERT4Rec's norm behind it;
        - ``model.inner`` is 4 d unless it is set, there d;
        - a step takes prefixes, there whole sessions with a loss at every place (``data.prefixes = 0`` has
          the same samples); weight decay is Adam's own, there apart from the gradient; no clipping.
    """
    biased = BiasedItems(id_items(recipe, inputs), inputs.num_items)
    encoder = SESSIONS[recipe.id.session](recipe, recipe.id, biased.dim)
    session = EncoderWithHead(encoder, Head(biased.dim, RECBOLE.eps))
    return alone(network_of(recipe, recipe.id, biased, session=session, outputs=biased.scored))


def llm2bert4rec(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    """LLM2BERT4Rec: BERT4Rec whose ID table starts from the principal components of text vectors.

    Papers, public code and start: see :func:`llm2sasrec`. The network and its deviations from RecBole are
    those of :func:`~alterrec.models.bert4rec.bert4rec`; ``model.faithful`` is about them alone.

    Deviations from the public code:
        - those of the start and of the Transformer in :func:`llm2sasrec`; the head has BERT4Rec's norm;
        - masks are drawn anew for each prefix of a session, there for ten copies of the whole session plus
          one copy with its last item masked;
        - the mask token starts as tables do, N(0, 0.02), there within 0.05.
    """
    return bert4rec(recipe, inputs)


def start_from_text(model: Recommender, recipe: Recipe, inputs: ModelInputs) -> None:
    """Give every ID table its start from text vectors, as ``id.start`` says; ``drawn`` leaves it.

    Raises:
        InputError: more principal components are asked for than the vectors have.
    """
    if recipe.id.start == "drawn":
        return
    assert inputs.vectors_VF is not None
    reduce = {"pca": principal_components, "projection": random_projection}[recipe.id.start]
    count, width = inputs.vectors_VF.shape
    for part in model.modules():
        if isinstance(part, IdTable):
            if recipe.id.start == "pca" and part.dim > min(count, width):
                raise InputError(
                    f"model.dim is {part.dim}, id.start is 'pca' and the {count} text vectors have {width} "
                    f"columns, so at most {min(count, width)}; lower model.dim, set id.start=projection, "
                    "or use wider vectors: --text-encoder (all-MiniLM-L6-v2 has 384 columns) or, for lsa, "
                    "text.truncate_dim"
                )
            with torch.no_grad():
                part.rows_VD.copy_(reduce(inputs.vectors_VF, part.dim))
