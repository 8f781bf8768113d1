"""What notebooks and workers see: short reprs, HTML, frames, progress, logging, pickles."""

from __future__ import annotations

import logging
import multiprocessing
import pickle
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest

import alterrec
from alterrec.data.dataset import Dataset
from alterrec.data.synthetic import synthetic_dataset
from alterrec.errors import InputError
from alterrec.evaluation.saved import read_ranks
from alterrec.list_metrics import ListMetrics
from alterrec.progress import Event, Listener
from alterrec.report.live import NotebookLine, in_notebook, listener
from alterrec.results import read_run
from alterrec.runs.fitted import FittedRun
from alterrec.runs.recommendations import Recommendation, Recommendations
from alterrec.sessions import PrefixBatches
from alterrec.studies.tune import tune
from alterrec.studies.tune_trials import TrialRunner, TuneResult
from alterrec.study_records import read_study

RUNS = Path(__file__).parents[1] / "data" / "runs"
SHORT = 300


@pytest.fixture(scope="module")
def data() -> Dataset:
    return synthetic_dataset(items=300, sessions=500)


@pytest.fixture(scope="module")
def run(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> FittedRun:
    return alterrec.fit(
        data,
        "id_only",
        out=tmp_path_factory.mktemp("run") / "run",
        progress=None,
        overrides={
            "schedule.epochs": 1,
            "run.baselines": False,
            "run.report": False,
            "run.metrics": "recall@20,coverage@10,novelty@10,diversity@10,gini@10,popularity_bias@10",
        },
    )


def public_objects(run: FittedRun, data: Dataset) -> dict[str, Any]:
    """One object of every class that a public function returns."""
    model = alterrec.load(run.path)
    batches = PrefixBatches(data.train, 256, 50)
    read = read_run(run.path)
    assert data.text is not None
    return {
        "run": run,
        "recipe": run.recipe,
        "model": model,
        "recommendations": model.recommend([data.vocabulary.item_ids[:3]] * 9),
        "recommendation": Recommendation("tent", 1.0, "A very long text. " * 500),
        "report": run.show(),
        "comparison": alterrec.compare([RUNS / "alterrec", RUNS / "sasrec"]),
        "balance": alterrec.balance([RUNS / "alterrec"]),
        "study": alterrec.load_study(RUNS / "study"),
        "study result": read_study(RUNS / "study"),
        "folder": read,
        "result": read.result,
        "ranks": read_ranks(run.path),
        "data": data,
        "vocabulary": data.vocabulary,
        "texts": data.text,
        "names": data.session_names["train"],
        "store": data.train,
        "batches": batches,
        "batch": next(iter(batches)),
        "event": Event("epoch_end", epoch=3, total=12, valid={"score": {"ndcg@20": 0.2}}),
        "lists": ListMetrics(["coverage@10"], 300),
    }


def test_reprs_are_short_and_say_what_it_is(run: FittedRun, data: Dataset) -> None:
    for name, each in public_objects(run, data).items():
        if name == "names" and isinstance(each, list):
            continue  # a plain list of the caller
        shown = repr(each)
        assert len(shown) <= SHORT + len(str(run.path)), (name, shown)
        assert "\n" not in shown, (name, shown)
        assert type(each).__name__ in shown, (name, shown)


def test_reprs_name_the_size(run: FittedRun, data: Dataset) -> None:
    assert repr(data).startswith("Dataset('built-in': 300 items")
    assert "300 items, sessions 400 train, 50 valid, 50 test; text " in repr(data)
    assert repr(alterrec.load(run.path)).startswith("SavedModel(id_only, 300 items, '")
    assert repr(run).startswith("FittedRun(id_only on built-in: test NDCG@20 ")
    assert f"finished, {str(run.path)!r})" in repr(run)
    assert repr(data.vocabulary).startswith("Vocabulary(300 ids: '")


def test_public_names_are_offered() -> None:
    assert set(alterrec.__all__) <= set(dir(alterrec))
    assert {"fit", "load", "ranking", "metrics", "sessions", "list_metrics"} <= set(dir(alterrec))
    assert callable(alterrec.ranking.rank_window)
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        _ = alterrec.fitt


def test_frames_of_results(run: FittedRun, data: Dataset) -> None:
    frame = run.to_polars()
    assert frame.columns == ["split", "view", "metric", "value"]
    row = frame.filter(split="test", view="score", metric="recall@20")
    assert row["value"].item() == run.result["test"]["score"]["recall@20"]
    assert set(frame.filter(view="lists")["metric"]) == set(run.result["lists"]["test"])
    found = run.recommend([data.vocabulary.item_ids[:2], data.vocabulary.item_ids[4:5]], k=3)
    assert found.to_polars()["rank"].to_list() == [1, 2, 3, 1, 2, 3]
    report = run.show()
    assert "value" in report.to_polars("extra_metrics").columns
    assert len(report.tables()) > 1
    comparison = alterrec.compare([RUNS / "alterrec", RUNS / "sasrec"])
    for table in comparison.tables().values():
        assert len(table.frame()) == len(table.records or table.table.rows)
    with pytest.raises(InputError, match="table is 'nothing'; choose one of"):
        report.to_polars("nothing")


def test_frames_of_pandas(run: FittedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    pd = pytest.importorskip("pandas")
    frame = run.to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert frame["value"].tolist() == run.to_polars()["value"].to_list()
    assert isinstance(run.show().to_pandas(), pd.DataFrame)
    assert Recommendations([]).to_pandas().columns.tolist() == ["session", "rank", "item_id", "score", "text"]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match=r"to_pandas\(\) needs pandas"):
        run.to_pandas()


def test_html_keeps_findings_caveats_and_captions(run: FittedRun) -> None:
    page = run.show().presentation()
    shown = page.notebook()
    assert page.findings
    assert page.caveats
    captions = [plot.caption for section in page.every_section() for plot in section.figures.values()]
    from markupsafe import escape

    for line in (*page.findings, *page.caveats, *captions):
        assert str(escape(line)) in shown
    assert shown.count("<svg") >= len(captions)
    # The theme of the notebook decides, and ids of two outputs differ.
    assert "body[data-jp-theme-light=false] .alterrec" in shown
    assert "prefers-color-scheme: dark" in shown
    other = replace(page, title="another run", sections=page.sections[:1]).notebook()
    ids = [{part.split('"')[0] for part in html.split('id="')[1:]} for html in (shown, other)]
    assert not ids[0] & ids[1]


def test_html_of_recommendations() -> None:
    items = [Recommendation("<b>", 1.0, "<script>" + "x" * 200)]
    shown = Recommendations([items] * 7)._repr_html_()
    assert "&lt;b&gt;" in shown
    assert "<script>" not in shown
    assert "and 2 more sessions" in shown
    assert len(shown) < 2000


EVENTS = [
    Event("notice", "reading <shop>"),
    Event("plan", "12 epochs"),
    Event("epoch_start", done=0, total=2, epoch=1, phase="warm-up"),
    *(Event("step", done=step / 1000, total=2, epoch=1) for step in range(1000)),
    Event("epoch_end", done=1, total=2, epoch=1, phase="warm-up", loss=1.5),
    Event("done", "runs/shop"),
]


class Screen:
    """IPython's display: what was shown, and how often one output was updated."""

    def __init__(self) -> None:
        self.shown: list[dict[str, str]] = []

    def display(self, data: dict[str, str], *, raw: bool, display_id: bool) -> Screen:
        assert raw
        assert display_id
        self.shown.append(data)
        return self

    def update(self, data: dict[str, str], *, raw: bool) -> None:
        self.shown.append(data)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Screen:
    screen, module, display = Screen(), ModuleType("IPython"), ModuleType("IPython.display")
    module.get_ipython = lambda: SimpleNamespace(kernel=object())  # type: ignore[attr-defined]
    display.display = screen.display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return screen


def test_a_notebook_shows_one_line(kernel: Screen) -> None:
    assert in_notebook()
    line = listener("notebook")
    for event in EVENTS:
        line(event)
    assert "reading &lt;shop&gt;" in kernel.shown[0]["text/html"]
    assert "epoch 1/2  warm-up  loss 1.500" in kernel.shown[-2]["text/html"]
    assert kernel.shown[-1]["text/plain"] == "epoch 1/2  warm-up  loss 1.500  finished: runs/shop"
    assert '<progress value="2.000" max="2">' in kernel.shown[-1]["text/html"]
    # The steps of an epoch take less than a second here.
    assert len(kernel.shown) < 10


def test_a_notebook_shows_the_state_of_a_study_and_of_a_search(kernel: Screen) -> None:
    line = listener("notebook")
    line(Event("notice", "24 runs, 6 finished"))
    for _ in range(1000):
        line(Event("runs", "", 6, 24, ("sasrec: epoch 1/2", "naive: starting")))
    line(Event("runs", "sasrec: 2 min; 17 to go", 7, 24))
    assert kernel.shown[-1]["text/plain"] == "7/24 runs  sasrec: 2 min; 17 to go"
    assert '<progress value="7.000" max="24">' in kernel.shown[-1]["text/html"]
    assert len(kernel.shown) < 10


def test_a_study_and_a_search_show_themselves_in_a_notebook(
    kernel: Screen, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_event(listen: Listener, kind: Literal["runs", "trials"]) -> None:
        listen(Event(kind, "started", 0, 1))

    monkeypatch.setattr("alterrec.studies.study.carry_out", lambda planned, listen: one_event(listen, "runs"))
    monkeypatch.setattr(TrialRunner, "run", lambda runner: one_event(runner.listen, "trials"))
    monkeypatch.setattr(TuneResult, "save", lambda *given: None)
    for options, count in ({}, 1), ({"progress": None}, 0):
        kernel.shown.clear()
        alterrec.run_study("dataset", shop, **options)  # type: ignore[arg-type]
        tune(shop, "id_only", {"optim.lr": "0.01,0.1"}, trials=1, out=tmp_path / "search", **options)  # type: ignore[arg-type]
        shown = [each["text/plain"] for each in kernel.shown]
        assert (shown.count("0/1 runs  started"), shown.count("0/1 trials  started")) == (count, count)


def test_progress_is_silent_elsewhere_or_by_none(kernel: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    for event in EVENTS:
        listener(None)(event)
    assert not kernel.shown
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: None)
    assert not in_notebook()
    for event in EVENTS:
        listener("notebook")(event)
    assert not kernel.shown
    NotebookLine()(EVENTS[0])
    assert len(kernel.shown) == 1


def test_fit_shows_itself_in_a_notebook_and_logs(
    kernel: Screen, data: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"run.baselines": False, "run.report": False}
    with caplog.at_level(logging.INFO, logger="alterrec"):
        alterrec.fit(data, "popularity", out=tmp_path / "one", overrides=options)
    assert kernel.shown[-1]["text/plain"].endswith(f"finished: {tmp_path / 'one'}")
    assert any("300 items" in record.getMessage() for record in caplog.records)
    assert caplog.records[-1].getMessage() == f"finished: {tmp_path / 'one'}"
    seen = len(kernel.shown)
    alterrec.fit(data, "popularity", out=tmp_path / "two", overrides=options, progress=None)
    assert len(kernel.shown) == seen


def work(task: tuple[Any, Any, list[str]]) -> tuple[int, str]:
    """What a worker does with what it gets."""
    model, batches, session = task
    return sum(len(batch.targets) for batch in batches), model.recommend([session], k=1)[0][0].item_id


def test_everything_pickles(run: FittedRun, data: Dataset) -> None:
    cloudpickle = pytest.importorskip("cloudpickle")
    for name, each in public_objects(run, data).items():
        for pickler in (pickle, cloudpickle):
            again = pickle.loads(pickler.dumps(each))
            assert repr(again) == repr(each), name
    batches = PrefixBatches(data.train, 64, 20, seed=3, epoch=2, shard=(1, 2), layout="packed", per_session=2)
    again = pickle.loads(pickle.dumps(batches))
    for one, other in zip(batches, again, strict=True):
        for values, copied in zip(one, other, strict=True):
            np.testing.assert_array_equal(values, copied)


def test_workers_that_are_spawned_get_runs_stores_and_batches(run: FittedRun, data: Dataset) -> None:
    task = (alterrec.load(run.path), PrefixBatches(data.train, 64, 20), list(data.vocabulary.item_ids[:2]))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(work, task).result() == work(task)
