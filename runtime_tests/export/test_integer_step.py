"""A bundle whose training step multiplies bytes: exported, planned, run, trained, refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.integer.top import integer_top
from mobiletl.core.optimizers import find_optimizer
from mobiletl.core.step import TrainingStep
from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.inspect_bundle import main as inspect
from mobiletl.device.sessions.runtimes import open_session
from mobiletl.export.commands.export import main as export
from mobiletl.export.writing.export_bundle import Request, export_bundle
from runtime_tests.support.exported_bundles import Case, exported

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES, BATCH = 4, 8
FLOATS, BYTES = Case("mobiletl", 5, "adam"), Case("mobiletl", 5, "adam", step="int8")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_bundle(exported(tmp_path_factory, BYTES))


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_bundle(exported(tmp_path_factory, FLOATS))


def batches(bundle: Bundle, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Maps that look like those of a network, a pattern for each class."""
    generator = np.random.default_rng(0)
    shape = bundle.manifest.feature.shape
    patterns = generator.normal(size=(CLASSES, *shape))
    found = []
    for _ in range(count):
        labels = generator.integers(0, CLASSES, BATCH)
        h = patterns[labels] + 0.5 * generator.normal(size=(BATCH, *shape))
        found.append((h.astype(np.float32), labels))
    return found


def test_pytorch_and_onnxruntime_compute_one_step(bundle: Bundle) -> None:
    """All three blocks of stride 1 and the two of stride 2; a byte that rounds the other way, since
    sums of floats have another order, moves a gradient by a fraction of its own error.
    """
    transfer = BYTES.transfer(CLASSES)
    step = TrainingStep(integer_top(transfer), find_optimizer("adam"))
    state = bundle.initial_state(CLASSES, 0)
    ((h, labels),) = batches(bundle, 1)
    values = [torch.from_numpy(state[entry.name]) for entry in step.entries]
    loss, correct, *expected = step.train(
        values, torch.from_numpy(h), torch.from_numpy(labels), torch.tensor(1e-3)
    )
    with open_session(bundle, CLASSES, state, 1) as session:
        found = session.train_step(h, labels, 1e-3)
        after = session.state()
    assert found.loss == pytest.approx(loss.item(), rel=1e-5)
    assert found.correct == int(correct)
    for entry, wanted in zip(step.entries, expected, strict=True):
        if entry.role == "slot" and entry.name.startswith("adam.m/"):  # a tenth of the gradient
            difference = np.linalg.norm(after[entry.name] - wanted.numpy())
            assert difference <= 5e-3 * float(wanted.norm()) + 1e-8, entry.name


def test_it_learns_and_threads_change_no_bit(bundle: Bundle) -> None:
    shown = batches(bundle, 25)
    states = []
    for threads in (1, 2):
        state = bundle.initial_state(CLASSES, 0)
        with open_session(bundle, CLASSES, state, threads) as session:
            losses = [session.train_step(h, labels, 1e-3).loss for h, labels in shown]
            states.append(session.state())
        assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert all(np.array_equal(value, states[1][name]) for name, value in states[0].items())


def test_a_state_fits_both_bundles(bundle: Bundle, floats: Bundle) -> None:
    assert bundle.manifest.step == "int8"
    assert floats.manifest.step == "float32"
    assert bundle.manifest.fit == floats.manifest.fit
    planned = [
        one.manifest.memory.train_step.peak_bytes(BATCH, CLASSES) for one in (bundle, floats)
    ]
    assert planned[0] < planned[1]


def test_predictions_are_those_of_floats(bundle: Bundle, floats: Bundle) -> None:
    names = ("predict", "features")
    for name in names:
        graphs = [
            (one.path / one.manifest.runtimes["onnxruntime"].files[name]).read_bytes()
            for one in (bundle, floats)
        ]
        assert graphs[0] == graphs[1]


def test_right_operands_have_seven_bits_everywhere(bundle: Bundle) -> None:
    """What is multiplied by bytes is divided by 63 first: sums of two products fit 16 bits then."""
    model = onnx.load(bundle.path / bundle.manifest.runtimes["onnxruntime"].files["train_step"])
    products = [node for node in model.graph.node if node.op_type == "MatMulIntegerToFloat"]
    assert len(products) == 6 * 5 - 1 + 3  # the lowest block passes nothing down
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    assert {types[node.input[0]] for node in products} == {onnx.TensorProto.UINT8}
    assert {types[node.input[1]] for node in products} == {onnx.TensorProto.INT8}


def test_inspect_says_what_is_multiplied(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inspect(["--bundle", str(bundle.path)]) == 0
    assert "products of bytes, weights in float32" in capsys.readouterr().out
    assert inspect(["--bundle", str(bundle.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["step"] == "int8"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"runtimes": ("onnxruntime", "torchscript")}, "leave torchscript out of --runtimes"),
        ({"saved": "one-bit"}, "--saved one-bit is for --step float32"),
        ({"method": "ft-blocks"}, "--step int8 has no form for features.15"),
        ({"model": "mbv3-small", "weights": "none"}, "SqueezeExcitation"),
    ],
)
def test_what_it_does_not_go_with_is_refused(
    changed: dict[str, object], reason: str, tmp_path: Path
) -> None:
    settings = {
        "model": "mbv2-0.35", "weights": "demo", "method": "mobiletl", "blocks": 3,
        "resolution": 64, "optimizer": "adam", "out": tmp_path / "bundle", "step": "int8",
    }  # fmt: skip
    with pytest.raises(UnsupportedModel, match=reason):
        export_bundle(Request(**{**settings, **changed}))  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", "int8"),
        ("--step int8", "int8"),
        ("--step float32", "float32"),
        ("--saved eight-bit", "float32"),
        ("--method ft-blocks --blocks 1", "float32"),
        ("--method repnet", "float32"),
        ("--runtimes onnxruntime,torchscript", "float32"),
        ("--model mbv3-small --weights none", "float32"),
    ],
)
def test_who_names_no_step_gets_bytes_where_they_were_measured(
    tmp_path: Path, words: str, expected: str
) -> None:
    out = tmp_path / "bundle"
    flags = ["--resolution", "64", *words.split()]
    flags += [] if "--method" in flags else ["--blocks", "1"]
    weights = [] if "--weights" in flags else ["--weights", "demo"]
    assert export([*flags, *weights, "--out", str(out)]) == 0
    assert open_bundle(out).manifest.step == expected
