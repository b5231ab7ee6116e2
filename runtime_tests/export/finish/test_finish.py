"""`mobiletl finish`: every format predicts what the board predicts.

The board's side is its own session over features.onnx and predict.onnx, with a state that its own
code trained and wrote.
"""

from __future__ import annotations

import importlib.util
import io
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import version_converter
from onnx.reference import ReferenceEvaluator
from safetensors import safe_open
from safetensors.torch import load_file

from mobiletl.core.backbones import find_backbone
from mobiletl.core.errors import BadWeights, MissingDependency, UsageError
from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.state_file import StateInfo, save_state
from mobiletl.device.errors import BadPictures
from mobiletl.device.sessions import onnxruntime as session_onnxruntime
from mobiletl.export.finish.finish import Order, finish
from mobiletl.export.finish.formats import FORMATS, find_format
from mobiletl.export.pictures import picture_files, prepared
from mobiletl.export.weights.loading import load_weights
from runtime_tests.support.exported_bundles import Case, exported, invented_pictures

# The bar: logits of order 1.
TOLERANCE = 1e-4
CLASSES = ("cat", "dog", "zèbre")
BACKBONE = (
    *(Case("mobiletl", 3), Case("ft-blocks", 2), Case("ft-last", None)),
    *(Case("ft-all", None), Case("ft-bn", None), Case("ft-bias", None)),
)
WITH_MORE_LAYERS = (Case("tinytl-lb", None), Case("repnet", None), Case("da3", None))
CASES = BACKBONE + WITH_MORE_LAYERS
# Trained blocks with masks, and a last layer. The rest takes 10 to 30 s each to export.
FAST = (CASES[0], CASES[2])
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Trained:
    """A bundle, a state that was trained on it, pictures and the board's logits for them."""

    case: Case
    bundle: Path
    state: Path
    images: Floats
    logits: Floats

    def order(self, to: str, out: Path, **more: Any) -> Order:
        return Order(self.bundle, self.state, to, out=out, **more)


def in_tiers(cases: Sequence[Case]) -> list[Any]:
    return [
        pytest.param(case, id=str(case), marks=[] if case in FAST else [pytest.mark.slow])
        for case in cases
    ]


@pytest.fixture(scope="module", params=in_tiers(CASES))
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(request.param, tmp_path_factory)


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(CASES[0], tmp_path_factory)


def train(case: Case, factory: pytest.TempPathFactory) -> Trained:
    """A few steps with a large rate, so that every trained tensor has moved from its start."""
    folder = exported(factory, case)
    bundle = open_bundle(folder)
    state = bundle.initial_state(len(CLASSES), 0)
    images = invented_pictures(12, case.resolution)
    path = factory.mktemp("run") / "state.safetensors"
    with session_onnxruntime.open_session(bundle, len(CLASSES), state, threads=1) as session:
        h = session.features(images)
        for _ in range(20):
            session.train_step(h, np.arange(12) % 3, 0.05)
        info = StateInfo(bundle.manifest.fit, CLASSES, epoch=1, step=20, seed=0)
        save_state(path, session.state(), info)
        logits = session.predict(h)
    assert np.ptp(logits) > 0.5
    return Trained(case, folder, path, images, logits)


def run_onnx(path: Path, images: Floats) -> Floats:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"images": images})
    return np.asarray(logits, np.float32)


def load_torchscript(path: Path, extra: dict[str, Any]) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.load", DeprecationWarning)
        return torch.jit.load(io.BytesIO(path.read_bytes()), _extra_files=extra)


def check_facts(content: str, trained: Trained) -> None:
    facts = json.loads(content)
    manifest = json.loads((trained.bundle / "manifest.json").read_text("utf-8"))
    assert tuple(facts["classes"]) == CLASSES
    assert {key: facts["input"][key] for key in manifest["input"]} == manifest["input"]
    assert facts["bundle"] == manifest["id"]


def test_onnx_predicts_as_the_board(trained: Trained, tmp_path: Path) -> None:
    result = finish(trained.order("onnx", tmp_path / "pets.onnx"))
    assert result.difference <= TOLERANCE
    assert {path.name for path in tmp_path.iterdir()} == {"pets.onnx", "pets.labels.txt"}
    assert (tmp_path / "pets.labels.txt").read_text("utf-8").splitlines() == list(CLASSES)
    for count in (12, 1):
        logits = run_onnx(tmp_path / "pets.onnx", trained.images[:count])
        np.testing.assert_allclose(logits, trained.logits[:count], atol=TOLERANCE, rtol=0)
    model = onnx.load(tmp_path / "pets.onnx")
    assert [value.name for value in model.graph.output] == ["logits"]
    assert model.opset_import[0].version == 13
    assert "ReduceMean" not in {node.op_type for node in model.graph.node}
    if trained.case in BACKBONE:
        assert {node.op_type for node in model.graph.node}.isdisjoint({"BatchNormalization", "Sub"})
    check_facts({p.key: p.value for p in model.metadata_props}["mobiletl"], trained)


def test_onnx_predicts_as_the_board_in_opencv(masked: Trained, tmp_path: Path) -> None:
    """A reader with code of its own; it takes `ReduceMean` otherwise than it is meant."""
    cv2 = pytest.importorskip("cv2")
    finish(masked.order("onnx", tmp_path / "pets.onnx", softmax=True))
    network = cv2.dnn.readNetFromONNX(str(tmp_path / "pets.onnx"))
    for image, logits in zip(masked.images, masked.logits, strict=True):
        network.setInput(image[None])
        (found,) = network.forward("probabilities")
        shares = np.exp(logits - logits.max())
        np.testing.assert_allclose(found, shares / shares.sum(), atol=TOLERANCE)


def test_what_is_for_onnx_only_is_refused_elsewhere(masked: Trained, tmp_path: Path) -> None:
    order = masked.order("torchscript", tmp_path / "pets.ts", softmax=True, opset=13)
    with pytest.raises(UsageError, match="--opset, --softmax: only for --to onnx"):
        finish(order)
    (tmp_path / "pets.labels.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"pets\.labels\.txt exists"):
        finish(masked.order("onnx", tmp_path / "pets.onnx"))
    assert [path.name for path in tmp_path.iterdir()] == ["pets.labels.txt"]


@pytest.mark.slow
def test_torchscript_predicts_as_the_board(trained: Trained, tmp_path: Path) -> None:
    finish(trained.order("torchscript", tmp_path / "pets.ts"))
    extra: dict[str, Any] = {"mobiletl.json": ""}
    program = load_torchscript(tmp_path / "pets.ts", extra)
    for count in (12, 1):
        logits = program(torch.from_numpy(trained.images[:count])).numpy()
        np.testing.assert_allclose(logits, trained.logits[:count], atol=TOLERANCE, rtol=0)
    check_facts(extra["mobiletl.json"], trained)


@pytest.mark.parametrize("weights", [None, "demo"])
def test_torchvision_weights_fit_the_network(
    trained: Trained, weights: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "pets.safetensors"
    if trained.case in WITH_MORE_LAYERS:
        with pytest.raises(UsageError, match=f"{trained.case.method} has put layers beside"):
            finish(trained.order("torchvision", path, weights=weights))
        assert not path.exists()
        return
    finish(trained.order("torchvision", path, weights=weights))
    network = find_backbone("mbv2-0.35").build(len(CLASSES))
    network.load_state_dict(load_file(path), strict=True)
    with torch.no_grad():
        logits = network.eval()(torch.from_numpy(trained.images)).numpy()
    np.testing.assert_allclose(logits, trained.logits, atol=TOLERANCE, rtol=0)
    with safe_open(str(path), framework="np") as file:
        check_facts(file.metadata()["mobiletl"], trained)


def test_with_weights_frozen_layers_are_the_original_ones(masked: Trained, tmp_path: Path) -> None:
    original = load_weights("demo", "mbv2-0.35")
    assert original is not None
    found = {}
    for weights in (None, "demo"):
        path = tmp_path / f"{weights}.safetensors"
        finish(masked.order("torchvision", path, weights=weights))
        found[weights] = load_file(path)
    for key in ("features.2.conv.0.0.weight", "features.2.conv.0.1.running_var"):
        assert torch.equal(found["demo"][key], original[key])
        assert not torch.equal(found[None][key], original[key])
    # A norm whose shift alone was trained: its statistics are the original's, its shift is not.
    assert torch.equal(
        found["demo"]["features.18.1.running_mean"], original["features.18.1.running_mean"]
    )
    assert not torch.equal(found["demo"]["features.18.1.bias"], original["features.18.1.bias"])


def test_weights_that_are_not_the_bundles_are_refused(masked: Trained, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    other = load_weights("demo", "mbv2-0.35")
    assert other is not None
    other["features.1.conv.1.weight"] += 0.01
    save_file(other, tmp_path / "other.safetensors")
    order = masked.order(
        "torchvision", tmp_path / "out.safetensors", weights=str(tmp_path / "other.safetensors")
    )
    with pytest.raises(BadWeights, match=r"features\.1\.conv\.1 does not fold to what"):
        finish(order)
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("executorch") is None, reason="needs executorch")
@pytest.mark.filterwarnings("ignore")  # of the libraries that executorch loads
def test_executorch_predicts_as_the_board(trained: Trained, tmp_path: Path) -> None:
    from executorch.runtime import Runtime

    finish(trained.order("executorch", tmp_path / "pets.pte"))
    check_facts((tmp_path / "pets.json").read_text("utf-8"), trained)
    method = Runtime.get().load_program(tmp_path / "pets.pte").load_method("forward")
    for image, wanted in zip(trained.images, trained.logits, strict=True):
        (logits,) = method.execute([torch.from_numpy(image[None])])
        np.testing.assert_allclose(logits[0].numpy(), wanted, atol=TOLERANCE, rtol=0)


@pytest.fixture
def picture_folder(masked: Trained, tmp_path: Path) -> Path:
    """The same pictures as files, and one that is none."""
    from PIL import Image

    folder = tmp_path / "photos" / "cat"
    folder.mkdir(parents=True)
    size = open_bundle(masked.bundle).manifest.input
    for index, image in enumerate(masked.images):
        pixels = image.transpose(1, 2, 0) * size.std + size.mean
        content = (pixels.clip(0, 1) * 255).round().astype(np.uint8)
        Image.fromarray(content).save(folder / f"{index:02d}.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    return tmp_path / "photos"


def run_reference(path: Path, images: Floats) -> Floats:
    """What onnx's own evaluator in NumPy makes of it; it has 8-bit operators from opset 19 on."""
    model = version_converter.convert_version(onnx.load(path), 19)
    (logits,) = ReferenceEvaluator(model).run(None, {"images": images})
    return np.asarray(logits, np.float32)


def clear_labels_agree(masked: Trained, logits: Floats) -> bool:
    """Noise lies near borders between classes; docs/finish.md has photographs."""
    margin = np.sort(masked.logits)[:, -1] - np.sort(masked.logits)[:, -2]
    clear = margin > 0.2
    assert clear.sum() >= 6
    return bool((logits.argmax(1) == masked.logits.argmax(1))[clear].all())


# A bar that every picture holds, and one that none does: what is tried first, and last.
@pytest.mark.parametrize(
    ("aim", "activations"), [(1.0, True), pytest.param(-1.0, False, marks=pytest.mark.slow)]
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inside onnxruntime's quantizer
def test_int8_with_pictures_goes_as_far_as_labels_stay(
    aim: float,
    activations: bool,
    masked: Trained,
    picture_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mobiletl.export.finish.int8._AIM", aim)
    monkeypatch.setattr("mobiletl.export.finish.int8.BAR", aim)
    result = finish(masked.order("onnx", tmp_path / "pets.onnx", int8=True, data=picture_folder))
    model = onnx.load(tmp_path / "pets.onnx")
    check_facts({p.key: p.value for p in model.metadata_props}["mobiletl"], masked)
    convs = sum(node.op_type == "Conv" for node in model.graph.node)
    assert ("QuantizeLinear" in {n.op_type for n in model.graph.node}) == activations
    assert (f"the last {convs} of {convs} convolutions" in result.summary) == activations
    assert ("ABOVE THE" in result.summary) != activations
    # Every other picture calibrates; the rest is what the summary speaks of.
    finish(masked.order("onnx", tmp_path / "float.onnx"))
    size = open_bundle(masked.bundle).manifest.input
    held_out = np.concatenate(prepared(picture_files(picture_folder), size).images[1::2])
    labels = [run_onnx(tmp_path / f"{n}.onnx", held_out).argmax(1) for n in ("float", "pets")]
    changed = int((labels[0] != labels[1]).sum())
    assert result.summary.startswith(f"int8: {changed} of 6 pictures not calibrated on")
    # In exact integers: products of 8 bits saturate on x86 processors that have AVX2 and no VNNI
    # (docs/finish.md), and a label there says nothing about the file.
    assert clear_labels_agree(masked, run_reference(tmp_path / "pets.onnx", masked.images))


def test_int8_without_pictures_stores_small_weights(masked: Trained, tmp_path: Path) -> None:
    finish(masked.order("onnx", tmp_path / "float.onnx"))
    result = finish(masked.order("onnx", tmp_path / "pets.onnx", int8=True))
    assert "without pictures (--data) nobody knows" in result.summary
    model = onnx.load(tmp_path / "pets.onnx")
    check_facts({p.key: p.value for p in model.metadata_props}["mobiletl"], masked)
    types = {t.name: t.data_type for t in model.graph.initializer if len(t.dims) == 4}
    weights = {t.name: int(np.prod(t.dims)) for t in model.graph.initializer if t.name in types}
    small = [name for name, kind in types.items() if kind == onnx.TensorProto.INT8]
    assert len(small) >= 15
    assert sum(weights[name] for name in small) > 0.85 * sum(weights.values())
    before, after = ((tmp_path / name).stat().st_size for name in ("float.onnx", "pets.onnx"))
    assert after < 0.5 * before
    assert clear_labels_agree(masked, run_onnx(tmp_path / "pets.onnx", masked.images))


def test_int8_wants_two_readable_pictures(
    masked: Trained, picture_folder: Path, tmp_path: Path
) -> None:
    for path in picture_folder.rglob("*.png"):
        if path.name != "00.png":
            path.unlink()
    with pytest.raises(BadPictures, match="one readable picture, expected two or more"):
        finish(masked.order("onnx", tmp_path / "pets.onnx", int8=True, data=picture_folder))
    assert not (tmp_path / "pets.onnx").exists()


def test_same_state_same_bytes(masked: Trained, tmp_path: Path) -> None:
    for name in ("one", "two"):
        finish(masked.order("onnx", tmp_path / f"{name}.onnx"))
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()


def test_without_a_name_the_file_is_named_after_the_state(masked: Trained, tmp_path: Path) -> None:
    copied = tmp_path / "state.safetensors"
    copied.write_bytes(masked.state.read_bytes())
    order = Order(masked.bundle, copied, "torchvision")
    assert [p.name for p in finish(order).files] == ["state-torchvision.safetensors"]
    assert [p.name for p in finish(replace(order, to="onnx")).files] == [
        "state.onnx",
        "state.labels.txt",
    ]


def test_formats_are_found_by_name() -> None:
    for row in FORMATS:
        if not row.package or importlib.util.find_spec(row.package):
            assert find_format(row.name, int8=False) is row
    with pytest.raises(UsageError, match="expected one of onnx, executorch, torchscript"):
        find_format("tflite", int8=False)
    with pytest.raises(
        UsageError, match="--int8 does not go with --to torchscript, only with onnx"
    ):
        find_format("torchscript", int8=True)


def test_a_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(MissingDependency, match=r"pip install .mobiletl\[executorch\]"):
        find_format("executorch", int8=False)
