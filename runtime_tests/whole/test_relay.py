"""One run, handed on from runtime to runtime with the commands a person types."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.state_file import load_state
from mobiletl.export.writing.export_bundle import Request, export_bundle
from runtime_tests.support import training_env
from runtime_tests.support.board.shared_files import REPOSITORY
from runtime_tests.support.board.signals import signals_arrive
from runtime_tests.support.digits import write_digits

CLASSES, BATCH, EPOCHS, EACH = 4, 8, 80, 2
DEADLINE_SECONDS = 120
RELAY = [
    "onnxruntime",
    pytest.param("onnxruntime-training", marks=training_env.needs_training_env),
    "torchscript",
    "executorch",
]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for every runtime, pictures, and a run of two epochs on stock onnxruntime."""
    pytest.importorskip("executorch", reason="needs the executorch package")
    folder = tmp_path_factory.mktemp("relay")
    names = ("onnxruntime", "onnxruntime-training", "executorch", "torchscript")
    export_bundle(
        Request(
            "mbv2-0.35", "demo", "mobiletl", 1, 64, "sgd", folder / "bundle", names, BATCH, CLASSES
        )
    )
    write_digits(folder / "photos", CLASSES)
    # A classifier that is drawn has much to learn, so that a state that was lost would be seen.
    start = ("--start", "random", "--no-augment", "--lr", "0.01")
    options = ("--epochs", str(EPOCHS), *start, "--out", "run")
    train_two_epochs(folder, "onnxruntime", *options)
    return folder


def command(board: Path, runtime: str, script: str, *arguments: str) -> list[str]:
    training = runtime == "onnxruntime-training"
    python = str(training_env.PYTHON) if training else sys.executable
    return [python, str(board / "bundle/device" / script), "--runtime", runtime, *arguments]


def train_two_epochs(board: Path, runtime: str, *options: str) -> None:
    """Train until two more epochs are written down, then press Ctrl-C."""
    metrics = board / "run" / "metrics.jsonl"
    before = len(metrics.read_text().splitlines()) if metrics.exists() else 1
    line = command(board, runtime, "train_on_board.py", "--data", "photos", "--threads", "1")
    with signals_arrive():
        process = subprocess.Popen(
            [*line, *options],
            cwd=board,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
    started = time.monotonic()
    while process.poll() is None and time.monotonic() < started + DEADLINE_SECONDS:
        if metrics.exists() and len(metrics.read_text().splitlines()) >= before + EACH:
            process.send_signal(signal.SIGINT)
            break
        time.sleep(0.001)
    _, told = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 130, told[-2000:]


@pytest.mark.parametrize("runtime", RELAY)
def test_a_run_goes_on_where_another_runtime_left_it(board: Path, runtime: str) -> None:
    bundle = open_bundle(board / "bundle")
    _, before = load_state(board / "run" / "last.safetensors", bundle.manifest)
    train_two_epochs(board, runtime, "--resume", "run")
    _, after = load_state(board / "run" / "last.safetensors", bundle.manifest)
    assert after.epoch >= before.epoch + EACH
    assert after.settings["run"]["runtime"] == runtime
    rows = [json.loads(line) for line in (board / "run/metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(len(rows)))
    losses = [row["val_loss"] for row in rows]
    # A state that was lost or misread on the way would start from the first row's loss again.
    assert max(losses[before.epoch + 1 :]) < (losses[0] + losses[before.epoch]) / 2


@pytest.mark.parametrize("runtime", RELAY)
def test_every_runtime_trains_by_default(board: Path, runtime: str) -> None:
    """From a classifier in closed form, that is: a state is read before any step is taken."""
    arguments = ("--data", "photos", "--epochs", "1", "--out", f"default-{runtime}", "--json")
    done = subprocess.run(
        command(board, runtime, "train_on_board.py", *arguments),
        cwd=board, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["last_epoch"]["epoch"] == 1


@pytest.mark.parametrize("runtime", RELAY)
def test_every_runtime_predicts_the_same(board: Path, runtime: str) -> None:
    arguments = ("--state", "run/state.safetensors", "--threads", "1", "--json", "photos/val")
    found, stock = (
        json.loads(
            subprocess.run(
                command(board, name, "predict.py", *arguments),
                cwd=board, capture_output=True, text=True, check=True,
            ).stdout
        )["predictions"]
        for name in (runtime, "onnxruntime")
    )  # fmt: skip
    assert [p["path"] for p in found] == [p["path"] for p in stock]
    for one, other in zip(found, stock, strict=True):
        assert one["labels"][0]["label"] == other["labels"][0]["label"]
        assert one["labels"][0]["probability"] == pytest.approx(
            other["labels"][0]["probability"], abs=1e-4
        )


LOADS = """
import sys
sys.path.insert(0, sys.argv[1] + "/device")
import _script
_script.register()
import numpy as np
from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.sessions.runtimes import open_session
from runtime_tests.support.board.loading import assert_load_is_as_opened
bundle, runtime = open_bundle(sys.argv[1]), sys.argv[2]
classes, batch = int(sys.argv[3]), int(sys.argv[4])
h = np.random.default_rng(0).standard_normal((batch, *bundle.manifest.feature.shape), np.float32)
assert_load_is_as_opened(
    lambda state: open_session(bundle, classes, state, 1, runtime),
    bundle.initial_state(classes, 0),
    bundle.initial_state(classes, 1),
    h,
    np.arange(batch) % classes,
)
"""


@pytest.mark.parametrize("runtime", RELAY)
def test_every_runtime_goes_on_from_a_loaded_state(board: Path, runtime: str) -> None:
    python = command(board, runtime, "train_on_board.py")[0]
    arguments = [str(board / "bundle"), runtime, str(CLASSES), str(BATCH)]
    done = subprocess.run(
        [python, "-c", LOADS, *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
