"""Write the files of a run folder, load its model, and recommend with it."""

from __future__ import annotations

import json
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from alterrec.data.dataset import Dataset
from alterrec.data.repeats import RepeatModel, SeenItems
from alterrec.errors import InputError
from alterrec.evaluation.evaluate import SCORE_BYTES, Counts, Protocol, Ranks, recommend_items
from alterrec.files import atomic_write, reading, write_text
from alterrec.models.base import Recommender, Scorer
from alterrec.models.catalogue import lookup
from alterrec.models.neighbours import Untrained
from alterrec.recipe import Recipe
from alterrec.record_json import to_json
from alterrec.results import Epoch
from alterrec.runs.inputs import USERS, RunCatalogue, read_catalogue
from alterrec.runs.rebuild import GATE_TENSORS, StoredModel, check_device
from alterrec.runs.recommendations import Recommendation, Recommendations
from alterrec.stored import read_tensors, write_tensors
from alterrec.vocabulary import Vocabulary


@dataclass(frozen=True, repr=False)
class SavedModel:
    """A trained system with its catalogue, as :func:`alterrec.load` returns it; it needs no training data.

    Attributes:
        trained: (V,) whether each item occurs in training.
        seen: rule for items already in the session: ``kept``, ``excluded`` or ``repeats``.
        repeats: the repeat component, with the rule ``repeats``.
        users: the users that the model knows; None if it reads no users, or knows them by number only.
    """

    path: Path
    recipe: Recipe
    vocabulary: Vocabulary
    texts: list[str]
    trained: NDArray[np.bool_]
    seen: SeenItems
    repeats: RepeatModel | None
    model: Scorer
    users: Vocabulary | None

    def __repr__(self) -> str:
        return f"SavedModel({self.recipe.model_name}, {len(self.vocabulary)} items, {str(self.path)!r})"

    @property
    def protocol(self) -> Protocol:
        """The evaluation protocol of the run."""
        return protocol_of(self.recipe, self.seen, self.repeats)

    def recommend(
        self,
        sessions: Sequence[Sequence[str | int]],
        k: int = 20,
        *,
        users: Sequence[str | int | None] | None = None,
        drop_unknown: bool = False,
        exclude_seen: bool | None = None,
    ) -> Recommendations:
        """Return the ``k`` best next items of each session, best first.

        Args:
            sessions: for each session a list of item ids as in your data, oldest first. An integer means its
                text.
            k: number of items for each session, 1 or more. Default: 20.
            users: one user id for each session, None or "" if it is unknown. Users who were not in training
                are treated as unknown; systems that read no users ignore this argument. Default: all unknown.
            drop_unknown: whether items that are not in the catalogue are ignored. Default: they are an error.
            exclude_seen: whether items of a session are never recommended for it. Default: as the run was
                evaluated. False: they are candidates, with the counted probability of a repeat if the run has
                the repeat component, else by their scores.

        Returns:
            For each session ``k`` recommendations; fewer if it leaves fewer candidates, and none if none of
            its items is known. ``to_polars()`` and ``to_pandas()`` make a frame of them.

        Raises:
            InputError: an item is not in the catalogue, an id is neither text nor an integer, a session is
                empty, ``users`` has another length than ``sessions``, or ``k`` is out of range.

        Example:
            >>> import tempfile
            >>> from alterrec import fit, load
            >>> from alterrec.data.synthetic import synthetic_dataset
            >>> folder = Path(tempfile.mkdtemp()) / "run"
            >>> data = synthetic_dataset(items=300, sessions=500)
            >>> run = fit(data, "popularity", out=folder, overrides={"run.baselines": False})
            >>> (best,) = load(folder).recommend([data.vocabulary.item_ids[:2]], k=3)
            >>> len(best), best[0].score >= best[1].score
            (3, True)
        """
        numbers: list[NDArray[np.int64]] = []
        for place, session in enumerate(_listed("sessions", sessions)):
            found = [] if isinstance(session, str) else _listed(f"session {place}", session)
            if not found:
                raise InputError(f"session {place} is {session!r}; expected a list of one or more item ids")
            names = [_id_text(f"session {place}, item {at}", item) for at, item in enumerate(found)]
            items = self.vocabulary.find(names) if drop_unknown else self.vocabulary.index(names)
            numbers.append(items[items >= 0])
        answers = Recommendations([] for _ in numbers)
        known = [place for place, items in enumerate(numbers) if items.size]
        user_S = self._user_numbers(users, len(numbers))
        ids, scores = self.recommend_numbers(
            [numbers[place] for place in known],
            k,
            None if user_S is None else user_S[known],
            exclude_seen=exclude_seen,
        )
        for place, items, values in zip(known, ids.tolist(), scores.tolist(), strict=True):
            answers[place] = [
                Recommendation(self.vocabulary.item_ids[item], score, self.texts[item])
                for item, score in zip(items, values, strict=True)
                if item >= 0
            ]
        return answers

    def _user_numbers(
        self, users: Sequence[str | int | None] | None, sessions: int
    ) -> NDArray[np.int64] | None:
        if users is None:
            return None
        if isinstance(users, str) or len(_listed("users", users)) != sessions:
            found = repr(users) if isinstance(users, str) else f"a list of {len(users)}"
            raise InputError(
                f"users is {found} for {sessions} sessions; expected a list with one user id for each "
                "session, None where it is unknown"
            )
        # No user is called "".
        names = ["" if user is None else _id_text(f"users[{at}]", user) for at, user in enumerate(users)]
        return None if self.users is None else self.users.find(names)

    def recommend_numbers(
        self,
        sessions: Sequence[NDArray[np.int64]],
        k: int,
        users: NDArray[np.int64] | None = None,
        *,
        exclude_seen: bool | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the ``k`` best next items of each session of item numbers: ids (S, k) and scores (S, k).

        ``users`` (S,) are indices into ``self.users``, -1 where a user is unknown; ``exclude_seen`` is that
        of :meth:`recommend`. Where a session leaves fewer than ``k`` candidates, its last ids are -1 and
        their scores -inf.

        Raises:
            InputError: ``k`` is below 1, or larger than the catalogue.
        """
        num_items = len(self.vocabulary)
        if isinstance(k, bool) or not hasattr(k, "__index__") or not 1 <= k <= num_items:
            raise InputError(f"k is {k!r}; expected 1 to {num_items} (a catalogue of {num_items} items)")
        k = operator.index(k)
        protocol = self._protocol_for(exclude_seen)
        left = np.full(len(sessions), num_items, np.int64)
        if protocol.seen == "excluded":
            left -= np.array([len(np.unique(items)) for items in sessions], np.int64)
        ids = np.full((len(sessions), k), -1, np.int64)
        scores = np.full((len(sessions), k), -np.inf, np.float32)
        width_S = np.minimum(left, k)
        # Sessions that leave fewer candidates are ranked by themselves.
        for width in np.unique(width_S[width_S > 0]).tolist():
            chosen = np.flatnonzero(width_S == width)
            own = None if users is None else users[chosen]
            read = [sessions[place] for place in chosen.tolist()]
            ids[chosen, :width], scores[chosen, :width] = recommend_items(
                self.model, read, width, protocol, num_items, own
            )
        return ids, scores

    def _protocol_for(self, exclude_seen: bool | None) -> Protocol:
        if exclude_seen is None:
            return self.protocol
        if exclude_seen:
            return replace(self.protocol, seen="excluded", repeats=None)
        return replace(self.protocol, seen="kept" if self.repeats is None else "repeats")


def _listed(name: str, values: Any) -> list[Any]:
    """The elements of a list, an array or another collection."""
    try:
        return list(values)
    except TypeError:
        raise InputError(f"{name} is {values!r}; expected a list") from None


def _id_text(name: str, value: Any) -> str:
    """An external id as text; integers are written out."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return str(int(value))
    raise InputError(f"{name} is {value!r} ({type(value).__name__}); expected an id as text or as an integer")


def protocol_of(
    recipe: Recipe, seen: SeenItems, repeats: RepeatModel | None, score_bytes: int = SCORE_BYTES
) -> Protocol:
    """Return the evaluation protocol of a recipe with ``data.exclude_seen`` resolved."""
    return Protocol(
        targets=recipe.data.targets,
        seen=seen,
        repeats=repeats,
        max_len=recipe.model.max_len,
        budget_bytes=score_bytes,
        device=recipe.run.device,
        metrics=recipe.metrics,
    )


def save_model(run: Path, model: Scorer, protocol: Protocol) -> None:
    """Write ``model.safetensors``: tensors, with the weights of the parts and the seen rule as metadata."""
    if isinstance(model, Recommender):
        tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
        for part, system in model.untrained.items():
            assert isinstance(system, Untrained)
            tensors |= {f"{part}/{name}": value for name, value in system.tensors().items()}
        if model.gate is not None:
            tensors |= {f"gate/{name}": getattr(model.gate, name) for name in GATE_TENSORS}
    else:
        assert isinstance(model, Untrained)
        tensors = {f"untrained/{name}": value for name, value in model.tensors().items()}
    if protocol.repeats is not None:
        tensors |= {
            "repeats/rates": torch.from_numpy(protocol.repeats.rates_B),
            "repeats/weights": torch.from_numpy(protocol.repeats.weights_B),
        }
    metadata = {
        "weights": json.dumps(model.weights),
        "seen": json.dumps(protocol.seen),
        "scales": json.dumps(model.scales),
    }
    if isinstance(model, Recommender) and model.gate is not None:
        metadata["gate"] = json.dumps(model.gate.parts)
    write_tensors(run / "model.safetensors", tensors, metadata)


def load(run: str | Path) -> SavedModel:
    """Load the system of a run folder; it needs no training data and unpickles nothing.

    Args:
        run: path of the folder of a finished run, which training printed last.

    Returns:
        The system with its catalogue, ready to recommend.

    Raises:
        InputError: the folder is not that of a finished run, a file is damaged, or the files are not those of
            one run.

    Example:
        >>> load("no/such/run")
        Traceback (most recent call last):
            ...
        alterrec.errors.InputError: no/such/run has no recipe.toml; give the folder of a finished run
    """
    return load_model(read_catalogue(run))


def load_model(known: RunCatalogue) -> SavedModel:
    """Load the system of a run whose catalogue is read already; as :func:`load`."""
    check_device(known.recipe.run.device)
    file = known.path / "model.safetensors"
    stored = StoredModel(file, *read_tensors(file))
    # What fails from here on fails because the files do not belong together.
    with reading(known.path):
        loaded = SavedModel(
            **known._asdict(),
            seen=stored.seen(),
            repeats=stored.repeats(),
            model=stored.model(known.recipe, known.trained),
        )
        # Scores of one item show what no check of shapes does, such as ids outside of a table.
        loaded.recommend_numbers([np.zeros(1, np.int64)], 1, exclude_seen=False)
    return loaded


def write_vocabulary(run: Path, data: Dataset) -> None:
    """Write ``vocabulary.parquet``: item_id, text, train_count, trained, in the order of the catalogue."""
    texts = data.text.joined_texts() if data.text else [""] * data.num_items
    frame = pl.DataFrame(
        {
            "item_id": list(data.vocabulary.item_ids),
            "text": texts,
            "train_count": data.train_counts,
            "trained": data.trained,
        }
    )
    _write_parquet(frame, run / "vocabulary.parquet")


def write_users(run: Path, recipe: Recipe, data: Dataset) -> None:
    """Write ``users.parquet`` (user_id, by user number) if the model reads users and they have names.

    Users who are not in training are neither in the model nor in the file.
    """
    if data.users is None or data.train.users is None or not lookup(recipe.model_name).reads_users:
        return
    known = data.users.item_ids[: int(data.train.users.max()) + 1]
    _write_parquet(pl.DataFrame({"user_id": known}, schema={"user_id": pl.String}), run / USERS)


def write_ranks(run: Path, data: Dataset, ranks: Mapping[str, Ranks]) -> None:
    """Write ``ranks.parquet``: one row for each target, with (greater, tied) of each view.

    The columns ``kept_greater_VIEW``, ``excluded_tied_VIEW`` and so on have the counts with the items of the
    prefix as candidates and without them.
    """
    frames = []
    for split, part in ranks.items():
        names = data.session_names[split]
        frames.append(
            pl.DataFrame(
                {
                    "split": [split] * len(part.targets),
                    "session_id": [names[session] for session in part.samples[:, 0]],
                    "position": part.samples[:, 1],
                    "target_id": [data.vocabulary.item_ids[item] for item in part.targets],
                    "train_count": data.train_counts[part.targets],
                    "repeated": part.repeated,
                    **_count_columns("", part.views),
                    **_count_columns("kept_", part.by_rule["kept"]),
                    **_count_columns("excluded_", part.by_rule["excluded"]),
                },
                schema_overrides={"split": pl.String, "session_id": pl.String, "target_id": pl.String},
            )
        )
    # A split without sessions has no views of the parts.
    _write_parquet(pl.concat(frames, how="diagonal"), run / "ranks.parquet")


def _count_columns(prefix: str, views: Mapping[str, Counts]) -> dict[str, NDArray[np.int64]]:
    greater = {f"{prefix}greater_{view}": counts[0] for view, counts in views.items()}
    return greater | {f"{prefix}tied_{view}": counts[1] for view, counts in views.items()}


def write_top(run: Path, top: NDArray[np.int64]) -> None:
    """Write ``top.parquet``: the first items of the ranking of each test target.

    Targets are in the order of ``ranks.parquet``; items are row numbers of ``vocabulary.parquet``.
    """
    items = pl.Series("items", top.astype(np.int32), dtype=pl.Array(pl.Int32, top.shape[1]))
    _write_parquet(items.cast(pl.List(pl.Int32)).to_frame(), run / "top.parquet")


def write_curves(run: Path, epochs: Sequence[Epoch]) -> None:
    """Write ``curves.jsonl``, one line for each epoch."""
    write_text(run / "curves.jsonl", "".join(json.dumps(to_json(epoch)) + "\n" for epoch in epochs))


def _write_parquet(frame: pl.DataFrame, path: Path) -> None:
    with atomic_write(path) as temporary:
        frame.write_parquet(temporary)
