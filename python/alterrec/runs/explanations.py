"""What each part of a score contributed, and which items of the session it came from.

Legend: I explained items, J queries of a session, L its places, V items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from alterrec.errors import number_of
from alterrec.evaluation.evaluate import Protocol, weighted_sum, with_repeats
from alterrec.evaluation.recommend import ReadSessions, session_batches
from alterrec.models.base import Network, Recommender, Tables
from alterrec.models.batches import SessionBatch
from alterrec.models.neighbours import NeighbourLists
from alterrec.models.removed import removed_items, without_removed
from alterrec.ranking import softmax_
from alterrec.report.frames import as_pandas
from alterrec.runs.recommendations import short
from alterrec.runs.requests import Numbers

if TYPE_CHECKING:
    from pandas import DataFrame

    from alterrec.runs.saved_model import SavedModel

Kind = Literal["item", "session", "constant"]
# Sources of each part that HTML names.
SHOWN_SOURCES = 3


class ScoreSource(NamedTuple):
    """What a part of the score of an item came from.

    Attributes:
        kind: ``item``, an item of the session; ``session``, the vector of the whole session; or ``constant``,
            what every item gets (of the part ``neighbours``).
        place: number of the item in the session as it was given, from 0; None for the other kinds.
        item_id: its id; empty for the other kinds.
        share: its share of the part, between 0 and 1; the shares of a part add up to 1.
    """

    kind: Kind
    place: int | None
    item_id: str
    share: float


class ExplainedItem(NamedTuple):
    """The score of an item and what it is made of.

    Attributes:
        item_id: its id in your data.
        score: its score in the session, as in recommendations.
        text: its text; empty if the data has none.
        parts: contribution of each part; they add up to the score.
        sources: for each part of which it is known, what it came from, largest share first.
    """

    item_id: str
    score: float
    text: str
    parts: dict[str, float]
    sources: dict[str, list[ScoreSource]]


@dataclass(frozen=True, repr=False)
class Explanation:
    """Why items have their scores in a session, as ``SavedModel.explain`` returns it.

    Attributes:
        items: the explained items.
        unknown: ids of the session that are not in the catalogue and were ignored.
        note: what cannot be said about this system; empty if nothing.
    """

    items: list[ExplainedItem]
    unknown: list[str]
    note: str

    def __repr__(self) -> str:
        parts = ", ".join(self._parts())
        first = f", first {self.items[0].item_id!r}" if self.items else ""
        return f"Explanation({number_of(len(self.items), 'item')}{first}; parts {parts})"

    def _parts(self) -> list[str]:
        return list(self.items[0].parts) if self.items else []

    def to_polars(self) -> pl.DataFrame:
        """Return a frame of polars with a row for each item and part: item_id, score, part, contribution."""
        rows = [
            (item.item_id, item.score, part, value)
            for item in self.items
            for part, value in item.parts.items()
        ]
        schema = {"item_id": pl.String, "score": pl.Float64, "part": pl.String, "contribution": pl.Float64}
        return pl.DataFrame(rows, schema=schema, orient="row")

    def to_pandas(self) -> DataFrame:
        """Return :meth:`to_polars` as a frame of pandas; InputError if that is not installed."""
        return as_pandas(self.to_polars())

    def sources_to_polars(self) -> pl.DataFrame:
        """Return a frame of polars with a row for each item, part and source.

        The columns are item_id, part, kind, place, source (an item of the session) and share.
        """
        rows = [
            (item.item_id, part, source.kind, source.place, source.item_id, source.share)
            for item in self.items
            for part, sources in item.sources.items()
            for source in sources
        ]
        schema = {"item_id": pl.String, "part": pl.String, "kind": pl.String, "place": pl.Int64}
        return pl.DataFrame(rows, schema={**schema, "source": pl.String, "share": pl.Float64}, orient="row")

    def sources_to_pandas(self) -> DataFrame:
        """Return :meth:`sources_to_polars` as a frame of pandas; InputError if that is not installed."""
        return as_pandas(self.sources_to_polars())

    def _repr_html_(self) -> str:
        parts = self._parts()
        heads = "".join(f"<th>{escape(name)}</th>" for name in ("item", "score", *parts, "from", "text"))
        rows = "".join(
            f"<tr><td>{escape(item.item_id)}</td><td>{item.score:.4g}</td>"
            + "".join(f"<td>{item.parts[part]:.4g}</td>" for part in parts)
            + f"<td style='text-align: left'>{_named(item.sources)}</td>"
            f"<td style='text-align: left'>{escape(short(item.text))}</td></tr>"
            for item in self.items
        )
        note = f"<p>{escape(self.note)}</p>" if self.note else ""
        return f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>{note}"


def _named(sources: dict[str, list[ScoreSource]]) -> str:
    """The largest sources of each part, as HTML."""
    lines = []
    for part, found in sources.items():
        names = (f"{each.item_id or each.kind} {each.share:.0%}" for each in found[:SHOWN_SOURCES])
        lines.append(escape(f"{part}: {', '.join(names)}"))
    return "<br>".join(lines)


def explain(
    saved: SavedModel,
    session: Numbers,
    places: Sequence[int],
    items: Numbers,
    users: Numbers | None,
    protocol: Protocol,
    unknown: list[str],
) -> Explanation:
    """Return the explanation of the scores of some items.

    Args:
        saved: the model.
        session: its known items.
        places: the place of each of them in the session as it was given.
        items: the items to explain.
        users: the user, (1,); None if unknown.
        protocol: how items are ranked.
        unknown: ids of the session that were ignored.
    """
    model, chosen = saved.model, torch.from_numpy(items).to(protocol.device)
    with torch.inference_mode():
        tables = saved.tables()
        (read,) = session_batches(model, [session], protocol, len(saved.vocabulary), users)
        contributions, scores_I = _contributions(saved, read, tables, protocol, chosen)
        sources: dict[str, tuple[Kind, NDArray[np.float64]]] = {}
        if isinstance(model, Recommender):
            for name, own in tables.items():
                network = model.network(name)
                if network.queries is not None and model.weights[name]:
                    sources[name] = "session", _responsibilities(network, read.batch, own, chosen)
        systems = model.untrained if isinstance(model, Recommender) else {"model": model}
        for name, system in systems.items():
            if isinstance(system, NeighbourLists) and model.weights[name]:
                read_items = session[-protocol.max_len :]
                sources[name] = "constant", _neighbour_shares(system, read_items, items)
    cold = _scored_by_text(saved)
    names = saved.vocabulary.item_ids
    read_names = [names[item] for item in session[-protocol.max_len :].tolist()]
    read_places = list(places)[-protocol.max_len :]
    explained = [
        ExplainedItem(
            names[item],
            score,
            saved.texts[item],
            {part: values[row] for part, values in contributions.items()},
            {
                part: _sources(shares[row], kind, read_places, read_names)
                for part, (kind, shares) in sources.items()
                if not (part == "id" and cold is not None and cold[item]) and shares[row].any()
            },
        )
        for row, (item, score) in enumerate(zip(items.tolist(), scores_I, strict=True))
    ]
    note = (
        ""
        if sources
        else f"{saved.recipe.model_name} does not score a session item by item, so nothing says which of its "
        "items contributed"
    )
    return Explanation(explained, unknown, note)


def _contributions(
    saved: SavedModel, read: ReadSessions, tables: dict[str, Tables], protocol: Protocol, chosen_I: Tensor
) -> tuple[dict[str, list[float]], list[float]]:
    """Return what each part contributed to the scores of some items, and the scores."""
    model = saved.model
    removed = removed_items(model)
    if removed is not None:
        # A removed item that is explained has the score that it would have if it were a candidate.
        removed = removed.to(chosen_I.device)
        removed = removed[~torch.isin(removed, chosen_I)]
    parts = without_removed(model.part_scores(read.batch, tables), removed)
    terms = model.summands(parts, read.batch)
    found = {
        part: model.weights[part] * term[0, chosen_I].double()
        for part, term in terms.items()
        if model.weights[part]
    }
    # A copy: a single part is its own sum.
    total_NV = weighted_sum(terms, model.weights).clone()
    before_I = total_NV[0, chosen_I].double()
    scores_I = with_repeats(total_NV, read.seen_NL, protocol, model.scales)[0, chosen_I].double()
    if (cold_V := _scored_by_text(saved)) is not None and {"id", "text"} <= found.keys():
        # The ID term of an item without training is made of its text scores.
        cold_I = torch.from_numpy(cold_V).to(chosen_I.device)[chosen_I]
        found["text"] = torch.where(cold_I, found["id"] + found["text"], found["text"])
        found["id"] = torch.where(cold_I, 0.0, found["id"])
    if protocol.repeats is not None:
        found["repeats"] = scores_I - before_I
    return {part: values_I.tolist() for part, values_I in found.items()}, scores_I.tolist()


def _scored_by_text(saved: SavedModel) -> NDArray[np.bool_] | None:
    """Return which items (V,) have no ID score; None if all have one."""
    cold_V = saved.model.cold_V if isinstance(saved.model, Recommender) else None
    return None if cold_V is None else cold_V.cpu().numpy()


def _responsibilities(
    network: Network, batch: SessionBatch, tables: Tables, chosen_I: Tensor
) -> NDArray[np.float64]:
    """Return the share of each query in the probability of each item (I, 1 + L).

    The first column is the session vector, 0 if it is no query; the others are the items, oldest first.
    """
    queries = network.ask(batch, tables)
    rows_J = queries.rows_NJ[0]
    exclude_JE = None if queries.exclude_QE is None else queries.exclude_QE[rows_J]
    scores_JV = queries.vectors_QD[rows_J] @ tables.outputs.T
    softmax_(scores_JV, exclude=exclude_JE)
    shares_JI = queries.log_weights_NJ[0].exp()[:, None].double() * scores_JV[:, chosen_I].double()
    shares_IJ = (shares_JI / shares_JI.sum(0).clamp_min(torch.finfo(torch.float64).tiny)).T.cpu().numpy()
    assert network.queries is not None
    if network.queries.vector_logit is None:
        shares_IJ = np.pad(shares_IJ, ((0, 0), (1, 0)))
    # Queries are in the order of the distance from the end.
    return np.concatenate([shares_IJ[:, :1], shares_IJ[:, :0:-1]], axis=1)


def _neighbour_shares(system: NeighbourLists, session: Numbers, items: Numbers) -> NDArray[np.float64]:
    """Return the share of each item of the session in the sum of similarities (I, 1 + L).

    The first column is the offset that is added before the logarithm, 0 if there is none.
    """
    one = np.ones(1, np.int64)
    rows = [np.full(len(items), system.offset or 0.0)]
    for distance, item in zip(range(len(session) - 1, -1, -1), session, strict=True):
        similar_V = system.neighbours.scores(np.array([[item]]), one, 1.0)[0]
        rows.append(system.decay**distance * similar_V[items].astype(np.float64))
    terms_IL = np.stack(rows, axis=1)
    sums_I1 = terms_IL.sum(1, keepdims=True)
    shares_IL: NDArray[np.float64] = np.divide(
        terms_IL, sums_I1, out=np.zeros_like(terms_IL), where=sums_I1 > 0
    )
    return shares_IL


def _sources(
    shares: NDArray[np.float64], kind: Kind, places: Sequence[int], session: Sequence[str]
) -> list[ScoreSource]:
    """Return the sources of one part of one item, largest share first."""
    found = [ScoreSource(kind, None, "", float(shares[0]))]
    found += [
        ScoreSource("item", place, item, float(share))
        for place, item, share in zip(places, session, shares[1:], strict=True)
    ]
    return sorted((source for source in found if source.share > 0), key=lambda source: -source.share)
