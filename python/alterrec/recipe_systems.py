"""Tables of a recipe that belong to single published systems, and the base class of all tables."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

# Largest whole number of a setting, unless the field says otherwise. Numbers near 2**63 overflow somewhere in
# torch or numpy, and none of them describes a run.
LARGEST = 2**31 - 1


class SettingsTable(BaseModel):
    """Base class of the tables of a recipe: types are strict, unknown keys and infinities are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _in_range(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, int) and abs(value) > LARGEST and info.field_name != "seed":
            raise ValueError(f"use a number of at most {LARGEST}")
        return value


class GruSettings(SettingsTable):
    """Recurrent session encoders (GRU4Rec)."""

    hidden: int = Field(default=0, ge=0, le=2**16, description="width of a GRU's hidden state; 0 = 2 dim")


class FrequencySettings(SettingsTable):
    """Session encoders with frequency filters (BSARec)."""

    alpha: float = Field(
        default=0.9, ge=0, le=1, description="weight of the filter; attention has weight 1 - alpha"
    )
    low: int = Field(
        default=3, ge=0, description="c: frequencies up to c // 2 periods per prefix are low, all others high"
    )


class FdsaSettings(SettingsTable):
    """Item features of FDSA."""

    features: Literal["text", "attributes"] = Field(
        default="text", description="input of the second stream: text vectors, or the categories of items"
    )


class UnisrecSettings(SettingsTable):
    """Contrastive pretraining of UniSRec: sessions with next items, and with changed copies of themselves."""

    drop: float = Field(
        default=0.2,
        ge=0,
        lt=1,
        description="share of the items of a session, or of the words of a text, that are removed",
    )
    item_share: float = Field(
        default=0.9,
        ge=0,
        le=1,
        description="share of batches in which items are removed; in the others words are removed",
    )
    sequence_weight: float = Field(
        default=0.001,
        ge=0,
        description="weight of the session-session loss relative to the session-item loss",
    )


class GraphSettings(SettingsTable):
    """Graphs of sessions and of all items."""

    steps: int = Field(
        default=1, ge=1, le=1000, description="message passing steps in the graph of a session (srgnn)"
    )
    predecessors: int = Field(
        default=12,
        ge=1,
        description="number of frequent predecessors of an item that the global graph links to it (hggnn)",
    )


class ClozeSettings(SettingsTable):
    """Masked items, if ``schedule.objective`` is cloze."""

    last: float = Field(
        default=0.5, ge=0, le=1, description="share of samples in which only the last item is masked"
    )
    ratio: float = Field(
        default=0.2,
        gt=0,
        le=1,
        description="probability that an item is masked in the other samples; at least one item is masked",
    )


class S3RecSettings(SettingsTable):
    """Masks and task weights of the pretraining of S3-Rec."""

    attributes: Literal["text", "categories", "auto"] = Field(
        default="text",
        description="attributes of items: text vectors, categories, or categories if the data has any (auto)",
    )
    mask: float = Field(default=0.2, gt=0, lt=1, description="probability that an item is masked")
    mask_last: bool = Field(default=False, description="always mask the last item of a session")
    aap: float = Field(default=1.0, ge=0, description="weight of the associated attributes task")
    mip: float = Field(default=0.2, ge=0, description="weight of the masked items task")
    map: float = Field(default=1.0, ge=0, description="weight of the masked attributes task")
    sp: float = Field(default=0.5, ge=0, description="weight of the masked segments task")
