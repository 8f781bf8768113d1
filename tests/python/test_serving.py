"""The HTTP service in this process: answers equal those of the model, and failures are sentences."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asgi_client import Reply, ask, call
from prometheus_client.parser import text_string_to_metric_families

from alterrec import fit
from alterrec.errors import InputError
from alterrec.runs.saved_model import SavedModel
from alterrec.serving.app import create_app
from alterrec.serving.guard import Guard
from alterrec.serving.limits import Limits
from alterrec.serving.live_run import LiveRun
from alterrec.serving.service import RecommendationService

QUICK = {"run.baselines": False, "run.report": False}
SMALL = QUICK | {"model.dim": 8, "schedule.epochs": 4, "run.threads": 1}


@pytest.fixture(scope="module")
def runs(shop_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs `alterrec` and `popularity`."""
    folder = tmp_path_factory.mktemp("runs")
    fit(shop_source, out=folder / "alterrec", overrides=SMALL)
    fit(shop_source, "popularity", out=folder / "popularity", overrides=QUICK)
    return folder


@pytest.fixture(scope="module")
def live(runs: Path) -> LiveRun:
    return LiveRun(runs / "alterrec")


@pytest.fixture(scope="module")
def model(live: LiveRun) -> SavedModel:
    return live.now.model


@pytest.fixture
def reports() -> list[str]:
    return []


@pytest.fixture
def app(live: LiveRun, reports: list[str]) -> Guard:
    return create_app(RecommendationService(live), hosts=("localhost", "127.0.0.1"), report=reports.append)


def limited(live: LiveRun, **limits: Any) -> Guard:
    return create_app(RecommendationService(live, Limits(**limits)))


def items_of(answer: Any) -> list[tuple[str, float, str]]:
    return [(item["item_id"], item["score"], item["text"]) for item in answer["items"]]


def measured(app: Guard) -> dict[tuple[str, ...], float]:
    """Sample name and the values of its labels -> value."""
    text = ask(app, "GET", "/metrics").body.decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_recommendations_equal_those_of_the_model(app: Guard, model: SavedModel) -> None:
    sessions = [["i0", "i1"], ["i7"], ["i12", "i13", "i14", "i12"]]
    answer = ask(app, "POST", "/recommend", {"sessions": sessions, "k": 5}).json
    assert answer["run"] == "alterrec"
    for got, wanted in zip(answer["sessions"], model.recommend(sessions, k=5), strict=True):
        assert (got["unknown_items"], got["source"]) == (0, "model")
        assert items_of(got) == [tuple(item) for item in wanted]


def test_filters_and_lean_answers(app: Guard, model: SavedModel) -> None:
    asked = {"sessions": [["i0"]], "k": 3, "only": ["i0", "i1", "i2", "i3", "boat"], "exclude": ["i2", 7]}
    answer = ask(app, "POST", "/recommend", asked | {"texts": False, "exclude_seen": False}).json
    wanted = model.recommend([["i0"]], 3, only=["i0", "i1", "i3"], exclude_seen=False)[0]
    assert items_of(answer["sessions"][0]) == [(item.item_id, item.score, None) for item in wanted]
    (popular,) = ask(app, "POST", "/recommend", asked | {"sessions": [[]]}).json["sessions"]
    assert {item["item_id"] for item in popular["items"]} == {"i0", "i1", "i3"}
    (nothing,) = ask(app, "POST", "/recommend", asked | {"only": []}).json["sessions"]
    assert nothing["items"] == []


def test_unknown_items_are_counted_and_nothing_known_is_answered_by_popularity(
    app: Guard, live: LiveRun, shop_source: Path
) -> None:
    sessions = [["i0", "boat", "i1"], ["boat", "car"], []]
    first, second, third = ask(app, "POST", "/recommend", {"sessions": sessions, "k": 4}).json["sessions"]
    assert (first["unknown_items"], first["source"]) == (1, "model")
    known = ask(app, "POST", "/recommend", {"sessions": [["i0", "i1"]], "k": 4}).json["sessions"][0]
    assert items_of(first) == items_of(known)
    rows = (shop_source / "train.csv").read_text("utf-8").splitlines()[1:]
    counts = np.bincount([int(row.split(",")[1].removeprefix("i")) for row in rows], minlength=30)
    popular = np.argsort(-counts, kind="stable")[:4]
    for answer, unknown in ((second, 2), (third, 0)):
        assert (answer["unknown_items"], answer["source"]) == (unknown, "popular")
        assert [item["item_id"] for item in answer["items"]] == [f"i{item}" for item in popular]
        assert [item["score"] for item in answer["items"]] == (counts[popular] / counts.sum()).tolist()
    samples = measured(app)
    assert samples["alterrec_unknown_items_total",] == 3
    assert samples["alterrec_popular_answers_total",] == 2


def test_requests_that_arrive_together_are_one_batch_and_get_their_own_answers(
    app: Guard, model: SavedModel
) -> None:
    sessions = [[f"i{(3 * n + step) % 30}" for step in range(1 + n % 4)] for n in range(40)]

    async def together() -> list[Reply]:
        asked = [call(app, "POST", "/recommend", {"sessions": [each], "k": 6}) for each in sessions]
        return list(await asyncio.gather(*asked))

    for reply, wanted in zip(asyncio.run(together()), model.recommend(sessions, k=6), strict=True):
        got = items_of(reply.json["sessions"][0])
        assert [item[0] for item in got] == [item.item_id for item in wanted]
        assert [item[1] for item in got] == pytest.approx([item.score for item in wanted], rel=1e-5)
    samples = measured(app)
    assert samples["alterrec_batch_sessions_sum",] == 40
    assert samples["alterrec_batch_sessions_count",] < 10


def test_similar_items_equal_those_of_the_model(app: Guard, model: SavedModel) -> None:
    answer = ask(app, "POST", "/similar", {"items": ["i3", "boat", "i9"], "k": 4, "by": "text"}).json
    first, unknown, second = answer["items"]
    assert (unknown["item_id"], unknown["known"], unknown["items"]) == ("boat", False, [])
    for got, wanted in zip((first, second), model.similar_items(["i3", "i9"], 4, by="text"), strict=True):
        assert (got["known"], got["by"]) == (True, "text")
        assert items_of(got) == [tuple(item) for item in wanted]


def test_explanations_equal_those_of_the_model(app: Guard, model: SavedModel) -> None:
    asked = {"session": ["i0", "boat", "i1"], "items": ["i2", "i3"]}
    answer = ask(app, "POST", "/explain", asked).json
    wanted = model.explain(asked["session"], asked["items"], drop_unknown=True)
    assert (answer["unknown_items"], answer["note"]) == (1, wanted.note)
    for got, item in zip(answer["items"], wanted.items, strict=True):
        assert (got["item_id"], got["score"], got["parts"]) == (item.item_id, item.score, item.parts)
        assert sum(got["parts"].values()) == pytest.approx(got["score"], abs=1e-5)
        assert got["sources"] == {
            part: [source._asdict() for source in sources] for part, sources in item.sources.items()
        }


def test_search_finds_words_in_any_case_and_the_exact_id_first(app: Guard, live: LiveRun) -> None:
    def found(query: str) -> list[dict[str, str]]:
        return ask(app, "GET", f"/items?{query}").json["items"]

    assert {item["text"] for item in found("q=TENT+red")} == {"red tent"}
    assert found("q=i3&limit=1") == [{"item_id": "i3", "text": "large tent"}]
    assert len(found("q=")) == 20
    counts = [live.now.counts_V[int(item["item_id"][1:])] for item in found("q=mug&limit=6")]
    assert counts == sorted(counts, reverse=True)
    assert found("q=boat") == []
    # What would be a pattern is text.
    assert found("q=.*") == []


def test_health_and_counts_of_requests(app: Guard) -> None:
    health = ask(app, "GET", "/health").json
    assert (health["status"], health["run"], health["items"]) == ("ok", "alterrec", 30)
    for path in ("/health", "/nothing", "/nothing/else"):
        ask(app, "GET", path)
    samples = measured(app)
    assert samples["alterrec_requests_total", "/health", "200"] == 2
    assert samples["alterrec_requests_total", "other", "404"] == 2
    assert samples["alterrec_request_seconds_count", "/health"] == 2
    assert samples["alterrec_items",] == 30


def test_openapi_describes_every_path_and_failure(app: Guard) -> None:
    schema = ask(app, "GET", "/openapi.json").json
    assert set(schema["paths"]) == {"/recommend", "/similar", "/explain", "/items", "/health", "/metrics"}
    for path in ("/recommend", "/similar", "/explain"):
        responses = schema["paths"][path]["post"]["responses"]
        assert set(responses) == {"200", "408", "413", "422", "503", "504"}
        for status in sorted(set(responses) - {"200"}):
            content = responses[status]["content"]["application/json"]["schema"]
            assert content["$ref"].endswith("/ErrorAnswer"), status
    # The form of FastAPI's own errors, which are not used.
    assert "HTTPValidationError" not in schema["components"]["schemas"]
    assert "1,000 sessions" in schema["info"]["description"]


WRONG: list[tuple[str, Any, str]] = [
    ("/recommend", b'{"sessions": [["a"]', "the body is not JSON (Expecting"),
    ("/recommend", b"\xff\xfe", "the body"),
    ("/recommend", b"", "the request has no body"),
    # Older versions of FastAPI take it for no body.
    ("/recommend", b"null", "the "),
    ("/recommend", b"[]", "the body is []; send a JSON object"),
    ("/recommend", b'"x"', 'the body is "x"; send a JSON object'),
    ("/recommend", {}, "sessions is missing; the request must have it"),
    ("/recommend", {"sessions": "i0"}, 'sessions is "i0"; it should be a valid list'),
    ("/recommend", {"sessions": ["i0"]}, 'sessions[0] is "i0"; it should be a valid list'),
    (
        "/recommend",
        {"sessions": [["i0", 1.5]]},
        "sessions[0][1] is 1.5; expected an id, a text or an integer",
    ),
    ("/recommend", {"sessions": [["i0", True]]}, "sessions[0][1] is true; expected an id"),
    ("/recommend", {"sessions": [[None]]}, "sessions[0][0] is null; expected an id"),
    ("/recommend", {"sessions": [["i0"]], "k": 0}, "k is 0; it should be greater than or equal to 1"),
    ("/recommend", {"sessions": [["i0"]], "k": "3"}, 'k is "3"; it should be a valid integer'),
    ("/recommend", {"sessions": [["i0"]], "k": 10**30}, "k is 1,0"),
    ("/recommend", {"sessions": [["i0"]], "k": 1001}, "k is 1,001; this service takes 1 to 1,000"),
    ("/recommend", {"sessions": [["i0"]], "kk": 3}, "kk is no field of this request; did you mean 'k'"),
    ("/recommend", {"sessions": [["i0"]], "users": ["x", "y"]}, "users has 2 values for 1 session"),
    ("/recommend", {"sessions": [["i0"]] * 1001}, "sessions has 1,001 entries; this service takes 1,000"),
    ("/recommend", {"sessions": [["i0"] * 1001]}, "sessions[0] has 1,001 entries; this service takes 1,000"),
    ("/recommend", b'{"sessions": ' + b"[" * 50_000, "the body"),
    ("/recommend", b'{"sessions": [[' + b"9" * 5000 + b"]]}", "the body"),
    ("/similar", {"items": ["i0"], "by": "colour"}, "by is 'colour'; this run has"),
    ("/similar", {"items": []}, ""),
    ("/explain", {"session": [], "items": ["i0"]}, "session is empty; give one item id or more"),
    ("/explain", {"session": ["i0"], "items": ["boat"]}, "item 'boat' is not in the catalogue of 30 items"),
]


@pytest.mark.parametrize(("path", "body", "sentence"), WRONG)
def test_a_wrong_request_gets_one_sentence(
    app: Guard, reports: list[str], path: str, body: Any, sentence: str
) -> None:
    reply = ask(app, "POST", path, body)
    assert reply.headers["content-type"] == "application/json"
    if not sentence:
        assert reply.status == 200
        return
    assert reply.status in (400, 422), reply
    error = reply.json["error"]
    assert error.startswith(sentence)
    assert len(error) < 200
    assert reports == []


def test_other_types_of_content_paths_and_methods(app: Guard) -> None:
    text = ask(app, "POST", "/recommend", {"sessions": [["i0"]]}, headers={"content-type": "text/plain"})
    assert (text.status, text.json["error"].split(";")[0]) == (422, "the body is not said to be JSON")
    method = ask(app, "GET", "/recommend")
    assert (method.status, method.headers["allow"]) == (405, "POST")
    assert method.json == {"error": "GET is not allowed for /recommend; use POST"}
    nothing = ask(app, "GET", "/nothing\x07")
    assert (nothing.status, nothing.json["error"]) == (
        404,
        "there is nothing at '/nothing\\x07'; /openapi.json lists all paths",
    )
    limit = ask(app, "GET", "/items?limit=1000")
    assert (limit.status, limit.json["error"]) == (
        422,
        'limit is "1000"; it should be less than or equal to 100',
    )


def test_integers_of_any_size_and_any_text_are_ids(app: Guard) -> None:
    (answer,) = ask(
        app, "POST", "/recommend", b'{"sessions": [["\\ud800", 7, 123456789012345678901234567890]]}'
    ).json["sessions"]
    assert (answer["unknown_items"], answer["source"]) == (3, "popular")


@pytest.mark.parametrize(
    ("parts", "headers"),
    [
        ([b" " * 600, b" " * 600], {}),
        ([b" "], {"content-length": "1001"}),
        ([], {"content-length": "1001", "expect": "100-continue"}),
        ([b" "], {"content-length": "9" * 5000}),
        ([b" " * 900] * 100, {}),
    ],
)
def test_a_body_that_is_too_large_is_refused(
    live: LiveRun, parts: list[bytes], headers: dict[str, str]
) -> None:
    reply = ask(limited(live, body=1000), "POST", "/recommend", parts=parts, headers=headers)
    assert (reply.status, reply.headers["connection"]) == (413, "close")
    assert reply.json["error"].startswith("the body of the request has more than 1,000 bytes")


def test_a_body_that_comes_slowly_is_refused(live: LiveRun) -> None:
    app = limited(live, seconds=0.05)
    reply = ask(app, "POST", "/recommend", parts=[b"{", b"}"], pause=0.2)
    assert reply.status == 408
    assert reply.json["error"].startswith("the request was not complete 0.05 s after it began")
    # So is one that is too large and slow, for the first reason.
    reply = ask(app, "POST", "/recommend", parts=[b"{"], pause=0.2, headers={"content-length": "9999999"})
    assert reply.status == 413


def test_a_client_that_goes_away_is_no_fault(app: Guard, reports: list[str]) -> None:
    assert ask(app, "POST", "/recommend", parts=[]).status == 422
    assert reports == []


def test_only_names_of_this_machine_are_served(app: Guard, live: LiveRun) -> None:
    for host, status in (("localhost", 200), ("LOCALHOST:8000", 200), ("127.0.0.1:80", 200)):
        assert ask(app, "GET", "/health", headers={"host": host}).status == status
    for host in ("shop.example", "127.0.0.1.shop.example:8000", "", "localhost:x"):
        reply = ask(app, "GET", "/health", headers={"host": host})
        assert reply.status == 421
        assert "this service is for its own machine" in reply.json["error"]
    assert ask(limited(live), "GET", "/health", headers={"host": "shop.example"}).status == 200


@pytest.fixture
def held(live: LiveRun, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Keep the model from answering until the event is set."""
    gate = threading.Event()
    recommend = SavedModel.recommend

    def wait(*arguments: Any, **options: Any) -> Any:
        assert gate.wait(20)
        return recommend(*arguments, **options)

    monkeypatch.setattr(SavedModel, "recommend", wait)
    yield gate
    gate.set()


ONE = {"sessions": [["i0"]], "k": 2}


def test_a_full_queue_refuses_and_recovers(live: LiveRun, held: threading.Event) -> None:
    app = limited(live, sessions=2, waiting=2)

    async def requests() -> tuple[Reply, list[Reply]]:
        asked = []
        for _ in range(3):
            asked.append(asyncio.create_task(call(app, "POST", "/recommend", ONE)))
            await asyncio.sleep(0.05)
        refused = await call(app, "POST", "/recommend", ONE)
        held.set()
        return refused, await asyncio.gather(*asked, call(app, "POST", "/recommend", {"sessions": []}))

    refused, others = asyncio.run(requests())
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert refused.json["error"].startswith("2 sessions wait already and at most 2 may")
    assert [reply.status for reply in others] == [200] * 4
    assert ask(app, "POST", "/recommend", ONE).status == 200


def test_what_takes_too_long_is_given_up(live: LiveRun, held: threading.Event) -> None:
    app = limited(live, seconds=0.05)
    reply = ask(app, "POST", "/recommend", ONE)
    held.set()
    assert reply.status == 504
    assert reply.json["error"].startswith("there was no answer within 0.05 s")


def test_a_fault_of_ours_is_a_sentence_and_a_line_in_the_log(
    app: Guard, reports: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(SavedModel, "recommend", broken)
    reply = ask(app, "POST", "/recommend", ONE)
    assert (reply.status, list(reply.json)) == (500, ["error"])
    assert "lines" not in reply.body.decode()
    assert reports == ["internal error in /recommend, please report it: RuntimeError: two lines"]
    monkeypatch.setenv("ALTERREC_TRACEBACK", "1")
    ask(app, "POST", "/recommend", ONE)
    assert reports[-1].startswith("Traceback")
    assert measured(app)["alterrec_requests_total", "/recommend", "500"] == 2


def test_a_reload_serves_the_run_that_is_at_the_path_now(runs: Path, tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to(runs / "alterrec")
    service = RecommendationService(LiveRun(link))
    app = create_app(service)
    before = ask(app, "POST", "/recommend", ONE).json
    link.unlink()
    link.symlink_to(runs / "popularity")
    assert ask(app, "POST", "/recommend", ONE).json == before
    assert service.reload() == "reloaded; popularity answers now"
    assert ask(app, "POST", "/recommend", ONE).json["run"] == "popularity"
    assert ask(app, "GET", "/health").json["model"] == "popularity"
    assert measured(app)["alterrec_reloads_total", "done"] == 1


@pytest.mark.parametrize("damage", ["missing", "damaged", "fault"])
def test_a_broken_run_leaves_the_old_one(
    runs: Path, tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copytree(runs / "popularity", tmp_path / "run"))
    service = RecommendationService(LiveRun(path))
    app = create_app(service)
    before = ask(app, "POST", "/recommend", ONE).json
    if damage == "missing":
        shutil.rmtree(path)
    elif damage == "damaged":
        (path / "model.safetensors").write_bytes(b"x")
    else:
        monkeypatch.setattr("alterrec.serving.live_run.load", lambda _: {}["x"])
    line = service.reload()
    assert line.startswith("error: ")
    assert line.endswith("not reloaded: the run run that was loaded before still answers")
    assert ask(app, "POST", "/recommend", ONE).json == before
    assert ask(app, "GET", "/health").json["reload_failure"]
    assert measured(app)["alterrec_reloads_total", "failed"] == 1


def test_requests_in_progress_are_answered_by_the_run_they_began_with(
    runs: Path, tmp_path: Path, held: threading.Event
) -> None:
    link = tmp_path / "current"
    link.symlink_to(runs / "alterrec")
    service = RecommendationService(LiveRun(link))
    app = create_app(service)

    async def requests() -> list[Reply]:
        early = [asyncio.create_task(call(app, "POST", "/recommend", ONE)) for _ in range(3)]
        await asyncio.sleep(0.05)
        link.unlink()
        link.symlink_to(runs / "popularity")
        assert service.reload().startswith("reloaded")
        late = asyncio.create_task(call(app, "POST", "/recommend", ONE))
        await asyncio.sleep(0.05)
        held.set()
        return await asyncio.gather(*early, late)

    answered = [reply.json["run"] for reply in asyncio.run(requests())]
    assert answered == ["alterrec", "alterrec", "alterrec", "popularity"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"k": "0"}, "the limit k is 0; expected 1 or more"),
        ({"k": "x"}, "the limit k is 'x'; expected an integer"),
        ({"seconds": "nan"}, "the limit seconds is nan; expected a number above 0"),
        ({"seconds": "inf"}, "the limit seconds is inf; expected a number above 0"),
        ({"waiting": "10"}, "the limit waiting is 10 and sessions is 1000"),
        ({"sesions": "10"}, "'sesions' is no limit; did you mean 'sessions'? The limits are body, "),
        ({"colour": "10"}, "'colour' is no limit. The limits are body, "),
    ],
)
def test_limits_are_checked(given: dict[str, str], message: str) -> None:
    with pytest.raises(InputError) as raised:
        Limits.of(given)
    assert str(raised.value).startswith(message)
