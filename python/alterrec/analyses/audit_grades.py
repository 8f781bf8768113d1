"""How the checks of a data set are graded, and whether text can help there, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from alterrec.analyses.audit_checks import Checks, Copies
from alterrec.data.statistics import Statistics
from alterrec.evaluation.significance import Difference
from alterrec.report.tables import count, percent, points
from alterrec.results import Metrics

Grade = Literal["fine", "look", "bad"]
GRADES: tuple[Grade, ...] = ("bad", "look", "fine")
Answer = Literal["yes", "perhaps", "no"]

SPLITS = {"train": "train", "valid": "validation", "test": "test"}
# A copy of 4 items or more is hardly chance; more of them than this share is a fault of the split.
MANY_COPIES, MANY_SHORT = 0.01, 0.05
LATE = 0.01
REPEATS, REPEATS_APART = 0.005, 0.1
UNSEEN = (0.001, 0.2)
MANY_TIED = 0.1
FEW_WORDED = 0.5
# A share of targets, or a gain, below which there is next to nothing to be had.
LITTLE = 0.01
COLD_WORTH = 0.01


class Finding(NamedTuple):
    """One check: how it ended, of what it is, and what was seen."""

    grade: Grade
    check: str
    says: str


@dataclass(frozen=True)
class TextReach:
    """What the texts' nearest neighbours find beside item-kNN; shares of test targets, Hits@20.

    Attributes:
        items_with_text: share of items.
        both, text_alone, counted_alone: found by both, by text and not by item-kNN, the other way round.
        popular_alone: found by popularity and not by item-kNN, which shows what any second list adds.
        cold, cold_with_text: targets never seen in train; those of them that have a text.
        cold_found: share of cold targets that text finds.
        weight: of text in the sum with item-kNN, chosen on validation; 0 where it does not help there.
        gain: NDCG@20 of that sum less that of item-kNN.
    """

    items_with_text: float
    both: float
    text_alone: float
    counted_alone: float
    popular_alone: float
    cold: float
    cold_with_text: float
    cold_found: float
    weight: float
    gain: Difference

    @property
    def ceiling(self) -> float:
        """Hits@20 of whoever knew, target by target, which of the two lists to take."""
        return self.both + self.text_alone + self.counted_alone


def graded(found: Checks, statistics: Statistics) -> list[Finding]:
    """Every check with its grade, the worst first."""
    findings = [
        *_copies(found.copies),
        _order(found, statistics),
        *_targets(statistics),
        *_texts(found, statistics),
        *_drift(found),
    ]
    return sorted(findings, key=lambda finding: GRADES.index(finding.grade))


def can_text_help(text: TextReach | None, reach: Mapping[str, Metrics]) -> tuple[Answer, str]:
    """The verdict in words, from what was measured; lower bounds, as no text network was trained."""
    if text is None:
        return "no", "Can text help here? No: there is none."
    alone, popular = reach["text neighbours"]["hits@20"], reach["popularity"]["hits@20"]
    extra = text.text_alone - text.popular_alone
    found = (
        f"text neighbours find {percent(alone)} of the targets, {percent(text.text_alone)} that item-kNN "
        f"misses (popularity: {percent(text.popular_alone)}); a perfect chooser between text and item-kNN "
        f"would reach {percent(text.ceiling)} against {percent(reach['item-kNN']['hits@20'])} (Hits@20)"
    )
    gain = (
        f"adding text to item-kNN changes NDCG@20 by {points(text.gain.mean)} points "
        f"[{points(text.gain.low)}, {points(text.gain.high)}]"
    )
    cold = (
        f"{percent(text.cold_with_text)} of the targets are cold and have a text, and text finds "
        f"{percent(text.cold_found)} of the cold ones"
    )
    if text.gain.mean > 0 and text.gain.p <= 0.05:
        return "yes", f"Can text help here? Yes: {gain} without any training, and {found}."
    if text.cold_with_text >= COLD_WORTH and text.cold_found > 2 * popular:
        return "yes", f"Can text help here? Yes, with items that training does not know: {cold}; {gain}."
    if text.items_with_text < FEW_WORDED:
        return (
            "no",
            f"Can text help here? Hardly: {percent(text.items_with_text)} of the items have any; {found}.",
        )
    if extra < LITTLE and text.gain.high < LITTLE:
        return (
            "no",
            f"Can text help here? No sign of it: {found}; {gain}. What text finds beside item-kNN, a list of "
            "popular items finds as well.",
        )
    return (
        "perhaps",
        f"Can text help here? Perhaps: {found}; but {gain}, so a plain sum does not show it. A trained text "
        "network may.",
    )


def _grade(value: float, look: float, bad: float) -> Grade:
    return "bad" if value > bad else "look" if value > look else "fine"


def _copies(found: Sequence[Copies]) -> list[Finding]:
    findings = []
    for each in found:
        long = each.long / max(each.sessions, 1) * each.share
        grade: Grade = "bad" if each.named or long > MANY_COPIES else "fine"
        if grade == "fine" and (each.long or each.share > MANY_SHORT):
            grade = "look"
        said = f"{count(each.sessions)} sessions ({percent(each.share)}) are in {SPLITS[each.earlier]} too"
        if each.sessions:
            said += f", {count(each.long)} of them with 4 items or more"
        if each.named:
            said += f"; {count(each.named)} session ids are in both"
        if each.examples and grade != "fine":
            said += f"; for instance {', '.join(each.examples)}"
        findings.append(
            Finding(grade, f"copies of {SPLITS[each.earlier]} in {SPLITS[each.later]}", f"{said}.")
        )
    return findings


def _order(found: Checks, statistics: Statistics) -> Finding:
    check = "order in time"
    if statistics.splits["train"].first_time is None:
        return Finding("look", check, "No timestamps, so whether the split is by time cannot be seen.")
    late = [each for each in found.order if each.ended]
    if not late:
        begun = sum(each.begun for each in found.order)
        overlap = f" {count(begun)} of them begin before it ends." if begun else ""
        return Finding("fine", check, f"Validation and test sessions end after all of training.{overlap}")
    said = " and ".join(
        f"{count(each.ended)} {SPLITS[each.split]} sessions ({percent(each.ended_share)})" for each in late
    )
    worst = max(each.ended_share for each in late)
    return Finding(
        "bad" if worst > LATE else "look", check, f"{said} end before training does: it knows their future."
    )


def _targets(statistics: Statistics) -> list[Finding]:
    train, test = statistics.splits["train"].every, statistics.splits["test"].last
    apart = abs(train.repeated - test.repeated)
    repeated = (
        f"{percent(test.repeated)} of test targets repeat an item of their session, "
        f"{percent(train.repeated)} of training targets (every item). "
    )
    repeated += (
        "The two differ, so a rule that fits one does not fit the other."
        if apart > REPEATS_APART
        else "Leave items of the session out of the candidates (data.exclude_seen)."
        if max(train.repeated, test.repeated) < REPEATS
        else "Systems that leave items of the session out cannot find these."
    )
    unseen = f"{percent(test.cold)} of test targets never occur in train: only their text can find them."
    return [
        Finding("look" if max(apart, test.repeated) > REPEATS else "fine", "repeated targets", repeated),
        Finding(_grade(test.cold, *UNSEEN), "unseen targets", unseen),
    ]


def _texts(found: Checks, statistics: Statistics) -> list[Finding]:
    if found.alike is None or statistics.text is None:
        return [Finding("look", "texts", "The data has no texts.")]
    alike, share = found.alike, statistics.text.share
    said = (
        f"{count(alike.identical)} items share their text with another one, {count(alike.same_words)} all "
        f"their words, {count(alike.one_word)} all words but one. {percent(alike.targets)} of test targets "
        "have the text of another item: scores by text tie there."
    )
    ties: Grade = "bad" if alike.targets > MANY_TIED else "look" if alike.identical else "fine"
    missing = f"{percent(share)} of items have a text, of {statistics.text.words:.1f} words on average."
    grade: Grade = "bad" if share < FEW_WORDED else "look" if share < 0.99 else "fine"
    return [
        Finding(ties, "identical texts", said),
        Finding(grade, "items without text", missing),
    ]


def _drift(found: Checks) -> list[Finding]:
    return [
        Finding(
            _grade(each.distance - each.expected, 0.1, 0.3),
            f"drift to {SPLITS[each.split]}",
            f"Its items are {each.distance:.2f} from those of train (Jensen-Shannon distance, 0 to 1); as "
            f"many random sessions of train are {each.expected:.2f} from the rest.",
        )
        for each in found.drift
    ]
