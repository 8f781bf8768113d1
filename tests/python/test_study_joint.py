"""A study of several data sets: column groups by hand, and one queue for the runs of all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Outcome
from shop import write_shop
from study_folder import difference, finish, row, write_study
from test_report import Outline

from alterrec.data.readers import DataSource
from alterrec.errors import InputError
from alterrec.record_json import to_json
from alterrec.report.plain import plain
from alterrec.report.tables import Table, latex, markdown
from alterrec.results import SCHEMA
from alterrec.studies import ablation, fusion, table1
from alterrec.studies.plan import plan_of, plan_row
from alterrec.studies.queue import Failure, RunQueue, describe
from alterrec.studies.study import load_study, plan_study, run_study
from alterrec.study_records import JointStudy, StudyResult, read_studies, read_study

Command = Callable[..., Outcome]


def part(folder: Path, name: str, rows: list[dict[str, object]], **changes: object) -> StudyResult:
    found = read_study(write_study(folder / name, rows, **changes))
    return _named(found, name)


def _named(found: StudyResult, name: str) -> StudyResult:
    from dataclasses import replace

    return replace(found, data=replace(found.data, name=name))


@pytest.fixture
def parts(tmp_path: Path) -> list[StudyResult]:
    """Table 1 on two data sets; the second has no users, and another order of the baselines."""
    first = [
        row("sasrec", "baseline", [30] * 5, [32] * 5),
        row("hggnn", "baseline", [20] * 5, [20] * 5),
        row("alterrec", "ours", [40] * 5, [40] * 5),
    ]
    second = [
        row("sasrec", "baseline", [50] * 5, [50] * 5),
        row("hggnn", "baseline", refused=True, reason="no user ids"),
        row("alterrec", "ours", [45] * 5, [47] * 5),
    ]
    return [
        part(tmp_path, "HD", first, comparisons=[difference("alterrec", "hits@20", "sasrec", 9.0, 0.01)]),
        part(tmp_path, "FR", second, comparisons=[difference("alterrec", "hits@20", "sasrec", -4.0, 0.01)]),
    ]


def test_data_sets_are_groups_of_columns(parts: list[StudyResult]) -> None:
    assert table1.STUDY.joint is not None
    section = table1.STUDY.joint(parts)
    data = section.tables["table1"]
    table = data.table
    assert table.groups == (("HD", 5), ("FR", 5))
    assert table.columns[:2] == ("system", "Hits@10")
    assert table.headings[5:8] == ("HD MRR@20", "FR Hits@10", "FR Hits@20")
    assert [line[0] for line in table.rows] == ["sasrec", "hggnn", "alterrec"]
    assert table.rows[0][1] == "31.00 ± 1.41"
    assert table.rows[1][5:7] == ("20.00 ± 0.00", "N/A")
    # Hits@20: above the best baseline on HD, below it on FR.
    assert (table.rows[2][2], table.rows[2][7]) == ("40.00 ± 0.00*", "46.00 ± 1.41†")
    assert table.best == {*((2, column) for column in range(1, 6)), *((0, column) for column in range(6, 11))}
    assert table.second == {
        *((0, column) for column in range(1, 6)),
        *((2, column) for column in range(6, 11)),
    }
    assert table.rule_before == 2
    assert "hggnn on FR: no user ids." in section.footnotes
    assert [(record["data"], record["system"]) for record in data.records][2:4] == [
        ("HD", "alterrec"),
        ("FR", "sasrec"),
    ]
    assert data.csv().splitlines()[0].startswith("data,system,model,kind,seeds,hits@10")


def test_groups_in_every_form() -> None:
    table = Table(("system", "a", "b", "a"), (("x", "1", "2", "3"),), groups=(("H&D", 2), ("FR", 1)))
    assert latex(table).splitlines()[2:5] == [
        r"& \multicolumn{2}{c}{H\&D} & \multicolumn{1}{c}{FR} \\",
        r"\cmidrule(lr){2-3} \cmidrule(lr){4-4}",
        r"system & a & b & a \\",
    ]
    assert markdown(table).splitlines()[0] == "| system | H&D a | H&D b | FR a |"
    assert plain(table).splitlines()[0] == "system  H&D a  H&D b  FR a"


def test_the_page_of_several_data_sets(parts: list[StudyResult], tmp_path: Path) -> None:
    joint = JointStudy(SCHEMA, "table1", "alterrec study table1", parts)
    (tmp_path / "study.json").write_text(json.dumps(to_json(joint)), "utf-8")
    assert read_studies(tmp_path) == parts
    shown = load_study(tmp_path).presentation()
    assert shown.title == "Table 1 on HD and FR"
    assert shown.findings[0].startswith("HD: Is alterrec better than all 2 baselines? Yes: above in Hits@20.")
    assert any(
        line.startswith("FR: Is alterrec better than the only baseline? No") for line in shown.findings
    )
    shown.write(tmp_path / "page")
    text = (tmp_path / "page" / "report.html").read_text("utf-8")
    page = Outline(text)
    assert page.open == []
    assert text.count('scope="colgroup"') == 6
    written = {path.name for path in (tmp_path / "page").iterdir()}
    assert {"table1.tex", "table1.csv", "table1.md", "HD-comparisons.csv", "FR-own_items.tex"} <= written
    assert "HD-table1.csv" not in written
    assert {path.name for path in (tmp_path / "page" / "figures").iterdir()} >= {
        "HD-systems.png",
        "FR-systems.svg",
    }


def test_the_other_tables(tmp_path: Path) -> None:
    variants = [row(name, "baseline", [10 + place] * 5) for place, name in enumerate(ablation.VARIANTS)]
    models = [row(name, "baseline", [10 + place] * 5) for place, name in enumerate(fusion.STUDY.systems)]
    for study, rows, name in ((ablation.STUDY, variants, "ablation"), (fusion.STUDY, models, "rows")):
        assert study.joint is not None
        both = [part(tmp_path / study.name, data, rows, study=study.name) for data in ("A", "B")]
        table = study.joint(both).tables[name].table
        assert [line[0] for line in table.rows] == [each["label"] for each in rows]
        assert table.groups == (("A", 5), ("B", 5))


def test_the_runs_of_all_data_sets_are_counted_together(tmp_path: Path) -> None:
    queues = [
        RunQueue(tmp_path, DataSource(tmp_path / name), name, prefix=f"{name}: ") for name in ("HD", "FR")
    ]
    rows = [plan_row("id_only", queue, {}, 2) for queue in queues]
    assert [each.seeds[0].label for each in rows] == ["HD: id_only, seed 0", "FR: id_only, seed 0"]
    assert len({run.name for each in rows for run in each.seeds}) == 4
    planned = [(plan_of([each]), queue) for each, queue in zip(rows, queues, strict=True)]
    assert describe(planned, 1) == "4 runs, 0 finished; 4 to go, the time is not known yet"
    finish(queues[0], rows[0].seeds[0], seconds=40.0)
    finish(queues[1], rows[1].seeds[0], seconds=10.0)
    assert describe(planned, 1) == "4 runs, 2 finished; 2 to go, about 50.0 s"
    assert describe(planned, 2) == "4 runs, 2 finished; 2 to go, about 25.0 s"
    queues[1].failures[rows[1].seeds[1]] = Failure("killed", -9)
    assert describe(planned, 1) == "4 runs, 2 finished; 1 to go, about 40.0 s"


def test_two_data_sets_from_end_to_end(alterrec: Command, shop: Path, tmp_path: Path) -> None:
    other = write_shop(tmp_path / "other")
    titles = (other / "items.csv").read_text("utf-8")
    (other / "items.csv").write_text(titles.replace("red", "crimson"), "utf-8")
    asked = ["--data", shop, "--data", f"Second={other}", "--out", tmp_path / "out", "--quick"]
    asked += ["--only=popularity", "--jobs=2"]
    code, out, err = alterrec("study", "table1", *asked)
    assert (code, err) == (0, "")
    assert "table1 on shop and Second: 2 rows" in out
    assert "2 runs, 0 finished; 2 to go" in out
    assert "Second: popularity, seed 0: started" in out
    assert len(list(tmp_path.glob("study-runs/*/result.json"))) == 2
    whole = json.loads((tmp_path / "out" / "study.json").read_text("utf-8"))
    assert [each["data"]["name"] for each in whole["parts"]] == ["shop", "Second"]
    # The study of one of them has the same numbers, and uses the same runs.
    alone = run_study("table1", shop, out=tmp_path / "alone", quick=True, only=("popularity",))
    (single,) = read_studies(alone.path)
    assert to_json(single)["rows"] == whole["parts"][0]["rows"]
    assert len(list(tmp_path.glob("study-runs/*/result.json"))) == 2


def test_names_and_studies_of_several_data_sets(shop: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="study sweep takes one --data; several are for table1, ablation, fusion"
    ):
        plan_study("sweep", [shop, shop])
    with pytest.raises(InputError, match=r"two data sets are called 'shop'; name them"):
        plan_study("table1", [shop, shop], only=("popularity",))
    with pytest.raises(InputError, match="no data is given"):
        plan_study("table1", [])
    named = plan_study("table1", {"a b": shop}, only=("popularity",), quick=True)
    assert [each.name for each in named.parts] == ["a b"]
    assert named.path == Path("studies/table1-a-b-quick")
    both = plan_study("table1", {"x": shop, "y": shop}, only=("popularity",))
    assert both.path == Path("studies/table1-x+y")
    with pytest.raises(InputError, match=r"hggnn on x, hggnn on y: model 'hggnn' requires user ids"):
        plan_study("table1", {"x": shop, "y": shop}, only=("hggnn",)).require()
