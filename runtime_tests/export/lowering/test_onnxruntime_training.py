"""The artifact of onnxruntime-training: what is in it here, that it trains in an environment of
the package's own.
"""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from onnxscript import ir

from bench.forward_model import write_forward_model
from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.optimizers import Adam, AdamW, Optimizer, Sgd
from mobiletl.core.step import TrainingStep
from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.sessions.onnxruntime_training.checkpoint import read_checkpoint
from mobiletl.export.lowering.onnx_training.model import training_model
from mobiletl.export.lowering.onnx_training.optimizer import optimizer_model
from runtime_tests.support.networks import feature_shape, small_step
from runtime_tests.support.training_cases import (
    CLASSES,
    HARD_SWISH,
    ONE_STEP,
    ROUNDING,
    Case,
    bundle_of,
    reference,
)
from runtime_tests.support.training_env import OFFICIAL, needs_training_env, run_in_training_env

MICROSOFT = {"InPlaceAccumulatorV2", "AdamWOptimizer"}


def models_of(folder: Path) -> dict[str, onnx.ModelProto]:
    files = (folder / "onnxruntime-training").glob("*.onnx")
    return {file.stem: onnx.load(str(file)) for file in files}


def operators(model: onnx.ModelProto) -> Counter[tuple[str, str]]:
    """(domain, operator) of every node, those of a scan's body included."""
    nodes = list(model.graph.node)
    nodes += [n for node in model.graph.node for a in node.attribute for n in a.g.node]
    return Counter((node.domain, node.op_type) for node in nodes)


@pytest.mark.slow
@pytest.mark.parametrize("case", [Case(), HARD_SWISH], ids=str)
def test_files_are_standard_and_old_enough(
    case: Case, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for name, model in models_of(bundle_of(case, tmp_path_factory)).items():
        onnx.checker.check_model(model)
        assert model.ir_version <= 10, name
        versions = {entry.domain: entry.version for entry in model.opset_import}
        assert versions.pop("") <= 21, name
        assert versions in ({}, {"com.microsoft": 1}), name
        foreign = {kind for domain, kind in operators(model) if domain}
        assert foreign <= MICROSOFT, name


@pytest.mark.slow
@pytest.mark.parametrize("form", ["", "whole_"])
def test_interface(form: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    bundle = open_bundle(bundle_of(Case(), tmp_path_factory))
    models = models_of(bundle.path)
    graph = models[f"{form}training_model"].graph
    state = {entry.name: entry for entry in bundle.manifest.state if entry.role != "slot"}
    trained = [name for name, entry in state.items() if entry.role == "parameter"]
    picture = "input" if form else "h"
    assert [value.name for value in graph.input] == [
        picture,
        "labels",
        *state,
        *(f"{name}_grad.accumulation.buffer" for name in trained),
        "lazy_reset_grad",
    ]
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    outputs = [value.name for value in graph.output]
    assert outputs == ["loss", "correct", *(f"{name}_grad.accumulation.out" for name in state)]
    known = {t.name for t in graph.initializer} | {"frozen.h"}
    assert {value.name for value in graph.value_info} <= known
    evaluation = models[f"{form}eval_model"].graph
    assert [value.name for value in evaluation.input] == [picture, "labels", *state]
    assert [value.name for value in evaluation.output] == ["loss", "output", "embedding"]
    prefixes = [node for node in graph.node if node.op_type == "Scan"]
    assert len(prefixes) == bool(form)


@functools.cache
def lowered(method: str) -> tuple[TrainingStep, ir.Model]:
    """A step of two blocks and its training model, which tests only read."""
    step = small_step(method, 2)
    return step, training_model(step, feature_shape(2))


def test_statistics_are_stored_and_gradients_added() -> None:
    step, model = lowered("mobiletl")
    sums = {node.outputs[0].name: node for node in model.graph if node.domain == "com.microsoft"}
    assert len(sums) == len(step.predict_entries)
    previous = "true"
    for node in sums.values():  # in the order of the file, each with the flag of the one before
        buffer, _, store = (value for value in node.inputs if value is not None)
        source = store.producer()
        if "running" in str(buffer.name):
            assert store.name == previous
        else:
            assert source is not None
            assert source.op_type == "And"
            assert [value.name for value in source.inputs if value] == ["lazy_reset_grad", previous]
        previous = str(node.outputs[0].name)


@pytest.mark.parametrize(
    ("method", "masks"),
    [("mobiletl", 5), pytest.param("ft-blocks", 0, marks=pytest.mark.slow)],
)
def test_forward_pass_waits_for_masks(method: str, masks: int) -> None:
    _, model = lowered(method)
    waits = [node for node in model.graph if str(node.name).startswith("after_packing_")]
    assert sum(node.op_type == "Reshape" for node in waits) == masks
    for node in waits:
        if node.op_type == "Reshape":
            a = node.inputs[0]
            assert a is not None
            assert {reader.op_type for reader in a.consumers()} == {"GreaterOrEqual", "Reshape"}


def test_no_two_products_are_equal() -> None:
    _, model = lowered("mobiletl")
    products = [tuple(map(id, node.inputs)) for node in model.graph if node.op_type == "Mul"]
    assert len(set(products)) == len(products)


@pytest.mark.slow
def test_checkpoint_starts_as_a_board_with_seed_0(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    bundle = open_bundle(bundle_of(Case(), tmp_path_factory))
    content = (bundle.path / "onnxruntime-training" / "checkpoint").read_bytes()
    found = read_checkpoint(content).tensors
    expected = bundle.initial_state(CLASSES, seed=0)
    for entry in bundle.manifest.state:
        if entry.role != "slot":
            assert np.array_equal(found.pop(entry.name), expected[entry.name]), entry.name
    assert not any(value.any() for value in found.values()), "moments start at zero"


@pytest.mark.parametrize(
    ("optimizer", "mode"), [(Sgd(), 1), (Adam(), 0), (AdamW(weight_decay=0.1), 0)]
)
def test_optimizer_model(optimizer: Optimizer, mode: int) -> None:
    model = optimizer_model(optimizer)
    onnx.checker.check_model(model)
    (node,) = model.graph.node
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    assert attributes["adam_mode"] == mode
    assert attributes["weight_decay"] == pytest.approx(optimizer.weight_decay)


class Lion(Sgd):
    name = "lion"


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (Sgd(weight_decay=0.1), "weight decay 0.1 to the gradient as sgd does, expected 0"),
        (Adam(weight_decay=0.1), "try --optimizer adamw"),
        (Lion(), "can't run the optimizer lion, expected one of: sgd, adam, adamw"),
    ],
)
def test_optimizer_without_a_counterpart(optimizer: Optimizer, message: str) -> None:
    with pytest.raises(UnsupportedModel, match=message):
        optimizer_model(optimizer)


@pytest.fixture
def trained_case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bundle and `expected.npz`: the same training in PyTorch."""
    case: Case = request.param
    bundle = open_bundle(bundle_of(case, tmp_path_factory))
    folder = bundle.path.parent
    np.savez(folder / "expected.npz", **reference(case, bundle, bundle.initial_state(CLASSES, 0)))
    return folder


@needs_training_env
@pytest.mark.slow
@pytest.mark.parametrize("trained_case", [Case(), HARD_SWISH], ids=str, indirect=True)
def test_official_api_trains_it(trained_case: Path) -> None:
    result = run_in_training_env(
        "-m", "pytest", "-q", OFFICIAL / "training.py", OFFICIAL_CASE=trained_case
    )
    assert result.returncode == 0, result.stdout[-4000:]
    assert " passed" in result.stdout
    assert "skipped" not in result.stdout
    check_slots(trained_case)
    for form, given in (("", "h"), ("whole_", "pictures")):
        check_inference_model(trained_case, form, given)


def check_slots(folder: Path) -> None:
    """The momentum after one step, which the API shows in checkpoints only."""
    expected = np.load(folder / "expected.npz")
    moments = read_checkpoint((folder / "one_step").read_bytes()).tensors
    for name, slot in expected.items():
        if name.startswith("slot_after/"):
            owner = name.rpartition("sgd.momentum/")[2]
            found = moments[f"momentum0/{owner}"] / (np.float32(1) - np.float32(0.9))
            bound = max(ONE_STEP, ROUNDING * float(expected[f"rounding/sgd.momentum/{owner}"]))
            assert np.linalg.norm(found - slot) <= bound * np.linalg.norm(slot), name


def check_inference_model(folder: Path, form: str, given: str) -> None:
    """It runs in stock onnxruntime, and its frozen constants are those that were exported."""
    written = onnx.load(str(folder / f"{form}inference.onnx"))
    exported = models_of(folder / "bundle")[f"{form}eval_model"]
    assert constants(exported).items() <= constants(written).items()
    session = onnxruntime.InferenceSession(written.SerializeToString())
    (name,) = (value.name for value in session.get_inputs())
    (logits,) = session.run(["output"], {name: np.load(folder / "expected.npz")[given]})
    np.testing.assert_allclose(logits, np.load(folder / f"{form}logits.npy"), rtol=0, atol=1e-4)


def constants(model: onnx.ModelProto) -> dict[str, bytes]:
    """The larger constants by name: not those that only the loss reads."""
    graphs = [model.graph, *(a.g for node in model.graph.node for a in node.attribute)]
    tensors = [tensor for graph in graphs for tensor in graph.initializer]
    return {t.name: numpy_helper.to_array(t).tobytes() for t in tensors if np.prod(t.dims) > 8}


@needs_training_env
@pytest.mark.slow
def test_its_own_builder_refuses_hard_swish(tmp_path: Path) -> None:
    """What `test_official_api_trains_it` trains; MobileNetV2 in the same way it does build."""
    for case, builds in ((HARD_SWISH, False), (replace(Case(), weights="none"), True)):
        folder = tmp_path / str(case)
        forward, names = write_forward_model(case.transfer("ft-blocks"), case.resolution, folder)
        result = run_in_training_env(OFFICIAL / "generate.py", forward, folder, names)
        assert (result.returncode == 0) == builds, result.stderr[-2000:]
        if not builds:
            assert "HardSwish" in result.stderr or "HardSigmoid" in result.stderr, result.stderr
