"""What the HTTP service reads and answers, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from alterrec.errors import nearest

ItemId = str | int
Texts = Annotated[bool, Field(description="Whether the answer has the text of each item.")]
ExcludeSeen = Annotated[
    bool | None,
    Field(
        description="Whether items of a session are never recommended for it. Default: as the run was "
        "evaluated."
    ),
]
RunName = Annotated[str, Field(description="Name of the folder of the run that answered.")]


class RequestBody(BaseModel):
    """A request: other fields than its own and values of other types are refused."""

    model_config = ConfigDict(strict=True, extra="forbid")


class RecommendRequest(RequestBody):
    """Sessions, and which items may be recommended for them."""

    sessions: Annotated[
        list[list[ItemId]],
        Field(description="For each session a list of item ids, oldest first. An integer means its text."),
    ]
    k: Annotated[int, Field(ge=1, description="Number of items for each session.")] = 20
    users: Annotated[
        list[ItemId | None] | None,
        Field(description="One user id for each session, null if it is unknown. Default: all unknown."),
    ] = None
    exclude: Annotated[
        list[ItemId], Field(description="Items that are never recommended, in any session of the request.")
    ] = []
    only: Annotated[
        list[ItemId] | None,
        Field(description="The only items that may be recommended. Default: the whole catalogue."),
    ] = None
    exclude_seen: ExcludeSeen = None
    texts: Texts = True


class ScoredItem(BaseModel):
    """An item with its score."""

    item_id: str
    score: Annotated[float, Field(description="Higher is better. Scores of two sessions cannot be compared.")]
    text: Annotated[str | None, Field(description="Its text; null if the request has texts=false.")] = None


class SessionAnswer(BaseModel):
    """What is recommended for one session."""

    items: Annotated[list[ScoredItem], Field(description="Best first.")]
    unknown_items: Annotated[
        int, Field(description="Items of the session that the run does not know; they were skipped.")
    ]
    source: Annotated[
        Literal["model", "popular"],
        Field(
            description="popular: nothing in the session is known, so these are the items with the most "
            "training interactions; scores are their shares of these."
        ),
    ]


class RecommendAnswer(BaseModel):
    """One answer for each session of a request, in its order."""

    run: RunName
    sessions: list[SessionAnswer]


class SimilarRequest(RequestBody):
    """Items to find similar ones of."""

    items: Annotated[list[ItemId], Field(description="Item ids. An integer means its text.")]
    k: Annotated[int, Field(ge=1, description="Number of items to find for each item.")] = 20
    by: Annotated[
        str | None,
        Field(
            description="What is compared, such as id, text, both or neighbours. Default: the first "
            "that the run has of both, model and neighbours."
        ),
    ] = None
    texts: Texts = True


class SimilarToItem(BaseModel):
    """The items that are most similar to one item."""

    item_id: Annotated[str, Field(description="The item of the request.")]
    known: Annotated[bool, Field(description="Whether the run knows it; if not, nothing is similar to it.")]
    by: Annotated[str, Field(description="What was compared; empty if the item is unknown.")]
    items: Annotated[list[ScoredItem], Field(description="Most similar first; scores are similarities.")]


class SimilarAnswer(BaseModel):
    """One answer for each item of a request, in its order."""

    run: RunName
    items: list[SimilarToItem]


class ExplainRequest(RequestBody):
    """A session, and items whose scores in it are to be explained."""

    session: Annotated[list[ItemId], Field(description="Item ids, oldest first.")]
    items: Annotated[list[ItemId], Field(description="Ids of the items to explain.")]
    user: Annotated[ItemId | None, Field(description="The user; null if unknown.")] = None
    exclude_seen: ExcludeSeen = None


class SourceShare(BaseModel):
    """What a part of a score came from."""

    kind: Annotated[
        Literal["item", "session", "constant"],
        Field(
            description="item: an item of the session; session: the vector of the whole session; constant: "
            "what every item gets."
        ),
    ]
    place: Annotated[
        int | None,
        Field(description="The place of the item in the session, from 0; null for the other kinds."),
    ]
    item_id: Annotated[str, Field(description="The item of the session; empty if it is none.")]
    share: Annotated[float, Field(description="Share of the part that came from it, 0 to 1.")]


class ExplainedScore(BaseModel):
    """The score of an item and where it comes from."""

    item_id: str
    score: Annotated[float, Field(description="The score, which is the sum of its parts.")]
    parts: Annotated[dict[str, float], Field(description="What each part contributed, such as id and text.")]
    sources: Annotated[
        dict[str, list[SourceShare]],
        Field(description="For the parts of which it can be said: what they came from, largest share first."),
    ]


class ExplainAnswer(BaseModel):
    """The explained items of a session."""

    run: RunName
    items: list[ExplainedScore]
    unknown_items: Annotated[int, Field(description="Items of the session that the run does not know.")]
    note: Annotated[str, Field(description="What cannot be said about this system; empty if nothing.")]


class FoundItem(BaseModel):
    """An item of the catalogue."""

    item_id: str
    text: str


class ItemsAnswer(BaseModel):
    """Items found by a search."""

    items: Annotated[list[FoundItem], Field(description="The most popular first.")]


class HealthAnswer(BaseModel):
    """The state of the service."""

    status: Literal["ok"] = "ok"
    run: Annotated[str, Field(description="Name of the folder of the run that answers.")]
    model: Annotated[str, Field(description="Its system, such as alterrec.")]
    items: Annotated[int, Field(description="Size of its catalogue.")]
    loaded: Annotated[datetime, Field(description="When it was loaded, in UTC.")]
    reload_failure: Annotated[
        str, Field(description="Why the last reload failed and the run before still answers; empty if not.")
    ]
    version: Annotated[str, Field(description="Version of alterrec.")]


class ErrorAnswer(BaseModel):
    """Why a request was refused or failed."""

    error: Annotated[str, Field(description="What was found, what is allowed and how to fix it.")]


def explain_refusal(errors: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> str:
    """Return one sentence about a request that has the wrong form.

    Args:
        errors: the errors of pydantic, of which the first one is explained.
        fields: the fields of the request.

    Example:
        >>> explain_refusal([{"type": "missing", "loc": ("body", "sessions")}], ["sessions", "k"])
        'sessions is missing; the request must have it'
    """
    first = errors[0]
    kind, where = first["type"], [each for each in first["loc"][1:] if each not in ("str", "int")]
    place = "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in where).lstrip(".")
    if kind == "json_invalid":
        reason = str(first.get("ctx", {}).get("error", "")) or "it cannot be read"
        return f"the body is not JSON ({reason}, at character {first['loc'][-1]}); send a JSON object"
    if kind == "missing":
        if not place:
            return "the request has no body; send a JSON object with the content type application/json"
        return f"{place} is missing; the request must have it"
    if kind == "extra_forbidden":
        return f"{place} is no field of this request{nearest(place, fields)}".rstrip("?") + (
            f"; its fields are {', '.join(fields)}"
        )
    if isinstance(first.get("input"), bytes):
        return "the body is not said to be JSON; send it with the content type application/json"
    found = _short(first.get("input"))
    if not place:
        return f"the body is {found}; send a JSON object with the content type application/json"
    if len(errors) > 1 and errors[1]["loc"][:-1] == first["loc"][:-1]:
        # Neither of the types of an id.
        return f"{place} is {found}; expected an id, a text or an integer"
    return f"{place} is {found}; {str(first['msg']).replace('Input', 'it', 1)}"


def _short(value: Any) -> str:
    shown = json.dumps(value, default=ascii)
    return shown if len(shown) <= 60 else f"{shown[:56]} ..."
