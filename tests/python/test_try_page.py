"""The page to try sessions, in a browser: it can be read, used, and does not run what a title contains."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn
from browser import Browser, browser, program
from test_hostile_pages import hostile_dataset
from test_pages_in_browser import FAULTS, WIDTHS

from alterrec import fit
from alterrec.serving.app import create_app
from alterrec.serving.live_run import LiveRun
from alterrec.serving.service import RecommendationService

pytestmark = pytest.mark.skipif(program() is None, reason="no Chromium on this machine")

SMALL = {"model.dim": 8, "schedule.epochs": 4, "schedule.warmup": 1, "run.threads": 1}
QUICK = SMALL | {"run.baselines": False, "run.report": False}


@contextmanager
def served(service: RecommendationService) -> Iterator[str]:
    """Serve at a free port while the block runs; yield the address."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        config = uvicorn.Config(create_app(service), lifespan="off", log_level="error")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield f"http://127.0.0.1:{bound.getsockname()[1]}/"
        finally:
            server.should_exit = server.force_exit = True
            thread.join()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> RecommendationService:
    """A run whose items have ids and titles with markup."""
    folder = tmp_path_factory.mktemp("hostile") / "run"
    return RecommendationService(LiveRun(fit(hostile_dataset(), out=folder, overrides=QUICK).path))


@pytest.fixture(scope="module")
def address(service: RecommendationService) -> Iterator[str]:
    with served(service) as found:
        yield found


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


REASONS = "document.querySelectorAll('#best > li > details').length === 10"
FIRST = "document.querySelector('#{} .title').innerText"


def fresh(tab: Browser, address: str, width: int, *, dark: bool = False) -> None:
    """Open the page without what it was told before."""
    tab.open("about:blank", width)
    tab.open(address, width, dark=dark)
    tab.wait_for("document.querySelectorAll('#best > li').length === 10")


def type_words(tab: Browser, words: str) -> None:
    tab.value("document.getElementById('words').focus()")
    tab.value("document.getElementById('words').value = ''")
    tab.send("Input.insertText", text=words)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_and_can_be_read(tab: Browser, address: str, width: int, dark: bool) -> None:
    fresh(tab, address, width, dark=dark)
    assert tab.value(FAULTS) == []
    tab.value("document.querySelector('#best button').click()")
    tab.wait_for(REASONS)
    type_words(tab, "piece 1")
    tab.wait_for("document.querySelectorAll('#found > li').length > 1")
    tab.value("document.querySelectorAll('details').forEach((each) => each.open = true)")
    assert [*tab.value(FAULTS), *tab.log] == []


def test_a_session_is_built_and_explained(tab: Browser, address: str, service: RecommendationService) -> None:
    fresh(tab, address, 1280)
    assert "The session is empty" in tab.value("document.getElementById('best-note').textContent")
    assert tab.value("document.querySelectorAll('#best details').length") == 0
    type_words(tab, "piece 3")
    tab.wait_for("document.querySelectorAll('#found > li').length > 1")
    names = tab.value("[...document.querySelectorAll('#found .title > bdi')].map((e) => e.textContent)")
    assert all("piece" in name for name in names)
    for place in (0, 1):
        tab.value(f"document.querySelectorAll('#found button')[{place}].click()")
        tab.wait_for(f"document.querySelectorAll('#session > li').length === {place + 1}")
        tab.wait_for(REASONS)
    # What is shown is what the model says of these two items.
    session = tab.value("location.hash.slice(1).split(',').map(decodeURIComponent)")
    model = service.live.now.model
    best = model.recommend([session], k=10)[0]
    expected = [item.item_id for item in best]
    # The reasons of the first item are there already, so they do not tell when the answer for both has come.
    shown = "[...document.querySelectorAll('#best .title .item')].map((e) => e.textContent)"
    tab.wait_for(f"JSON.stringify({shown}) === JSON.stringify({json.dumps(expected)})")
    tab.wait_for(REASONS)
    summaries = tab.value("[...document.querySelectorAll('#best summary')].map((e) => e.textContent)")
    assert all(text.startswith("Why: score ") for text in summaries)
    assert summaries[0].split(", ")[0] == f"Why: score {best[0].score:.2f}"
    parts = model.explain(session, [best[0].item_id]).items[0].parts
    assert tab.value("document.querySelectorAll('#best li:first-child tbody tr').length") == len(parts)
    # The address has the session, so that it can be opened again and sent to others.
    link = tab.value("location.href")
    tab.open("about:blank", 390)
    tab.open(link, 390)
    tab.wait_for(REASONS)
    assert tab.value("document.querySelectorAll('#session > li').length") == 2
    tab.value("document.getElementById('clear').click()")
    tab.wait_for("document.getElementById('best-note').textContent.includes('The session is empty')")
    assert tab.value("document.activeElement.id") == "session-heading"
    assert tab.log == []


def test_titles_with_markup_stay_text(tab: Browser, address: str) -> None:
    fresh(tab, address, 768)
    for words in ("<script>", "<img", "piece", "{{"):
        type_words(tab, words)
        tab.wait_for(f"document.getElementById('found').innerText.includes({words!r})")
        tab.value("document.querySelector('#found button').click()")
        tab.wait_for(REASONS)
    assert tab.value("document.title") == "Try sessions - alterrec"
    inside = (
        "document.querySelectorAll('main :is(script, img, svg, iframe, a, style, base, meta, link)').length"
    )
    assert tab.value(inside) == 0
    # The policy stops a script that would have become a part of the page.
    tab.value("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title=1\">')")
    time.sleep(0.2)
    assert tab.value("document.title") == "Try sessions - alterrec"


def test_unknown_items_and_a_service_that_has_ended(tab: Browser, service: RecommendationService) -> None:
    with served(service) as address:
        tab.open("about:blank", 390)
        tab.open(f"{address}#no%20such%20item", 390)
        tab.wait_for("document.querySelectorAll('#best > li').length === 10")
        note = tab.value("document.getElementById('best-note').textContent")
        assert note.startswith("Nothing in the session is known, so these are the most popular items.")
    tab.value("document.querySelector('#best button').click()")
    tab.wait_for("!document.getElementById('failure').hidden")
    said = tab.value("document.getElementById('failure').textContent")
    assert said == "The service does not answer. Is it still running?"


def test_everything_can_be_reached_by_the_keyboard_and_has_a_name(tab: Browser, address: str) -> None:
    fresh(tab, address, 390)
    tab.value("document.querySelector('#best button').click()")
    tab.wait_for(REASONS)
    tree = tab.send("Accessibility.getFullAXTree")["nodes"]
    named = {
        node["role"]["value"]: node.get("name", {}).get("value", "")
        for node in tree
        if not node["ignored"] and node["role"]["value"] in ("button", "searchbox", "heading")
    }
    assert set(named) == {"button", "searchbox", "heading"}
    assert all(named.values())
    targets = "[...document.querySelectorAll('button, input')].filter((each) => each.offsetHeight)"
    assert tab.value(f"Math.min(...{targets}.map((each) => each.offsetHeight))") >= 44
