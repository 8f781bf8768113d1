"""Pages about data with hostile titles: no script runs, and nothing is loaded."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browser import program
from study_folder import row, write_study
from worlds import NUM_ITEMS, small_dataset

import alterrec
from alterrec.data.dataset import Dataset, ItemText
from alterrec.report.presentation import CONTENT_POLICY
from alterrec.studies.study import load_study
from alterrec.vocabulary import Vocabulary

RUN = "document.title='taken'"
HOSTILE = (
    f"<script>{RUN}</script>",
    f'"><img src=x onerror="{RUN}">',
    f"'><svg onload={RUN}>",
    f"</title><script>{RUN}</script>",
    f"</style><script>{RUN}</script>",
    f"</pre></details></table><body onload={RUN}>",
    f"<a href=javascript:{RUN}>x</a><iframe srcdoc='<script>parent.{RUN}</script>'>",
    f"<meta http-equiv=refresh content='0;url=javascript:{RUN}'>",
    "<base href=//elsewhere.example/><link rel=stylesheet href=//elsewhere.example/x.css>",
    f"<math><mtext><table><mglyph><style><img src=x onerror={RUN}>",
    f"]]><![CDATA[<script>{RUN}</script>]]>--><!--",
    f"{{{{ {RUN} }}}}{{% raw %}}$\\alpha$ \u202e\u2028 &lt;script&gt; &#60;script&#62;{RUN}",
)
INERT = {"html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "h3", "h4", "p", "div", "span"}
INERT |= {"table", "caption", "thead", "tbody", "tr", "th", "td", "b", "u", "aside", "ul", "ol", "li", "dl"}
INERT |= {"dt", "dd", "section", "details", "summary", "pre", "article", "img", "code"}
# Of our figures.
INERT |= {"svg", "defs", "g", "path", "use", "rect", "text", "tspan", "clippath", "line", "circle", "polygon"}


def hostile_dataset() -> Dataset:
    """Sessions, items, users and a name that all contain markup."""
    data = small_dataset()
    name = HOSTILE[3]
    return dataclasses.replace(
        data,
        name=name,
        vocabulary=Vocabulary(tuple(f"{HOSTILE[j % len(HOSTILE)]}{j}" for j in range(NUM_ITEMS))),
        text=ItemText({"title": [f"{HOSTILE[j % len(HOSTILE)]} piece {j // 5}" for j in range(NUM_ITEMS)]}),
        session_names={
            split: [f"{HOSTILE[i % len(HOSTILE)]}{split}{i}" for i in range(len(names))]
            for split, names in data.session_names.items()
        },
        notes=HOSTILE,
    )


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One page of each kind, all of them about hostile data."""
    folder = tmp_path_factory.mktemp("pages")
    data = hostile_dataset()
    small = {"model.dim": 8, "schedule.epochs": 4, "schedule.warmup": 1, "run.threads": 1}
    runs = []
    for model, overrides in (("popularity", {}), ("alterrec", small)):
        out = folder / f"runs {HOSTILE[0].replace('/', '')}" / model
        runs.append(alterrec.fit(data, model, out=out, overrides=overrides).path)
    rows = [row(hostile, "baseline", [1] * 5, reason=hostile) for hostile in HOSTILE]
    failed = [{"run": hostile, "reason": hostile} for hostile in HOSTILE]
    study = write_study(folder / "study", rows, command=HOSTILE[0], failures=failed, presets=list(HOSTILE))
    return {
        "run": runs[1] / "report.html",
        "compare": alterrec.compare(runs, command=HOSTILE[3]).save(folder / "compare"),
        "balance": alterrec.balance(runs[1:], command=HOSTILE[3]).save(folder / "balance"),
        "audit": alterrec.audit(data, command=HOSTILE[3]).save(folder / "audit"),
        "study": load_study(study).save(folder / "study-page"),
    }


KINDS = ("run", "compare", "balance", "audit", "study")


class Elements(HTMLParser):
    """The elements of a page with their attributes, and its policy."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.policies: list[tuple[int, str]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attrs}
        if known.get("http-equiv") == "Content-Security-Policy":
            self.policies.append((len(self.tags), known["content"]))
        self.tags.append(tag)
        self.attributes += known.items()


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_titles_stay_text(pages: dict[str, Path], kind: str) -> None:
    text = pages[kind].read_text("utf-8")
    # The data set, a title or a command is on every page, as text.
    assert "&lt;script&gt;document.title" in text
    page = Elements(text)
    assert set(page.tags) <= INERT
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("srcdoc", "action")]
    links = [value for name, value in page.attributes if name in ("href", "src", "xlink:href")]
    assert not [link for link in links if not link.startswith(("#", "data:image/png"))]
    assert not [
        value for name, value in page.attributes if name == "style" and re.search("url|expression", value)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_the_policy_comes_first_and_allows_no_script(pages: dict[str, Path], kind: str) -> None:
    page = Elements(pages[kind].read_text("utf-8"))
    # After html, head and the meta that names the encoding.
    assert page.policies == [(3, CONTENT_POLICY)]
    assert CONTENT_POLICY.startswith("default-src 'none'; ")
    assert "script" not in CONTENT_POLICY


def opened(page: Path, profile: Path) -> str:
    """The title of a page after a browser has run what it runs, and its report of refused content."""
    command = [
        str(program()),
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
        *("--virtual-time-budget=2000", f"--user-data-dir={profile}", "--dump-dom", page.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert found, done.stderr
    return found[1]


needs_browser = pytest.mark.skipif(program() is None, reason="no Chromium on this machine")


@needs_browser
@pytest.mark.parametrize("kind", KINDS)
def test_a_browser_runs_no_script(pages: dict[str, Path], kind: str, tmp_path: Path) -> None:
    title = re.search(r"<title>(.*?)</title>", pages[kind].read_text("utf-8"), re.DOTALL)
    assert title
    found = opened(pages[kind], tmp_path / "profile")
    assert found != "taken"
    assert " ".join(found.split()) == " ".join(title[1].replace("&#34;", '"').replace("&#39;", "'").split())


@needs_browser
def test_the_policy_stops_scripts_that_are_not_escaped(pages: dict[str, Path], tmp_path: Path) -> None:
    whole = pages["run"].read_text("utf-8")
    body = "".join(HOSTILE)
    without = tmp_path / "without.html"
    without.write_text(
        f"<!DOCTYPE html><html><head><title>kept</title></head><body>{body}</body></html>", "utf-8"
    )
    # So the test can fail: without a policy the payloads run.
    assert opened(without, tmp_path / "profile") == "taken"
    injected = tmp_path / "injected.html"
    injected.write_text(whole.replace("<main>", f"<main>{body}", 1), "utf-8")
    assert opened(injected, tmp_path / "profile") != "taken"
