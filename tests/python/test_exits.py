"""Exit codes: 1 is a fault of ours; what the user or the machine can mend is 2, with one sentence."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, Outcome
from hypothesis import given
from hypothesis import strategies as st

import alterrec
from alterrec import signals
from alterrec.cli.application import exit_code, outside_cause
from alterrec.errors import InputError
from alterrec.files import reading
from alterrec.recipe import recipe_fields, resolve
from alterrec.sessions import SessionStore
from alterrec.training.trainer import DivergenceError, Trainer

Command = Callable[..., Outcome]
LISTING = [sys.executable, "-m", "alterrec", "list", "recipes"]
linux = pytest.mark.skipif(sys.platform != "linux", reason="folders and devices of Linux")


def one_sentence(outcome: Outcome) -> bool:
    return outcome.code == 2 and len(outcome.err.splitlines()) == 1 and "internal error" not in outcome.err


@linux
@pytest.mark.parametrize("out", ["/proc/nope", "/sys/nope", "/dev/null/nope", "shop/items.csv/nope"])
@pytest.mark.usefixtures("shop")
def test_an_unwritable_folder(alterrec: Command, out: str) -> None:
    outcome = alterrec("train", "popularity", "--data", "shop", "--out", out, "--set=run.report=false")
    assert one_sentence(outcome), outcome
    assert out in outcome.err


@linux
def test_an_unwritable_folder_is_found_before_the_data_are_read(alterrec: Command, tmp_path: Path) -> None:
    outcome = alterrec("train", "popularity", "--data", "no such folder", "--out", "/proc/nope")
    assert one_sentence(outcome), outcome
    assert "/proc/nope" in outcome.err
    # Nothing remains of the try.
    outcome = alterrec("train", "popularity", "--data", "no such folder", "--out", "new/run")
    assert one_sentence(outcome), outcome
    assert "no such folder" in outcome.err
    assert not list(tmp_path.iterdir())


@linux
@pytest.mark.parametrize("out", ["/proc/o.csv", "/sys/o.csv", "shop/items.csv/o.csv", "shop.csv"])
def test_an_unwritable_file(alterrec: Command, shop: Path, out: str) -> None:
    (shop.parent / "shop.csv").mkdir()
    done = alterrec("train", "popularity", "--data", "shop", "--out", "run", *TINY[3:])
    assert done.code == 0
    outcome = alterrec("recommend", "run", "--sessions", "shop/test.csv", "--out", out, "-k", "3")
    assert one_sentence(outcome), outcome
    assert out in outcome.err


@pytest.mark.parametrize(
    "device", ["meta", "cuda:99", "cuda:99999999999999999999", "cuda:-1", "hpu", "tpu9", ""]
)
@pytest.mark.usefixtures("shop")
def test_a_device_that_is_not_there(alterrec: Command, device: str) -> None:
    outcome = alterrec("train", "popularity", "--data", "shop", f"--set=run.device={device}")
    assert one_sentence(outcome), outcome
    assert "use cpu, or a device of this machine" in outcome.err


VALUES = [
    "-1",
    "nan",
    "inf",
    "-inf",
    "1e308",
    "2147483648",
    "9223372036854775808",
    "9" * 400,
    "-9223372036854775809",
    "[]",
    "{}",
    "x",
    "1e400",
    "'\\u0000'",
]


@given(key=st.sampled_from(sorted(recipe_fields())), value=st.sampled_from(VALUES))
def test_a_number_out_of_range_is_refused_or_harmless(key: str, value: str) -> None:
    try:
        recipe = resolve("alterrec", overrides={key: value})
    except InputError:
        return
    kept = recipe.value(key)
    assert not isinstance(kept, int) or abs(kept) < 2**64
    assert not isinstance(kept, float) or np.isfinite(kept)


@pytest.mark.parametrize("redirect", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "| head -1 >/dev/null"])
def test_closed_streams(redirect: str) -> None:
    command = " ".join(f"'{word}'" for word in LISTING)
    script = f"{command} {redirect}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


@linux
@pytest.mark.parametrize("arguments", [["list", "recipes"], ["--help"], ["--version"]])
def test_a_full_disk_behind_standard_output(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*LISTING[:3], *arguments], stdout=full, stderr=subprocess.PIPE, text=True, timeout=120
        )
    assert done.returncode == 2
    assert "the disk is full" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@linux
def test_an_argument_that_is_not_text() -> None:
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [*LISTING[:3], "train", "--data", "donn\u00e9es".encode()]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=120)
    assert done.returncode == 2
    assert b"set PYTHONUTF8=1" in done.stderr


class PanicException(BaseException):
    """Stands for pyo3's, which cannot be made here."""


def raises(error: BaseException) -> Callable[[], int]:
    def command() -> int:
        raise error

    return command


def test_the_cause_decides_on_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    ours = [KeyError("id"), ValueError("shape"), PanicException("index out of bounds"), RuntimeError("mat1")]
    theirs = [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x.csv"),
        PermissionError(errno.EACCES, "no", "/root/x"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory: 4 TB"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
        InputError("k is 0"),
    ]
    assert [exit_code(raises(error)) for error in ours] == [1] * len(ours)
    assert [exit_code(raises(error)) for error in theirs] == [2] * len(theirs)
    assert exit_code(raises(KeyboardInterrupt())) == 130
    assert outside_cause(ValueError("x")) == ""
    assert "Traceback" not in capsys.readouterr().err


def test_an_interrupt_that_a_library_turns_into_another_error_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Polars raises a TypeError for a KeyboardInterrupt in one of its callbacks."""

    def work() -> None:
        raise TypeError("'<unprintable str object>' is not a Polars data type")

    assert exit_code(work) == 1
    monkeypatch.setattr(signals, "_received", [signal.SIGTERM])
    assert exit_code(work) == 128 + signal.SIGTERM
    assert capsys.readouterr().err.splitlines()[-1] == "stopped before there was a result"


# A signal handler belongs to a process, so each of these is one.
SIGNALLED = """
import os, signal, sys
from alterrec import signals
from alterrec.cli.application import exit_code
from alterrec.files import reading

def receive(number=signal.SIGINT):
    os.kill(os.getpid(), number)

def twice():
    try:
        with signals.at_work():
            try:
                receive()
            except KeyboardInterrupt:
                receive()
                raise KeyboardInterrupt("half is kept") from None
    finally:
        receive()
    return 0

def with_another():
    try:
        with signals.at_work():
            receive()
    finally:
        receive(signal.SIGTERM)
    return 0

def while_reading():
    with reading("."):
        receive(signal.SIGTERM)
    return 0

def in_a_library():
    # As torch does, while it reads a tensor of a file.
    with signals.at_work(), reading("."):
        try:
            receive(signal.SIGTERM)
        except KeyboardInterrupt:
            raise RuntimeError("could not determine the shape of object type") from None
    return 0

signals.install()
sys.exit(exit_code(globals()[sys.argv[1]]))
"""


@linux
@pytest.mark.parametrize(
    ("case", "code", "detail"),
    [
        *(("twice", 130, "; half is kept"), ("with_another", 130, "")),
        *(("while_reading", 143, ""), ("in_a_library", 143, "")),
    ],
)
def test_a_signal_ends_a_command_with_one_sentence(case: str, code: int, detail: str) -> None:
    done = subprocess.run([sys.executable, "-c", SIGNALLED, case], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (code, f"stopped before there was a result{detail}\n")


def test_panic_messages_are_discarded_and_other_output_is_kept(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x"
    file.touch()

    def read(message: bytes, error: BaseException | None = None) -> None:
        with reading(file):
            os.write(2, message)
            if error is not None:
                raise error

    message = b"\nthread '<unnamed>' panicked at src/lib.rs:1:1:\nindex out of bounds\nstack backtrace:\n"
    with pytest.raises(InputError, match=r"x is damaged \(index out of bounds\); copy it again"):
        read(message, PanicException("index out of bounds"))
    assert capfd.readouterr().err == ""
    read(b"a warning\n")
    with pytest.raises(InputError):
        read(b"another warning\n", ValueError("no header"))
    assert capfd.readouterr().err == "a warning\nanother warning\n"
    with pytest.raises(KeyboardInterrupt):
        read(b"", KeyboardInterrupt())


def test_weights_that_are_not_finite(
    shop_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = Trainer._train_epoch

    def breaks(self: Trainer, phase: object, *more: object) -> tuple[float, int]:
        loss = train(self, phase, *more)  # type: ignore[arg-type]
        with torch.no_grad():
            next(iter(self.model.parameters())).view(-1)[0] = torch.nan
        return loss

    monkeypatch.setattr(Trainer, "_train_epoch", breaks)
    small = {"model.dim": 8, "schedule.epochs": 2, "run.baselines": False, "run.report": False}
    with pytest.raises(
        DivergenceError, match=r"the weights are not finite after epoch 1; lower optim\.lr \(now"
    ):
        alterrec.fit(shop_source, "sasrec", out=tmp_path / "run", overrides=small)


@pytest.mark.parametrize("model", ["alterrec", "id_only"])
def test_a_learning_rate_of_1000_is_an_input_error_or_trains(
    alterrec: Command, shop: Path, model: str
) -> None:
    outcome = alterrec("train", model, "--data", shop, "--out", "run", *TINY, "--set=optim.lr=1e30")
    assert one_sentence(outcome), outcome
    assert "training diverged" in outcome.err
    assert "lower optim.lr" in outcome.err


@given(seed=st.integers(0, 2**32 - 1))
def test_a_damaged_store_is_an_os_error(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    draw = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("store") / "store"
    store = SessionStore.from_arrays([0, 0, 1, 1, 1], [4, 2, 3, 0, 1], timestamps=[1, 2, 3, 4, 5])
    store.save(path)
    content = bytearray(path.read_bytes())
    if draw.random() < 0.5:
        content[draw.integers(len(content))] ^= 1 << draw.integers(8)
    else:
        content = content[: draw.integers(len(content))]
    path.write_bytes(content)
    with pytest.raises(OSError, match="store: "):
        SessionStore.open(path)


@linux
@pytest.mark.parametrize("path", ["/dev/zero", "/proc/self/mem", "/"])
def test_a_store_is_a_file(path: str) -> None:
    with pytest.raises(OSError, match="cannot be read"):
        SessionStore.open(path)
