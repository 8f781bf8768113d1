"""The model card of a run: README.md with metadata in the format of the Hugging Face Hub.

Everything is computed from ``result.json``, without times and dates, so equal runs have equal cards.
"""

from __future__ import annotations

from pathlib import Path

from alterrec.analyses.run_sections import group_table
from alterrec.analyses.run_summary import baselines_of, caveats, findings, split_name, views_of
from alterrec.errors import InputError
from alterrec.files import atomic_write, read_text
from alterrec.metrics import metric_name
from alterrec.models.catalogue import MODELS
from alterrec.report.seen_items import seen_sentence
from alterrec.report.tables import VIEW_NAMES, Table, count, markdown, metric_table, normal_interval, percent
from alterrec.results import RunFolder, RunResult, read_run, reported_split

CARD = "README.md"
TAGS = ("recommender-system", "session-based-recommendation", "sequential-recommendation")
TASK = "session-based-recommendation"

_USE = """\
```python
import alterrec

saved = alterrec.load(RUN)  # this folder, or "hf://USER/NAME"
saved.recommend([["an item id", "another one"]], k=10)
```"""
_INTENDED = (
    "The model ranks the items of one catalogue as the next item of a session, for the shop or site whose "
    "sessions it was trained on: lists of recommendations, candidates for a second ranking, research. It is "
    "not meant for decisions about people, and says nothing about items that are not in its catalogue."
)
_LICENSE = (
    "Not stated. Whoever publishes the model adds `license` to the metadata above, and thinks of the data: "
    "the folder has the texts of the items, and may have ids of sessions and users."
)


def model_card(run: RunFolder) -> str:
    """Return the model card of a finished run as Markdown.

    It states the data, the protocol, the metrics with 95% intervals over sessions, simple baselines, the
    intended use and the limits. It names no licence, which is for the owner of the data to choose.

    Args:
        run: the files of a run, as :func:`alterrec.results.read_run` returns them.
    """
    result = run.result
    sections = {
        "Use": _USE,
        "Data": _data(result),
        "Protocol": _protocol(result),
        "Metrics": _metrics(result),
        "Intended use": _INTENDED,
        "Limits": _bullets([*caveats(result), *_limits(result), *result.warnings]),
        "Training": _training(run),
        "License": _LICENSE,
    }
    text = [f"# {result.model} on {result.data.name}", *findings(result)]
    for title, body in sections.items():
        text += [f"## {title}", body]
    return f"---\n{_metadata(result)}\n---\n\n" + "\n\n".join(text) + "\n"


def write_card(path: str | Path) -> Path:
    """Write the model card of a run into its folder, as ``README.md``, and return its path.

    A card that somebody has changed is kept, and is an error: delete it, or write what is new by hand.

    Raises:
        InputError: the folder is not that of a finished run, or has another ``README.md``.
    """
    run = read_run(Path(path))
    card, text = run.path / CARD, model_card(run)
    if card.exists() and read_text(card) != text:
        raise InputError(
            f"{card} exists and is not the card that would be written, so it may have been edited; rename or "
            "delete it first"
        )
    with atomic_write(card) as temporary:
        temporary.write_text(text, "utf-8")
    return card


def _metadata(result: RunResult) -> str:
    """Return the metadata as YAML: library, tags and the metrics of the final score."""
    from huggingface_hub import EvalResult, ModelCardData

    values, split = views_of(result).get("score", {}), reported_split(result)
    data = ModelCardData(
        library_name="alterrec",
        tags=list(TAGS),
        model_name=f"{result.model} on {result.data.name}",
        eval_results=[
            EvalResult(
                task_type=TASK,
                task_name="Session-based recommendation",
                dataset_type=result.data.name,
                dataset_name=result.data.name,
                dataset_split=split,
                metric_type=name,
                metric_name=metric_name(name),
                metric_value=round(value, 6),
            )
            for name, value in values.items()
        ]
        or None,
    )
    yaml: str = data.to_yaml(line_break="\n").strip()
    return yaml


def _data(result: RunResult) -> str:
    data = result.data
    facts = {
        "data set": data.name,
        "fingerprint": data.fingerprint,
        "items": count(data.items),
        "items without training": count(data.cold_items),
        "training sessions": count(data.train_sessions),
        "validation sessions": count(data.valid_sessions),
        "test sessions": count(data.test_sessions),
    }
    if data.repeat_share is not None:
        facts["targets that repeat an item of their session, in training"] = percent(data.repeat_share)
    table = markdown(Table(("data", "value"), tuple(facts.items()), prose=True))
    return "\n\n".join([table, *([_bullets(data.notes)] if data.notes else [])])


def _protocol(result: RunResult) -> str:
    targets = result.targets.get(reported_split(result))
    kind = {"last": "the last item", "every": "every item but the first"}.get(result.data.targets, "an item")
    lines = [
        f"The targets are {kind} of each {split_name(result)} session, ranked among the whole catalogue; "
        "ties count as the mean over all orders.",
        seen_sentence(result.data),
        "Epochs and weights of the parts were chosen on validation sessions alone.",
    ]
    if targets is not None:
        lines.insert(
            1,
            f"There are {count(targets.count)} targets; {count(targets.cold)} never occur in training.",
        )
    return _bullets(lines)


def _metrics(result: RunResult) -> str:
    views, errors = views_of(result), result.errors
    score = views.get("score", {})
    if not score:
        return "The run has no targets, so nothing was measured."
    rows = [
        (
            metric_name(name),
            percent(value),
            _interval(value, errors.get("score", {}).get(name)),
            percent(result.valid.get("score", {}).get(name)),
        )
        for name, value in score.items()
    ]
    columns = ("final score", split_name(result), "95% interval", "validation")
    parts = {VIEW_NAMES.get(view, view): values for view, values in views.items()}
    parts |= baselines_of(result)
    text = [
        markdown(Table(columns, tuple(rows))),
        "Intervals are 1.96 standard errors over sessions to each side; they do not cover training seeds.",
        markdown(metric_table(parts, list(score), title="Parts and simple baselines")),
    ]
    groups = result.groups.get(reported_split(result))
    if groups:
        text.append(markdown(group_table("interactions of the target in training", groups)))
    return "\n\n".join(text)


def _interval(value: float, error: float | None) -> str:
    if error is None:
        return "not measured"
    return normal_interval(value, error)


def _limits(result: RunResult) -> list[str]:
    return [
        "The metrics are of past sessions. They do not show what recommendations would have caused: an item "
        "that was not chosen may not have been seen.",
        "Popular items occur in more sessions and are learned better; the metrics by interactions in "
        "training show the difference, where there are enough targets.",
        f"The catalogue is fixed at {count(result.data.items)} items, and what is popular changes: measure "
        "the model on recent sessions (`alterrec evaluate`) before it is used, and train it again.",
    ]


def _training(run: RunFolder) -> str:
    result = run.result
    facts = {
        "system": f"{result.model}: {MODELS[result.model].summary}"
        if result.model in MODELS
        else result.model,
        "presets": ", ".join(result.presets) or "none",
        "seed": str(result.seed),
        "epochs": f"{result.epochs}, of which epoch {result.best_epoch} was the best"
        if result.best_epoch
        else str(result.epochs),
        "parameters": "none" if result.parameters is None else count(result.parameters),
        "weights of the parts": ", ".join(f"{part} {weight:g}" for part, weight in result.fusion.items()),
        "versions": ", ".join(f"{name} {version}" for name, version in result.versions.items()),
    }
    rows = tuple((name, value) for name, value in facts.items() if value)
    table = markdown(Table(("training", "value"), rows, prose=True))
    return f"{table}\n\nAll settings are in `recipe.toml`, all numbers in `result.json`."


def _bullets(lines: list[str]) -> str:
    return "\n".join(f"- {' '.join(line.split())}" for line in lines)
