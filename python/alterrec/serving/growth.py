"""Add items to the catalogue of a finished run, or remove some: a new run folder without training."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from alterrec.analyses.run_page import write_report
from alterrec.data.assemble import read_texts
from alterrec.data.dataset import ItemText
from alterrec.data.events import check_columns
from alterrec.data.frames import as_frame
from alterrec.data.tables import DataFile, find_column, id_column, read_data_file
from alterrec.data.text_columns import choose_text_columns
from alterrec.data.text_names import find_text_column
from alterrec.data.vectors import load_vectors
from alterrec.errors import InputError
from alterrec.evaluation.saved import read_items
from alterrec.files import atomic_write, check_regular, read_text, write_json
from alterrec.models.base import Recommender, Scorer
from alterrec.models.growth import IdRows, check_growth, grow, text_items_of
from alterrec.models.neighbours import Untrained
from alterrec.models.removed import removed_items
from alterrec.progress import Event, Listener
from alterrec.record_json import from_json, to_json
from alterrec.report.live import Progress, listener
from alterrec.results import CatalogueChange, RunResult
from alterrec.runs.folder import Start, kind_of, open_run
from alterrec.runs.model_files import save_model
from alterrec.runs.saved_model import SavedModel, load
from alterrec.runs.text_encoder import ENCODER, TextEncoder
from alterrec.vocabulary import Vocabulary

# The files that a change of the catalogue does not touch.
_KEPT = (
    *("recipe.toml", "curves.jsonl", "ranks.parquet", "top.parquet", "examples.json"),
    *("users.parquet", ENCODER),
)


class FurtherItems(NamedTuple):
    """Items that a run does not know, ready to be added.

    Attributes:
        ids: their ids.
        texts: their texts, as the run's catalogue keeps them.
        vectors_NF: the vectors of their texts, as the model reads them.
        restored: ids of removed items that are to be recommended again.
        notes: what was left out, one sentence each.
    """

    ids: list[str]
    texts: list[str]
    vectors_NF: NDArray[np.floating]
    restored: list[str]
    notes: list[str]


def add_items(
    run: str | Path,
    items: Any,
    out: str | Path,
    *,
    id_rows: IdRows = "nearest",
    vectors: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    progress: Progress = "notebook",
) -> SavedModel:
    """Add items to the catalogue of a run, without training; they can be recommended at once.

    The new folder is a run like any other: it has the recipe, the metrics and the curves of the old one, and
    its ``result.json`` says what was added. The old folder is not changed.

    Args:
        run: the folder of a finished run of a system that reads texts.
        items: a CSV or Parquet file, or a DataFrame, with the column ``item_id`` and the text columns of the
            data that the run was trained on. Items that the run has already, rows that repeat an id, and
            items without text are left out and counted. Removed items are recommended again.
        out: the new folder.
        id_rows: what scores the new items besides their texts. ``nearest`` (the default): the ID part, by the
            mean of the ID rows of the 5 trained items with the nearest texts. ``text``: nothing.
        vectors: a file of vectors, one for each row of ``items``, for a run that was trained with
            ``data.vectors``; ``.npy``, ``.safetensors`` or ``.parquet``. Default: texts are encoded by the
            encoder of the run.
        columns: our column name -> the name in the file, for ``item_id``. Default: the name is ours.
        progress: as for :func:`alterrec.fit`.

    Returns:
        The run with the new catalogue, as :func:`alterrec.load` returns it.

    Raises:
        InputError: the system reads no texts, a column is missing, no item is left to add, or ``out`` is not
            empty; nothing is written then.

    Example:
        >>> import tempfile
        >>> from alterrec import fit
        >>> from alterrec.data.synthetic import synthetic_dataset
        >>> folder = Path(tempfile.mkdtemp())
        >>> data = synthetic_dataset(items=300, sessions=500)
        >>> small = {"model.dim": 8, "schedule.epochs": 1, "run.baselines": False, "run.report": False}
        >>> run = fit(data, "text_only", out=folder / "run", overrides=small)
        >>> new = pl.DataFrame({"item_id": ["n1"], "title": ["Wool tent"], "description": [""], "brand": [""],
        ...                     "category": ["tents"]})
        >>> grown = add_items(run.path, new, folder / "grown")
        >>> len(grown.vocabulary), grown.recommend([["n1"]], k=1)[0][0].item_id in data.vocabulary.item_ids
        (301, True)
    """
    saved, listen = _load(run, Path(out)), listener(progress)
    check_growth(saved.recipe, saved.model, id_rows)
    encoder = TextEncoder.read(saved.path, saved.recipe)
    found = read_further(saved, encoder, _data_file(items), vectors, columns or {}, listen)
    for note in found.notes:
        listen(Event("notice", note))
    if not found.ids and not found.restored:
        raise InputError("there is no item to add; nothing was written")
    change = CatalogueChange(
        "added", len(found.ids) + len(found.restored), len(found.restored), id_rows, found.notes
    )
    return _write(with_items(saved, found, id_rows), saved.path, Path(out), change, listen)


def remove_items(
    run: str | Path,
    items: Any,
    out: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    progress: Progress = "notebook",
) -> SavedModel:
    """Remove items from the catalogue of a run, without training: they are never recommended again.

    Sessions may still contain them: they say as much about the next item as before. Where a removed item is a
    target of an evaluation, it counts as not found. :func:`add_items` makes them candidates again.

    Args:
        run: the folder of a finished run of any system.
        items: their ids as a list, or a CSV or Parquet file or a DataFrame with the column ``item_id``. Items
            that the run does not know, or that are removed already, are counted.
        out, columns, progress: as for :func:`add_items`.

    Returns:
        The run with the new catalogue, as :func:`alterrec.load` returns it.

    Raises:
        InputError: a column is missing, no item is left to remove, or none would be left to recommend, or
            ``out`` is not empty; nothing is written then.

    Example:
        >>> import tempfile
        >>> from alterrec import fit
        >>> from alterrec.data.synthetic import synthetic_dataset
        >>> folder = Path(tempfile.mkdtemp())
        >>> data = synthetic_dataset(items=300, sessions=500)
        >>> quick = {"run.baselines": False, "run.report": False}
        >>> run = fit(data, "popularity", out=folder / "run", overrides=quick)
        >>> session = [data.vocabulary.item_ids[7]]
        >>> (first, second), = run.recommend([session], k=2)
        >>> fewer = remove_items(run.path, [first.item_id], folder / "fewer")
        >>> fewer.recommend([session], k=1)[0][0].item_id == second.item_id
        True
    """
    saved, listen = _load(run, Path(out)), listener(progress)
    if isinstance(items, Sequence) and not isinstance(items, str | PathLike):
        items = pl.DataFrame({"item_id": [str(item) for item in items]}, schema={"item_id": pl.String})
    ids = _ids(_data_file(items), columns or {})
    number_N = saved.vocabulary.find(ids.unique(maintain_order=True).to_list())
    known = removed_numbers(saved)
    again = np.isin(number_N, known)
    notes = _counted("rows that repeat an item, which are left out", len(ids) - len(number_N))
    notes += _counted("items that the run does not know, which are left out", int((number_N < 0).sum()))
    notes += _counted("items that are removed already", int(again.sum()))
    for note in notes:
        listen(Event("notice", note))
    chosen = number_N[(number_N >= 0) & ~again]
    if not len(chosen):
        raise InputError("there is no item to remove; nothing was written")
    left = len(saved.vocabulary) - len(known) - len(chosen)
    if left < 1:
        raise InputError(f"all {len(saved.vocabulary)} items would be removed; leave at least one")
    _set_removed(saved.model, np.sort(np.concatenate([known, chosen])))
    change = CatalogueChange("removed", len(chosen), notes=notes)
    return _write(saved, saved.path, Path(out), change, listen)


def read_further(
    saved: SavedModel,
    encoder: TextEncoder,
    file: DataFile,
    vectors: str | Path | None,
    columns: Mapping[str, str],
    progress: Listener,
) -> FurtherItems:
    """Read items that may be new to a run, and encode the texts of those that are.

    Args:
        saved: the run.
        encoder: its text encoder.
        file: the items.
        vectors, columns: as for :func:`add_items`.
        progress: gets messages.

    Raises:
        InputError: a column is missing, or vectors are missing or not wanted.
    """
    ids = _ids(file, columns)
    name = file.path.name
    wanted = encoder.columns if encoder.fields else ()
    _, renamed = choose_text_columns(file.frame, wanted, name=name)
    source = {each: find_text_column(each, file.columns) or each for each in wanted}
    given, remarks = read_texts(file, list(dict.fromkeys(source.values())))
    texts = ItemText({ours: given[theirs].to_list() for ours, theirs in source.items()})
    notes = [*renamed, *remarks]
    read = {*source.values(), find_column(file, "item_id", columns, required=True)}
    unread = [each for each in file.columns if each not in read]
    if unread:
        notes.append(f"{name}: columns that are not read: {', '.join(map(repr, unread))}")
    first = ids.is_first_distinct().to_numpy()
    notes += _counted(f"{name}: rows that repeat an item, which are left out", int((~first).sum()))
    number_N = saved.vocabulary.find(ids.to_list())
    removed = removed_numbers(saved)
    restored = first & np.isin(number_N, removed)
    notes += _counted(f"{name}: removed items that are recommended again", int(restored.sum()))
    here = first & (number_N >= 0) & ~restored
    notes += _counted(f"{name}: items that the run has already, which stay as they are", int(here.sum()))
    new = first & (number_N < 0)
    if encoder.fields:
        if vectors is not None:
            raise InputError(
                f"vectors are given, but the run encodes texts with {saved.recipe.text.encoder}; leave the "
                "vectors out"
            )
        encoded = ItemText({field: texts.fields[field] for field in encoder.fields})
        filled = np.array([bool(text) for text in encoded.joined_texts()])
        notes += _counted(f"{name}: items without text, which are left out", int((new & ~filled).sum()))
        new &= filled
        kept = ItemText(
            {field: [values[row] for row in np.flatnonzero(new)] for field, values in texts.fields.items()}
        )
        raw = encoder.encode(kept, progress) if new.any() else None
        joined = kept.joined_texts()
    else:
        if vectors is None:
            raise InputError(
                "the run was trained with vectors in place of texts; give those of the new items with "
                "--vectors FILE (in Python, vectors=FILE)"
            )
        raw = load_vectors(vectors, Vocabulary(tuple(ids)), notes=notes)[new]
        joined = [""] * int(new.sum())
    rows = np.flatnonzero(new)
    return FurtherItems(
        ids.gather(rows).to_list(),
        joined,
        _as_read(saved, encoder, raw, given=not encoder.fields),
        ids.filter(pl.Series(restored)).to_list(),
        notes,
    )


def with_items(saved: SavedModel, items: FurtherItems, id_rows: IdRows) -> SavedModel:
    """Return a run whose catalogue has further items at its end."""
    model, count = saved.model, len(items.ids)
    if count:
        assert isinstance(model, Recommender)
        model = grow(
            model,
            torch.from_numpy(items.vectors_NF),
            saved.trained,
            id_rows,
            cold_by_text=saved.recipe.fusion.cold_by_text,
        ).eval()
    if items.restored:
        back = saved.vocabulary.index(items.restored)
        _set_removed(model, np.setdiff1d(removed_numbers(saved), back))
    return replace(
        saved,
        vocabulary=Vocabulary((*saved.vocabulary.item_ids, *items.ids)),
        texts=[*saved.texts, *items.texts],
        trained=np.concatenate([saved.trained, np.zeros(count, np.bool_)]),
        model=model,
    )


def removed_numbers(saved: SavedModel) -> NDArray[np.int64]:
    """Return the numbers of the items that a run never recommends, in ascending order."""
    removed = removed_items(saved.model)
    return np.zeros(0, np.int64) if removed is None else removed.numpy()


def _set_removed(model: Scorer, numbers: NDArray[np.int64]) -> None:
    assert isinstance(model, Recommender | Untrained)
    model.removed = torch.from_numpy(numbers) if len(numbers) else None


def _as_read(
    saved: SavedModel, encoder: TextEncoder, raw: NDArray[np.floating] | None, *, given: bool
) -> NDArray[np.floating]:
    """Return vectors as the model reads them, in its precision."""
    assert isinstance(saved.model, Recommender)
    text = text_items_of(saved.model)
    assert text is not None
    known_VF = text.vectors_VF
    if raw is None:
        return np.zeros((0, known_VF.shape[1]), np.float32)
    if raw.shape[1] != known_VF.shape[1]:
        raise InputError(
            f"the vectors have {raw.shape[1]} columns, but those of the run have {known_VF.shape[1]}; use "
            "the encoder that made those"
        )
    if known_VF.dtype == torch.float16 and raw.dtype != np.float16:
        half = raw.astype(np.float16)
        if given and not np.array_equal(half, raw):
            raise InputError(
                "the run was trained with vectors of half precision, which these do not fit into exactly; "
                "round them and save them as float16"
            )
        raw = half
    return encoder.prepared(raw)


def _load(run: str | Path, out: Path) -> SavedModel:
    """Load a run, after a check that its changed catalogue can be written."""
    if out.exists() and (not out.is_dir() or kind_of(out) != "empty"):
        raise InputError(f"{out} is not empty; give a new folder")
    return load(run)


def _data_file(items: Any) -> DataFile:
    if isinstance(items, str | PathLike):
        return read_data_file(Path(items))
    return DataFile(Path("items"), as_frame("items", items))


def _ids(file: DataFile, columns: Mapping[str, str]) -> pl.Series:
    check_columns(columns)
    column = find_column(file, "item_id", columns, required=True)
    assert column is not None
    return id_column(file, column)


def _counted(what: str, count: int) -> list[str]:
    return [f"{what}: {count}"] if count else []


def _write(
    saved: SavedModel, run: Path, out: Path, change: CatalogueChange, progress: Listener
) -> SavedModel:
    """Write a run whose catalogue has changed, and return it as it was read from there."""
    result = from_json(RunResult, read_text(run / "result.json"), str(run / "result.json"))
    result = replace(result, catalogue_changes=[*result.catalogue_changes, change], manifest=True)
    start = Start.check(out, saved.recipe, resume=False)
    with open_run(start, result.data.name) as folder, folder.results() as new:
        save_model(new, saved.model, saved.protocol)
        frame = read_items(run)
        further = pl.DataFrame(
            {
                "item_id": list(saved.vocabulary.item_ids[len(frame) :]),
                "text": saved.texts[len(frame) :],
            },
            schema={"item_id": pl.String, "text": pl.String},
        ).with_columns(train_count=pl.lit(0, frame["train_count"].dtype), trained=pl.lit(False))
        with atomic_write(new / "vocabulary.parquet") as temporary:
            pl.concat([frame.select(further.columns), further]).write_parquet(temporary)
        for name in _KEPT:
            if (run / name).exists():
                check_regular(run / name)
                shutil.copyfile(run / name, new / name)
        write_json(new / "result.json", to_json(result))
    if saved.recipe.run.report:
        progress(Event("work", "writing the report"))
        write_report(folder.path, [])
    progress(Event("done", str(folder.path)))
    return load(folder.path)
