"""The report of a run: what it reads, says, draws and refuses."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_folder import LEVELS, comparison, metrics, result, write_run
from rich.console import Console

from alterrec.analyses.run_advice import advice_section, reach_section
from alterrec.analyses.run_page import RunReport, write_report
from alterrec.analyses.run_sections import training_panels
from alterrec.analyses.run_summary import caveats, findings, parts_sentences
from alterrec.errors import InputError
from alterrec.report.figures.bars import Bar, SystemBars, bars, system_panels
from alterrec.report.figures.groups import group_lines, view_panels
from alterrec.report.figures.lines import Line, bands, epoch_lines
from alterrec.report.figures.style import Panel, png, spread_out, svg
from alterrec.report.plain import fill, plain, show
from alterrec.report.presentation import DataTable, Presentation, Section
from alterrec.report.tables import Table, markdown, mean_and_spread, metric_table
from alterrec.results import Epoch, Group, read_run


class Outline(HTMLParser):
    """Elements still open, attributes that load something, and the text a reader sees."""

    VOID = frozenset({"meta", "br", "path", "use", "rect"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.loads: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)
        self.loads += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset")
        ]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset")
        ]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "title"):
            self.text += data
            if self.open[-1] in ("h1", "h2", "h3"):
                self.headings.append(data)


def outline(run: Path, *beside: Path) -> Outline:
    return Outline(write_report(run, beside).read_text("utf-8"))


def test_everything_of_a_full_run_is_on_the_page(tmp_path: Path) -> None:
    page = outline(write_run(tmp_path / "run"))
    assert page.open == []
    assert page.headings == [
        "alterrec on online retail",
        "Warnings",
        "How often the right item is on the first screen",
        "What it recommends: random test visits",
        "Visit 1",
        "Visit 2",
        "Visit 3",
        "Visit 4",
        "What to do next",
        "Caveats",
        "Comparison with baselines and other runs",
        "Training",
        "Metrics by popularity of the target",
        "All metrics",
        "The session's own items",
        "Data and cost",
    ]
    wanted = ["final score", "ID + text", "ID alone", "text alone"]
    wanted += ["popularity", "item-kNN", "V-SKNN", "fused validation fell below its start in epoch 6"]
    wanted += ["2 min 13 s", "1.2 GiB", "16,120", "last = 0.1", "negatives: window", "(last 8 of 11 items)"]
    assert [text for text in wanted if text not in page.text] == []
    assert page.text.count("✓ next item") == 2
    assert page.text.count("✓ final score") == 3
    for name in ("systems", "training", "longtail"):
        assert (tmp_path / "run" / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_page_is_self_contained(tmp_path: Path) -> None:
    path = write_report(write_run(tmp_path / "run"))
    page = path.read_text("utf-8")
    assert {load[:1] for load in Outline(page).loads} == {"#"}
    assert "<script" not in page
    assert re.findall(r"url\((?!#)", page) == []
    assert "@import" not in page


def test_ids_on_the_page_are_unique_and_found(tmp_path: Path) -> None:
    page = write_report(write_run(tmp_path / "run")).read_text("utf-8")
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids)) > 0
    assert set(re.findall(r"url\(#([^)]+)\)", page)) | set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)


def test_same_run_gives_the_same_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first


def test_text_from_data_is_escaped(tmp_path: Path) -> None:
    bad = '<script>alert("x")</script>'
    data = result()["data"] | {"name": bad}
    run = write_run(
        tmp_path / "run", model=f"m{bad}", warnings=[bad], data=data, presets=[bad], versions={bad: bad}
    )
    cards = json.loads((run / "examples.json").read_text("utf-8"))
    cards[0]["target"] = cards[0]["session"][0] = cards[0]["top"]["score"][1] = {"item_id": bad, "text": bad}
    (run / "examples.json").write_text(json.dumps(cards), "utf-8")
    (run / "recipe.toml").write_text(f"[text]\nprompt = '{bad}'\n", "utf-8")
    page = write_report(run).read_text("utf-8")
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 12
    assert Outline(page).open == []


@pytest.mark.parametrize(("seed", "others"), [(0, (1, 2)), (1, (0, 2)), (7, (0, 1))])
def test_the_advice_names_other_seeds(tmp_path: Path, seed: int, others: tuple[int, int]) -> None:
    page = outline(write_run(tmp_path / "run", seed))
    assert f"Repeat the training with --seed {others[0]} and --seed {others[1]}" in page.text


def test_visits_are_numbered_through_the_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    cards = json.loads((run / "examples.json").read_text("utf-8"))
    (run / "examples.json").write_text(json.dumps((cards * 6)[:5]), "utf-8")
    page = write_report(run).read_text("utf-8")
    assert re.findall(r"<h3>Visit (\d+)", page) == ["1", "2", "3", "4", "5"]
    assert "Only on the page, <code>report.html</code>: What it recommends: random test visits" in (
        RunReport(read_run(run)).presentation().notebook()
    )


def test_mathematics_in_names_is_not_typeset(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", model="costs $5 or $6_x", presets=[])
    assert "costs $5 or $6_x" in outline(run).text


def test_a_run_without_text_shows_one_line_and_no_comparison_of_parts(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", views=("score",), epochs=3, model="id_only", fusion={}, warnings=[])
    page = outline(run)
    assert "Warnings" not in page.headings
    assert "ID and text combined" not in page.text
    assert "text alone" not in page.text
    assert "finds them only by chance" in page.text


def test_a_baseline_without_epochs_has_no_curves(tmp_path: Path) -> None:
    run = write_run(
        tmp_path / "run", views=("score",), epochs=0, model="popularity", baselines={}, stopped="finished"
    )
    (run / "curves.jsonl").unlink()
    (run / "examples.json").unlink()
    (run / "recipe.toml").unlink()
    page = outline(run)
    assert page.headings[-3:] == ["All metrics", "The session's own items", "Data and cost"]
    assert {"Training", "What it recommends: random test visits"}.isdisjoint(page.headings)
    assert not (run / "figures" / "training.png").exists()


def test_an_interrupted_run_without_test_numbers_speaks_of_validation(tmp_path: Path) -> None:
    targets = {"valid": {"count": 911}}
    run = write_run(
        tmp_path / "run", epochs=1, stopped="interrupted", test={}, groups={}, targets=targets, phases=[]
    )
    page = outline(run)
    assert "Training was interrupted after epoch 1" in page.text
    assert "On 911 validation targets" in page.text
    assert "There are no test metrics" in page.text
    assert "Metrics by popularity of the target" not in page.headings


def test_other_metrics_than_the_usual_are_shown(tmp_path: Path) -> None:
    few = {"score": {"mrr@5": 0.3}, "id": {"mrr@5": 0.2}, "text": {"mrr@5": 0.1}}
    groups = {"test": [{"name": "1-5", "count": 900, "share": 1.0, "views": few}]}
    page = outline(write_run(tmp_path / "run", valid=few, test=few, groups=groups, baselines={}))
    assert "On 907 test targets, MRR@5 is 30.0%." in page.text
    assert {"Comparison with baselines and other runs", "Metrics by popularity of the target"} <= set(
        page.headings
    )
    assert "the standard error of" not in page.text


def test_no_cold_targets_no_word_about_cold(tmp_path: Path) -> None:
    written = result()
    groups = {
        "test": [
            group | {"count": 0, "share": 0.0} if group["name"] == "cold" else group
            for group in written["groups"]["test"]
        ]
    }
    targets = {"test": {"count": 907, "cold": 0}}
    page = outline(write_run(tmp_path / "run", groups=groups, targets=targets))
    assert "Cold targets" not in page.text
    assert "never occur in training" not in page.text


def test_other_runs_are_grouped_by_recipe_and_the_incomparable_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    data = result()["data"]
    beside = [
        run,
        write_run(tmp_path / "seed1", seed=1),
        *(write_run(tmp_path / f"naive{seed}", seed=seed, model="nfrec_sum") for seed in range(3)),
        write_run(tmp_path / "gap", model="nfrec_sum"),
        write_run(tmp_path / "cut", stopped="interrupted"),
        write_run(tmp_path / "elsewhere", data=data | {"fingerprint": "77", "name": "beauty"}),
        write_run(tmp_path / "seen", data=data | {"seen": "kept"}),
        write_run(tmp_path / "every", data=data | {"targets": "every"}),
    ]
    (tmp_path / "gap" / "recipe.toml").write_text("[schedule]\ngap = 4\n", "utf-8")
    beside.append(write_run(tmp_path / "damaged"))
    (tmp_path / "damaged" / "result.json").write_text("{}", "utf-8")
    text = outline(run, *beside).text
    # Long names are broken into two lines.
    assert "alterrec (best), 2" in text
    assert "naive0, 3 seeds" in text
    assert "nfrec_sum (best) · gap" in text
    assert (
        "Not comparable and left out: cut (interrupted), elsewhere (other data: beauty), "
        "seen (another rule for items already in the session), every (other targets), "
        "damaged (cannot be read)." in text
    )
    assert "run with one seed" not in text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("result.json", b'{"schema": 1', r"result\.json is damaged: Invalid JSON"),
        (
            "result.json",
            b'{"schema": 4}',
            r"result\.json has schema 4, and this version of alterrec reads schemas 1 to 3; upgrade alterrec",
        ),
        ("result.json", b"[]", r"result\.json is damaged"),
        ("result.json", b"\xff\xfe", r"result\.json is damaged: not UTF-8 at byte 0"),
        ("curves.jsonl", b'{"epoch": 1}\n', r"curves\.jsonl line 1 is damaged: phase: Field required"),
        ("curves.jsonl", b"{", r"curves\.jsonl line 1 is damaged"),
        ("examples.json", b"{}", r"examples\.json is damaged"),
        ("recipe.toml", b"[a", r"recipe\.toml is damaged: it is not TOML"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    run = write_run(tmp_path / "run")
    (run / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        write_report(run)
    assert not (run / "report.html").exists()


@pytest.mark.parametrize("share", [1.2, -0.1, float("nan"), "much"])
def test_a_metric_that_is_no_share_is_damage(tmp_path: Path, share: float | str) -> None:
    run = write_run(tmp_path / "run", test={"score": {"hits@20": share}})
    with pytest.raises(InputError, match=r"result\.json is damaged: test\.score\.hits@20: "):
        read_run(run)


@pytest.mark.parametrize("name", ["result.json", "curves.jsonl"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    run = write_run(tmp_path / "run")
    (run / name).unlink()
    with pytest.raises(InputError, match=f"no {name} in "):
        read_run(run)


def test_a_failed_write_leaves_the_old_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "run")
    before = write_report(run).read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(InputError, match="disk is full"):
        write_report(run)
    assert (run / "report.html").read_bytes() == before
    assert sorted(path.name for path in run.iterdir() if path.name.startswith(".")) == []


def test_keys_of_later_versions_are_ignored(tmp_path: Path) -> None:
    assert read_run(write_run(tmp_path / "run", novelty=1)).result.model == "alterrec"


def test_findings_by_hand(tmp_path: Path) -> None:
    views = {"score": 0.40, "fused": 0.36, "id": 0.35, "text": 0.38}
    test = {view: metrics(level) for view, level in views.items()} | {"neighbours": metrics(0.3)}
    changes = {"test": test, "baselines": {"vsknn": {"test": metrics(0.45)}}}
    run = read_run(write_run(tmp_path / "run", **changes))
    said = findings(run.result)
    assert said[1] == (
        "On 907 test targets, Hits@20 is 40.0%: in that share of cases the right item is among the first 20 "
        "of 3,204 items. NDCG@20, which also rewards a higher rank, is 24.4%."
    )
    assert said[2:] == [
        "The final score is not shown to be better than the best simple baseline, V-SKNN, in Hits@20 (+1.7 "
        "points, 95% interval -0.3 to +3.7) and NDCG@20 (+1.7 points, 95% interval -0.3 to +3.7).",
        "ID + text without item neighbours is below the best simple baseline, V-SKNN, in Hits@20 (-5.6 "
        "points, 95% interval -7.6 to -3.6) and NDCG@20 (-5.6 points, 95% interval -7.6 to -3.6).",
    ]
    assert parts_sentences(run.result) == [
        "ID and text combined reach 36.0%: 1.0 points above ID alone (35.0%) "
        "and 2.0 points below text alone (38.0%).",
        "Adding item neighbours to the sum changes this by +4.0 points.",
    ]
    earlier = read_run(write_run(tmp_path / "earlier", comparisons=[], **changes))
    assert findings(earlier.result)[2:] == [
        "The final score is 5.0 points below the best simple baseline, V-SKNN (45.0%); this run has no test "
        "whether that is more than chance."
    ]


def test_what_to_do_next_follows_from_the_comparisons(tmp_path: Path) -> None:
    def steps(name: str, **changes: Any) -> list[str]:
        return list(advice_section(read_run(write_run(tmp_path / name, **changes)), seeds=1).steps)

    first, *rest = steps("open", stopped="finished", best_epoch=12)
    assert first.startswith("It is not shown to be better than V-SKNN in Hits@20 and NDCG@20, which needs no")
    assert [step[:20] for step in rest] == [
        "Train longer, becaus",
        "The networks alone a",
        "Repeat the training ",
        "Look for faults of t",
    ]
    assert "--resume --set schedule.epochs=24" in rest[0]
    better = steps("better", comparisons=[comparison("alterrec", "score", "ndcg@20", 0.05)])
    assert better[0] == (
        "Recommend the next items of your own sessions: `alterrec recommend better --sessions FILE -k 20`."
    )
    worse = steps("worse", comparisons=[comparison("alterrec", "score", "ndcg@20", -0.05)])
    assert worse[0].startswith(
        "Do not use this run as it is: without any training, `vsknn` is better in NDCG@20."
    )


def test_for_whom_it_works_is_a_table_of_visits(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run"))
    (section,) = reach_section(run.result, [Group("1", 500, 500 / 907, {"score": {"hits@20": 0.5}})])
    rows = section.tables["reach"].table.rows
    assert rows[1] == ("after 1 item", "500", "55.1%", "50.0%")
    # Twelve cold targets are few.
    assert rows[2][:2] == ("next item new: never in training", "12")
    assert rows[2][3] == "(22.0%)"
    assert rows[-1][0] == "next item more than 100 times in training"
    assert "The best of 3 simple baselines, V-SKNN, finds it in 37." in section.notes[0]


def test_visits_that_an_earlier_version_chose_are_said_to_be_chosen(tmp_path: Path) -> None:
    page = outline(write_run(tmp_path / "run", examples_drawn=False))
    assert "What it recommends: chosen test visits" in page.headings
    assert "An earlier version chose these visits" in page.text


def test_the_score_during_training_is_not_called_final(tmp_path: Path) -> None:
    write_report(write_run(tmp_path / "run"))
    drawn = (tmp_path / "run" / "figures" / "training.svg").read_text("utf-8")
    assert "all parts" in drawn
    assert "final score" not in drawn
    assert [line.label for line in _training_lines(tmp_path / "two", ("score", "id", "text"))] == [
        "ID + text",
        "ID",
        "text",
    ]
    assert [line.label for line in _training_lines(tmp_path / "one", ("score",))] == ["alterrec"]


def _training_lines(folder: Path, views: tuple[str, ...]) -> list[Line]:
    return list(training_panels(read_run(write_run(folder, views=views)))[0].marks)


def test_neighbours_and_their_baseline_are_one_bar(tmp_path: Path) -> None:
    write_report(write_run(tmp_path / "run"))
    drawn = (tmp_path / "run" / "figures" / "systems.svg").read_text("utf-8")
    assert "item-kNN" in drawn
    assert "neighbours alone" not in drawn


def test_caveats_by_hand(tmp_path: Path) -> None:
    test = {"score": metrics(0.20), "id": metrics(0.36), "text": metrics(0.1)}
    targets = {"test": {"count": 400, "cold": 4, "tied_share": {"text": 0.25, "id": 0.001}}}
    changes = {"test": test, "targets": targets, "stopped": "finished", "best_epoch": 12}
    run = read_run(write_run(tmp_path / "run", views=("score", "id", "text"), **changes))
    assert caveats(run.result) == [
        "The best epoch is the last one, so more epochs may improve the result.",
        "The final score (20.0%) is below ID alone (36.0%): combining the parts hurts.",
        "V-SKNN (37.1%), a baseline without a neural network, is higher.",
        "The baseline with the best test mean of each metric is compared, which favours the baselines. Tests "
        "cover the choice of sessions, not that of training seeds.",
        "With 400 targets, the standard error of Hits@20 is about 2.0 points. To test the difference between "
        "two runs, use alterrec compare.",
        "4 targets (1.0%) never occur in training. This model finds them only by their text.",
        "Some targets have exactly the same score as another item (25.0% with text alone). Their metrics are "
        "averages over all orders of the tied items.",
        "The recipe was run with one seed, so the variation between seeds is not known.",
    ]


def test_fused_is_shown_only_where_it_differs_from_the_score(tmp_path: Path) -> None:
    same = {"score": metrics(0.3), "fused": metrics(0.3), "id": metrics(0.2), "text": metrics(0.1)}
    run = read_run(write_run(tmp_path / "run", valid=same, test=same))
    assert run.result.views == ("score", "id", "text")
    assert read_run(write_run(tmp_path / "other")).result.views == tuple(LEVELS)


def trained(*epochs: tuple[str, str]) -> list[Epoch]:
    """Epochs that trained a network against negatives."""
    return [
        Epoch(number, "", network, negatives, 6.0, {})
        for number, (network, negatives) in enumerate(epochs, start=1)
    ]


def test_training_marks_phases_negatives_and_the_best_epoch() -> None:
    phases = bands(trained(("id", "full"), ("text", "full"), ("id", "window")))
    panel = Panel("Hits@20", [Line("final score", "score", [[0.1, 0.3, 0.2]])])
    drawn = svg(epoch_lines([panel], phases=phases, best=[2]), "training")
    text = re.findall(r"<text[^>]*>([^<]*)</text>", drawn)
    assert [text.count(word) for word in ("ID", "text", "negatives: window →", "epoch 2: 30.0%")] == [
        2,
        1,
        1,
        1,
    ]


def test_thirty_short_phases_are_labelled_once_a_network() -> None:
    phases = bands(trained(*[("id", "full"), ("text", "full")] * 15))
    panel = Panel("Hits@20", [Line("final score", "score", [[0.1] * 30])])
    drawn = svg(epoch_lines([panel], phases=phases), "training")
    text = re.findall(r"<text[^>]*>([^<]*)</text>", drawn)
    assert (text.count("ID"), text.count("text")) == (1, 1)


def test_systems_are_sorted_and_seeds_averaged() -> None:
    systems = [
        SystemBars("low", {"hits@20": [0.1]}, "baseline"),
        SystemBars("seeds", {"hits@20": [0.2, 0.4]}, "other"),
        SystemBars("high", {"hits@20": [0.35]}, "score", bold=True),
    ]
    (axes,) = bars(system_panels(systems, ["hits@20"])).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["high", "seeds", "low"]
    assert [text.get_text() for text in axes.texts] == ["35.0%", "30.0%", "10.0%"]


def test_each_panel_is_sorted_by_its_own_metric_and_one_seed_has_the_error_of_sessions() -> None:
    systems = [
        SystemBars("a", {"hits@20": [0.2], "ndcg@20": [0.1]}, "score", errors={"hits@20": 0.01}),
        SystemBars("b", {"hits@20": [0.1], "ndcg@20": [0.2]}, "baseline"),
    ]
    hits, ndcg = system_panels(systems)
    assert [bar.label for bar in hits.marks] == ["a", "b"]
    assert [bar.label for bar in ndcg.marks] == ["b", "a"]
    assert [bar.spread for bar in hits.marks] == [0.01, 0.0]
    assert Bar("two", [0.1, 0.3], "score", error=0.01).spread == pytest.approx(0.02**0.5)


def test_systems_that_all_fail_are_drawn() -> None:
    assert png(bars(system_panels([SystemBars("none", {"hits@20": [0.0]}, "score")], ["hits@20"])))


def test_longtail_of_cold_targets_alone_is_drawn() -> None:
    groups = [Group("cold", 3, 1.0, {"text": {"hits@20": 0.0}})]
    assert png(group_lines(view_panels(groups, ["hits@20"]), groups=groups))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_labels_keep_their_order_gap_and_bounds(values: list[float]) -> None:
    placed = spread_out(values, 0.1, 0.0, 1.0)
    inside = sorted(placed)
    assert inside[0] >= -1e-9
    assert inside[-1] <= 1 + 1e-9
    assert all(after - before >= 0.1 - 1e-9 for before, after in pairwise(inside))
    assert sorted(range(len(values)), key=lambda place: values[place]) == sorted(
        range(len(values)), key=lambda place: placed[place]
    )


@given(st.text())
def test_a_page_gives_back_its_text(text: str) -> None:
    table = DataTable(Table(("a", "b"), ((text, "x"),), title=text))
    seen = Outline(Presentation("x", text, "", [], [], [Section(text, tables={"t": table})]).page())
    assert seen.open == []
    assert seen.headings == [text, text] if text else [""]
    assert seen.text.count(text) >= 4


def test_tables_in_each_form() -> None:
    table = metric_table({"a|b": {"hits@20": 0.5}, "[c]": {}}, ["hits@20"], title="T", strong=["[c]"])
    assert plain(table) == "T\nsystem  Hits@20\n------  -------\na|b       50.0%\n[c]           -"
    assert markdown(table).splitlines()[2:] == [
        "| system | Hits@20 |",
        "|:--|--:|",
        "| a\\|b | 50.0% |",
        "| **[c]** | **-** |",
    ]
    terminal = io.StringIO()
    show(table, Console(file=terminal, force_terminal=True, width=60))
    assert "[c]" in terminal.getvalue()
    assert "\x1b[1m" in terminal.getvalue()
    pipe = io.StringIO()
    show(Table(("a",), (("x",),)), Console(file=pipe))
    assert pipe.getvalue() == "a\n-\nx\n"


@given(
    st.lists(st.lists(st.text("ab -", max_size=30), min_size=3, max_size=3), min_size=1, max_size=4),
    st.booleans(),
    st.integers(8, 120),
)
def test_a_table_fits_into_a_terminal_and_keeps_its_words(
    rows: list[list[str]], prose: bool, width: int
) -> None:
    table = Table(("name", "n", "text"), tuple(map(tuple, rows)), prose=prose)  # type: ignore[arg-type]
    shown = plain(table, width)
    if prose:
        # A heading and a letter in narrower ones.
        assert all(len(line) <= max(width, 7) for line in shown.splitlines())
    letters = "".join(cell for row in rows for cell in row)
    # The column "name" is repeated; the headings have letters of their own.
    own = shown if prose else shown.replace("name", "")
    assert all(own.count(letter) >= letters.count(letter) for letter in "ab")


def test_tables_of_words_and_of_numbers_in_narrow_terminals() -> None:
    words = Table(
        ("name", "summary"), (("sasrec", "a Transformer over ids"), ("core", "mean of vectors")), prose=True
    )
    assert plain(words, 24).splitlines() == [
        "name    summary",
        "------  ----------------",
        "sasrec  a Transformer",
        "        over ids",
        "core    mean of vectors",
    ]
    # Narrower than the longest words next to one another: a block per row.
    assert plain(words, 18).splitlines()[:3] == [
        "name     sasrec",
        "summary  a Transfo",
        "         rmer over",
    ]
    numbers = Table(("system", "a@20", "b@20"), (("two words", "1.0%", "2.0%"),), title="T")
    # The first column takes half of the width at most.
    assert plain(numbers, 16).splitlines() == [
        *("T", "system    a@20", "--------  ----", "two       1.0%", "words", ""),
        *("system    b@20", "--------  ----", "two       2.0%", "words"),
    ]
    assert fill("one two three", 7) == "one two\nthree"
    assert fill("one two three", None) == "one two three"


def test_mean_and_sample_deviation_by_hand() -> None:
    # Mean 30 %, deviations -1, 0, 1: sqrt(2 / (3 - 1)) = 1.
    assert mean_and_spread([0.29, 0.30, 0.31]) == "30.0 ± 1.0%"


def test_report_is_imported_without_torch_and_matplotlib() -> None:
    code = "import sys, alterrec.analyses.run_page; print(sorted({'torch', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
