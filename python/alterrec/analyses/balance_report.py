"""Who drowns whom in a model of ID and text: signs of it, and a verdict by stated rules."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from alterrec.report.tables import metric_name
from alterrec.report.training_curves import (
    Measure,
    Member,
    best_epoch_table,
    exceeds_seed_noise,
    gradient,
    gradient_share,
    loss,
    metric_of,
    paired,
    ratios,
    trained_jointly,
)
from alterrec.results import Epoch

PARTS = {"id": "ID", "text": "text"}
# How far a sign must speak for one part before it counts.
LEAD = 0.2
WHO = ("both", "only ID", "only text", "neither")
Verdict = Literal["id", "text", "neither", "not shown"]


class Sign(NamedTuple):
    """One measure of both parts, higher where a part has learned more.

    Attributes:
        name: what it is.
        id, text: seed -> value.
    """

    name: str
    id: Mapping[int, float]
    text: Mapping[int, float]

    @property
    def speaks_for(self) -> Literal["id", "text", ""]:
        """The part that is higher by more than ``LEAD`` and by more than seeds differ, if one is.

        Example:
            >>> Sign("metric", {0: 0.9, 1: 1.0}, {0: 0.3, 1: 0.2}).speaks_for
            'id'
            >>> Sign("metric", {0: 0.5}, {0: 0.6}).speaks_for
            ''
        """
        gaps = paired(self.id, self.text)
        if (
            not gaps
            or abs(statistics.fmean(gaps)) <= LEAD
            or (len(gaps) > 1 and not exceeds_seed_noise(gaps))
        ):
            return ""
        return "id" if statistics.fmean(gaps) > 0 else "text"


class Found(NamedTuple):
    """What ID and text find of the test targets of one run, in the order of ``WHO``.

    Attributes:
        shares: of all targets.
        kept: how much of these the score finds, too; None where there are none.
    """

    shares: tuple[float, ...]
    kept: tuple[float | None, ...]


@dataclass(frozen=True)
class BalanceFacts:
    """What runs of one recipe say of their parts.

    Attributes:
        model, data: what was trained on what.
        items: of the catalogue.
        targets: of test.
        metric: by which parts are compared.
        members: the whole, its parts, and each part alone where such runs were given.
        found: seed -> what the parts find on test.
        chooser: metric -> ``id``, ``text``, ``score`` or ``chooser`` -> seed -> value on test.
        doubts: what to keep in mind.
        command: what re-makes it.
    """

    model: str
    data: str
    items: int
    targets: int
    metric: str
    members: Sequence[Member]
    found: Mapping[int, Found]
    chooser: Mapping[str, Mapping[str, Mapping[int, float]]]
    caveats: Sequence[str] = ()
    command: str = ""

    def inside(self, part: str) -> Member:
        """The whole (``score``) or a part of it."""
        return next(member for member in self.members if member.part == part and not member.alone)

    def alone(self, part: str) -> Member | None:
        """A part trained alone, if such runs were given."""
        return next((member for member in self.members if member.part == part and member.alone), None)

    @property
    def alone_known(self) -> bool:
        """Whether runs of both parts alone were given."""
        return all(self.alone(part) is not None for part in PARTS)

    def signs(self) -> list[Sign]:
        """Share of gradient, progress of loss and metric of both parts, as far as they are known.

        The gradient counts where one loss trains both parts; networks of their own do not compete for it.
        Loss and metric are shares of what a part reaches alone where runs of both alone were given, else of
        what the whole reaches. Progress of loss is how far it has come down from that of guessing, the
        logarithm of the number of items.
        """
        start = math.log(self.items)

        def progress(epoch: Epoch, view: str) -> float | None:
            nats = loss(epoch, view)
            return None if nats is None else start - nats

        signs = []
        if trained_jointly(self.inside("score").curves):
            shares = [self.inside(part).until_best(gradient_share) for part in PARTS]
            signs.append(Sign("share of gradient", *shares))
        rival = "the part alone" if self.alone_known else "the whole"
        signs.append(Sign(f"progress of loss against {rival}", *self._reached(progress)))
        name = f"{metric_name(self.metric)} against {rival}"
        signs.append(Sign(name, *self._reached(metric_of(self.metric))))
        return [sign for sign in signs if sign.id and sign.text]

    def verdict(self) -> Verdict:
        """The part that drowns the other: two signs or more speak for it and none for the other.

        ``neither`` where no sign speaks, ``not shown`` where one does or where they disagree.
        """
        said = [sign.speaks_for for sign in self.signs()]
        speaking = [part for part in said if part]
        if not speaking:
            return "neither"
        return speaking[0] if len(speaking) > 1 and len(set(speaking)) == 1 else "not shown"

    def _reached(self, measure: Measure) -> list[dict[int, float]]:
        """Each part at its best epoch, as a share of its mean alone or of the whole of the same run."""
        shares = []
        for part in PARTS:
            own = self.inside(part).at_best(measure)
            rival = self.alone(part) if self.alone_known else None
            reached = (rival or self.inside("score")).at_best(measure)
            if rival is not None and reached:
                reached = dict.fromkeys(own, statistics.fmean(reached.values()))
            shares.append(ratios(own, reached))
        return shares

    def numbers(self) -> dict[str, Any]:
        """All of it for other programs, by seed where there are several."""
        return {
            "schema": 1,
            "model": self.model,
            "data": self.data,
            "items": self.items,
            "targets": self.targets,
            "metric": self.metric,
            "verdict": self.verdict(),
            "signs": [{**sign._asdict(), "speaks_for": sign.speaks_for} for sign in self.signs()],
            "parts": list(best_epoch_table(self.members, self.metric).records),
            "found": {
                seed: {
                    who: {"share": share, "kept": kept} for who, share, kept in zip(WHO, *each, strict=True)
                }
                for seed, each in self.found.items()
            },
            "chooser": self.chooser,
            "epochs": {member.label: self._epochs(member) for member in self.members},
            "doubts": list(self.caveats),
        }

    def _epochs(self, member: Member) -> dict[int, list[dict[str, float | None]]]:
        measures = {self.metric: metric_of(self.metric), "loss": loss, "gradient": gradient}
        return {
            curve.seed: [
                {name: measure(epoch, member.view) for name, measure in measures.items()}
                for epoch in curve.epochs
            ]
            for curve in member.curves
        }
