"""Files are written atomically, and a path that cannot be written to gives a message of one line."""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save_file

from alterrec.errors import InputError
from alterrec.files import atomic_write, write_json, write_text

FULL = Path("/dev/full")  # a device whose every write fails as on a full disk


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_atomic_write(tmp_path: Path) -> None:
    target = tmp_path / "new" / "deep" / "note.txt"
    write_text(target, "é")
    assert target.read_bytes() == "é".encode()
    write_text(target, "second")
    assert target.read_text("utf-8") == "second"
    assert names(target.parent) == ["note.txt"]


def test_the_temporary_name_keeps_the_suffix(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "plot.svg") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".svg"
        assert not (tmp_path / "plot.svg").exists()
        temporary.touch()
    assert names(tmp_path) == ["plot.svg"]


def test_files_have_the_usual_permissions_whoever_writes_them(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    with atomic_write(tmp_path / "model.safetensors") as temporary:
        save_file({"x": np.zeros(2)}, temporary)
        temporary.chmod(0o600)  # as safetensors does since 0.6
    assert (tmp_path / "model.safetensors").stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize(
    "error", [RuntimeError("ours"), KeyboardInterrupt(), OSError(errno.ENOTTY, "not a terminal")]
)
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "note.txt"
    write_text(target, "old")

    def stop_half_way() -> None:
        with atomic_write(target) as temporary:
            temporary.write_text("half", "utf-8")
            raise error

    with pytest.raises(type(error)):
        stop_half_way()
    assert target.read_text("utf-8") == "old"
    assert names(tmp_path) == ["note.txt"]


def _by_python(full: Path) -> None:
    full.write_text("x" * 10_000, "utf-8")


def _by_polars(full: Path) -> None:
    raise pl.exceptions.ComputeError("parquet: underlying IO error: No space left on device (os error 28)")


def _by_safetensors(full: Path) -> None:
    raise SafetensorError('I/O error: Os { code: 28, kind: StorageFull, message: "No space left on device" }')


@pytest.mark.skipif(not FULL.is_char_device(), reason="this system has no /dev/full")
@pytest.mark.parametrize("write", [_by_python, _by_polars, _by_safetensors])
def test_disk_full(tmp_path: Path, write: Callable[[Path], None]) -> None:
    target = tmp_path / "table.parquet"
    write_text(target, "old")

    def fill() -> None:
        with atomic_write(target) as temporary:
            temporary.write_text("half", "utf-8")
            write(FULL)

    with pytest.raises(InputError) as caught:
        fill()
    assert str(caught.value) == f"{target}: cannot be written: the disk is full; free some space"
    assert target.read_text("utf-8") == "old"
    assert names(tmp_path) == ["table.parquet"]


def test_disk_full_when_the_writer_raises_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = type("Space", (), {"free": 0})()
    monkeypatch.setattr("alterrec.files.shutil.disk_usage", lambda folder: space)

    def fill() -> None:
        with atomic_write(tmp_path / "vectors.npy") as temporary:
            np.save(temporary, np.zeros(3))
            raise RuntimeError("24 requested and 0 written")

    with pytest.raises(InputError, match=r"vectors.npy: cannot be written: the disk is full"):
        fill()
    assert names(tmp_path) == []


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(
        InputError, match=r"runs/a/result.json: cannot be written: part of the path is a file"
    ):
        write_json(tmp_path / "runs" / "a" / "result.json", {})
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="folder: cannot be written: it is a folder; choose another name"):
        write_text(tmp_path / "folder", "x")
    assert names(tmp_path) == ["folder", "runs"]


def test_json(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    write_json(target, {"name": "café", "hits": 0.25})
    assert json.loads(target.read_text("utf-8")) == {"name": "café", "hits": 0.25}
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(target, {"hits": math.nan})
    assert json.loads(target.read_text("utf-8"))["hits"] == 0.25
