"""The chain as a person runs it: export, copy one folder, train, lose power, resume, predict."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from runtime_tests.support.digits import write_digits
from runtime_tests.support.exported_bundles import Case, exported

EPOCHS = 3
STEPS_PER_EPOCH = 4 * 24 // 8


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as it is on a board: the copied bundle and pictures, nothing of this repository."""
    folder = tmp_path_factory.mktemp("board")
    shutil.copytree(exported(tmp_path_factory, Case("mobiletl", 3)), folder / "copied")
    write_digits(folder / "photos")
    return folder


def command(board: Path, script: str, *arguments: str) -> list[str]:
    return [sys.executable, str(board / "copied/device" / script), *arguments]


def training(board: Path, run: str, *arguments: str) -> list[str]:
    options = ("--data", str(board / "photos"), "--epochs", str(EPOCHS), "--out", str(board / run))
    return command(board, "train_on_board.py", *options, "--threads", "1", "--json", *arguments)


def call(line: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(line, capture_output=True, text=True, check=False, cwd="/")


@pytest.fixture(scope="module")
def uninterrupted(board: Path) -> Path:
    done = call(training(board, "whole"))
    assert done.returncode == 0, done.stderr
    return board / "whole"


@pytest.fixture(scope="module")
def learned(board: Path) -> Path:
    done = call(training(board, "learned", "--no-augment", "--lr", "0.01", "--epochs", "80"))
    assert done.returncode == 0, done.stderr
    return board / "learned"


def wait_for_saves(process: subprocess.Popen[bytes], saved: Path, saves: int) -> None:
    """Return once the file was seen with that many time stamps, or the process has ended."""
    stamps: set[int] = set()
    while len(stamps) < saves and process.poll() is None:
        # There is no file before the first save, nor for a moment between two of its generations.
        with contextlib.suppress(FileNotFoundError):
            stamps.add(saved.stat().st_mtime_ns)
        time.sleep(0.0005)


def states(run: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    return load_file(run / "last.safetensors"), load_file(run / "state.safetensors")


def assert_same_bits(run: Path, other: Path) -> None:
    for one, two in zip(states(run), states(other), strict=True):
        assert one.keys() == two.keys()
        for name, value in one.items():
            assert value.tobytes() == two[name].tobytes(), name


def test_learns_digits_from_the_copied_folder(learned: Path) -> None:
    lines = [json.loads(line) for line in (learned / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(81))
    # The classifier is solved for before anything is trained.
    assert 0.6 < lines[0]["val_accuracy"] < lines[-1]["val_accuracy"]
    assert lines[-1]["val_accuracy"] > 0.85
    assert (learned / "plot.png").stat().st_size > 1000


def test_same_seed_same_bits(board: Path, uninterrupted: Path) -> None:
    assert call(training(board, "again")).returncode == 0
    assert_same_bits(uninterrupted, board / "again")


@pytest.mark.parametrize("saved_steps", [1, STEPS_PER_EPOCH + 5])
def test_power_cut_costs_nothing(board: Path, uninterrupted: Path, saved_steps: int) -> None:
    """Kill the process without warning once so many steps are on disk; resume; compare bits."""
    run = board / f"cut-{saved_steps}"
    saved = run / "last.safetensors"
    with subprocess.Popen(
        training(board, run.name, "--save-every", "1", "--save-budget", "none"),
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            wait_for_saves(process, saved, saved_steps)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL, "the run was over before the power cut"
    resumed = call(
        command(
            board,
            "train_on_board.py",
            "--data",
            str(board / "photos"),
            "--resume",
            str(run),
            "--threads",
            "1",
        )
    )
    assert resumed.returncode == 0, resumed.stderr
    assert_same_bits(uninterrupted, run)


def test_predicts_held_out_pictures(board: Path, learned: Path) -> None:
    state = str(learned / "state.safetensors")
    photos = board / "photos/val"
    done = call(command(board, "predict.py", "--state", state, "--json", str(photos)))
    assert done.returncode == 0, done.stderr
    predictions = json.loads(done.stdout)["predictions"]
    right = [Path(p["path"]).parent.name == p["labels"][0]["label"] for p in predictions]
    assert len(right) == 4 * 8
    assert np.mean(right) > 0.85


def test_state_of_another_bundle_is_refused(
    board: Path, uninterrupted: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = exported(tmp_path_factory, Case("ft-last", None))
    state = str(uninterrupted / "state.safetensors")
    picture = next((board / "photos/val/0").iterdir())
    line = command(board, "predict.py", "--bundle", str(other), "--state", state, str(picture))
    refused = call(line)
    assert refused.returncode == 5
    assert refused.stderr.startswith("mobiletl: ")
    assert len(refused.stderr.splitlines()) == 1
