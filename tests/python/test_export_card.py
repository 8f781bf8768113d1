"""Model cards, and runs that are pushed to a repository and loaded from it; no network but this machine's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import huggingface_hub
import pytest
import yaml
from conftest import Outcome
from hub_server import TOKEN, Repository, running_hub
from shop import PRODUCTS

import alterrec
from alterrec.errors import InputError
from alterrec.exports.card import write_card
from alterrec.exports.hub import PRIVATE, push
from alterrec.results import read_run

SETTINGS = {"run.report": False, "model.dim": 8, "schedule.epochs": 4, "run.threads": 1}


@pytest.fixture(scope="module")
def trained(shop_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return alterrec.fit(
        shop_source, "id_only", out=tmp_path_factory.mktemp("card") / "a", overrides=SETTINGS
    ).path


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of a run that a test may modify."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


class Hub:
    """Repositories as folders, behind those functions of huggingface_hub that are called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.private: dict[str, bool] = {}

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> str:
        assert exist_ok
        self.private.setdefault(repo_id, private)
        (self.folder / repo_id).mkdir(parents=True, exist_ok=True)
        return f"https://huggingface.co/{repo_id}"

    def upload_folder(
        self, *, repo_id: str, folder_path: Path, commit_message: str, delete_patterns: list[str]
    ) -> None:
        for name in delete_patterns:
            (self.folder / repo_id / name).unlink(missing_ok=True)
        shutil.copytree(folder_path, self.folder / repo_id, dirs_exist_ok=True)

    def snapshot_download(self, repo_id: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        if not (self.folder / repo_id).exists():
            raise huggingface_hub.errors.HFValidationError(f"no repository {repo_id}")
        copy = self.folder / "cache" / repo_id
        shutil.copytree(self.folder / repo_id, copy, dirs_exist_ok=True)
        for path in copy.iterdir():
            if path.name not in allow_patterns:
                path.unlink()
        return str(copy)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    """A fake Hub; calls that the real functions would not accept fail."""
    fake = Hub(tmp_path / "hub")
    api = mock.create_autospec(huggingface_hub.HfApi, instance=True)
    api.create_repo.side_effect, api.upload_folder.side_effect = fake.create_repo, fake.upload_folder
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda **_: api)
    download = mock.create_autospec(huggingface_hub.snapshot_download, side_effect=fake.snapshot_download)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return fake


def metadata(card: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(card.read_text("utf-8").split("---\n")[1])
    return found


def test_a_card_has_the_metadata_of_the_hub(run: Path) -> None:
    card = write_card(run)
    result = read_run(run).result
    facts = metadata(card)
    assert facts["library_name"] == "alterrec"
    assert "license" not in facts
    ((model,), data) = facts["model-index"], huggingface_hub.ModelCard.load(card).data
    measured = {row["type"]: row["value"] for row in model["results"][0]["metrics"]}
    assert measured == {name: round(value, 6) for name, value in result.test["score"].items()}
    assert {each.metric_type for each in data.eval_results} == set(result.test["score"])


def test_a_card_states_metrics_with_intervals_and_limits(run: Path) -> None:
    text, result = write_card(run).read_text("utf-8"), read_run(run).result
    value, error = result.test["score"]["hits@20"], result.errors["score"]["hits@20"]
    low, high = max(value - 1.96 * error, 0), min(value + 1.96 * error, 1)
    assert f"| Hits@20 | {value:.1%} | {low:.1%} to {high:.1%} |" in text
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings == [
        "Use",
        "Data",
        "Protocol",
        "Metrics",
        "Intended use",
        "Limits",
        "Training",
        "License",
    ]
    assert "one seed" in text
    assert "item-kNN" in text


def test_equal_runs_have_equal_cards(trained: Path, shop_source: Path, tmp_path: Path) -> None:
    again = alterrec.fit(shop_source, "id_only", out=tmp_path / "again", overrides=SETTINGS).path
    copy = Path(shutil.copytree(trained, tmp_path / "first"))
    assert write_card(again).read_bytes() == write_card(copy).read_bytes()


def test_an_edited_card_is_kept(run: Path, alterrec: Callable[..., Outcome]) -> None:
    code, out, _ = alterrec("export", run, "--to", "card")
    assert (code, out.split()[0]) == (0, str(run / "README.md"))
    assert alterrec("export", run, "--to", "card").code == 0
    (run / "README.md").write_text("ours", "utf-8")
    code, _, err = alterrec("export", run, "--to", "card")
    assert code == 2
    assert "may have been edited" in err
    assert (run / "README.md").read_text("utf-8") == "ours"


def test_a_pushed_run_recommends_as_before(run: Path, hub: Hub) -> None:
    assert push(run, "anna/shop") == "https://huggingface.co/anna/shop"
    assert hub.private == {"anna/shop": True}
    pushed = {path.name for path in (hub.folder / "anna/shop").iterdir()}
    assert pushed >= {"README.md", "manifest.json", "model.safetensors", "result.json"}
    assert not pushed & set(PRIVATE)
    sessions = [["i0", "i1"], [f"i{len(PRODUCTS)}"]]
    assert alterrec.load("hf://anna/shop").recommend(sessions) == alterrec.load(run).recommend(sessions)


def test_a_second_push_leaves_nothing_of_the_first(run: Path, hub: Hub) -> None:
    push(run, "anna/shop", public=True)
    assert hub.private == {"anna/shop": False}
    (hub.folder / "anna/shop/users.parquet").write_bytes(b"of another run")
    push(run, "anna/shop")
    assert not (hub.folder / "anna/shop/users.parquet").exists()
    alterrec.load("hf://anna/shop")


def test_an_edited_card_is_pushed(run: Path, hub: Hub) -> None:
    (run / "README.md").write_text("ours", "utf-8")
    push(run, "anna/shop")
    assert (hub.folder / "anna/shop/README.md").read_text("utf-8") == "ours"


def test_a_file_that_was_changed_in_the_repository_is_refused(run: Path, hub: Hub) -> None:
    push(run, "anna/shop")
    path = hub.folder / "anna/shop/model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"model.safetensors has another content than manifest.json says"):
        alterrec.load("hf://anna/shop")


def test_a_repository_without_a_run_is_refused(hub: Hub) -> None:
    (hub.folder / "anna/empty").mkdir(parents=True)
    with pytest.raises(InputError, match=r"hf://anna/empty has no manifest\.json"):
        alterrec.load("hf://anna/empty")


def test_what_the_hub_refuses_is_an_input_error(
    run: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, alterrec: Callable[..., Outcome]
) -> None:
    with pytest.raises(InputError, match=r"hf://anna/none cannot be downloaded \(no repository anna/none\)"):
        __import__("alterrec").load("hf://anna/none")

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("401 Unauthorized")

    monkeypatch.setattr(hub, "create_repo", refuse)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda **_: hub)
    code, _, err = alterrec("push", run, "anna/shop")
    assert code == 2
    assert "the Hub did not accept anna/shop (401 Unauthorized)" in err


def test_the_command_prints_the_address(run: Path, hub: Hub, alterrec: Callable[..., Outcome]) -> None:
    code, out, err = alterrec("push", run, "anna/shop")
    assert (code, out) == (0, "https://huggingface.co/anna/shop\n"), err


# The environment variables are read when huggingface_hub is imported, so this needs a process of its own.
REAL_CLIENT = """
import sys
import alterrec
from alterrec.exports.hub import push

run = sys.argv[1]
for _ in range(2):
    print(push(run, "anna/shop"))
sessions = [["i0", "i1"]]
print(alterrec.load("hf://anna/shop").recommend(sessions) == alterrec.load(run).recommend(sessions))
try:
    alterrec.load("hf://anna/none")
except alterrec.errors.InputError as error:
    print(error)
"""


def test_the_client_of_the_hub_pushes_and_loads_a_run(run: Path, tmp_path: Path) -> None:
    with running_hub() as hub:
        environment = os.environ | {
            "HF_ENDPOINT": hub.address,
            "HF_HOME": str(tmp_path / "cache"),
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }
        hub.repositories["anna/shop"] = Repository("public", {"users.parquet": b"of another run"})
        command = [sys.executable, "-c", REAL_CLIENT, str(run)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *addresses, equal, refused = done.stdout.splitlines()
    assert addresses == [f"{hub.address}/anna/shop"] * 2
    assert equal == "True"
    assert refused.startswith("hf://anna/none cannot be downloaded (404 Client Error")
    assert done.stderr == ""
    repository = hub.repositories["anna/shop"]
    assert repository.visibility == "public"
    assert repository.files.keys() >= {"README.md", "manifest.json", "model.safetensors", "result.json"}
    assert not repository.files.keys() & {*PRIVATE, "users.parquet"}
    assert repository.files["model.safetensors"] == (run / "model.safetensors").read_bytes()
