"""Weights from every source, and each way a file can be wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mobiletl.core.backbones import FAMILIES, Family, find_backbone
from mobiletl.core.backbones.mobilenetv2 import MobileNetV2
from mobiletl.core.errors import (
    BadWeights,
    MobileTLError,
    UnsupportedModel,
    UsageError,
)
from mobiletl.export.weights import loading as weights
from mobiletl.export.weights.loading import load_weights
from runtime_tests.support.board.shared_files import shared

WIDTH = 0.1
MODEL = "mbv2-0.1"


def state(classes: int = 5) -> dict[str, Tensor]:
    """The state of a small network whose statistics are not the ones norms start with."""
    torch.manual_seed(0)
    network = MobileNetV2(classes, WIDTH)
    for name, buffer in network.named_buffers():
        if not name.endswith("num_batches_tracked"):
            buffer.uniform_(0.5, 1.5)
    return dict(network.state_dict())


def assert_loads_as(path: Path, expected: dict[str, Tensor]) -> None:
    """Every tensor but the classifier's arrives unchanged, and the network takes all of it."""
    loaded = load_weights(str(path), MODEL)
    assert loaded is not None
    kept = {key for key in expected if not key.startswith("classifier.")}
    assert loaded.keys() == kept
    assert all(torch.equal(loaded[key], expected[key].to(loaded[key].dtype)) for key in kept)
    missing, unexpected = MobileNetV2(7, WIDTH).load_state_dict(loaded, strict=False)
    assert set(missing) == {"classifier.1.weight", "classifier.1.bias"}
    assert unexpected == []


def refusal(path: Path) -> str:
    """The one-line message with which a file is refused."""
    with pytest.raises(BadWeights) as caught:
        load_weights(str(path), MODEL)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


def test_none_leaves_the_network_as_it_starts() -> None:
    assert load_weights("none", MODEL) is None


@pytest.mark.parametrize("classes", [2, 1000])
def test_safetensors_with_any_classifier(tmp_path: Path, classes: int) -> None:
    tensors = state(classes)
    save_file(tensors, tmp_path / "w.safetensors")
    assert_loads_as(tmp_path / "w.safetensors", tensors)


def test_file_without_classifier_and_counters(tmp_path: Path) -> None:
    tensors = {
        key: tensor
        for key, tensor in state().items()
        if not key.startswith("classifier.") and not key.endswith("num_batches_tracked")
    }
    save_file(tensors, tmp_path / "w.safetensors")
    assert_loads_as(tmp_path / "w.safetensors", state())


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    halves = {key: t.half() if t.is_floating_point() else t for key, t in state().items()}
    save_file(halves, tmp_path / "w.safetensors")
    loaded = load_weights(str(tmp_path / "w.safetensors"), MODEL)
    assert loaded is not None
    assert loaded["features.0.0.weight"].dtype == torch.float32
    assert torch.equal(loaded["features.0.0.weight"], halves["features.0.0.weight"].float())


@pytest.mark.parametrize(
    "wrap",
    [
        dict,
        lambda tensors: {"state_dict": tensors, "epoch": 3, "arch": "mobilenet_v2"},
        lambda tensors: {"model": tensors},
        lambda tensors: {f"module.{key}": t for key, t in tensors.items()},
        lambda tensors: {"state_dict": {f"module.{key}": t for key, t in tensors.items()}},
    ],
    ids=["plain", "state_dict", "model", "parallel", "both"],
)
def test_torchvision_pth(tmp_path: Path, wrap: Callable[[dict[str, Tensor]], Any]) -> None:
    torch.save(wrap(state()), tmp_path / "w.pth")
    assert_loads_as(tmp_path / "w.pth", state())


def test_pth_of_the_oldest_format(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    assert_loads_as(tmp_path / "w.pth", state())


def test_wrong_keys_are_counted_and_named(tmp_path: Path) -> None:
    tensors = state()
    del tensors["features.1.conv.1.weight"]
    for index in range(2, 6):
        del tensors[f"features.{index}.conv.3.bias"]
    tensors["fc.weight"] = torch.zeros(2)
    save_file(tensors, tmp_path / "w.safetensors")
    message = refusal(tmp_path / "w.safetensors")
    assert "5 missing (features.1.conv.1.weight, features.2.conv.3.bias, " in message
    assert "1 unexpected (fc.weight)" in message


def test_wrong_shapes_are_counted_and_named(tmp_path: Path) -> None:
    tensors = state()
    tensors["features.0.0.weight"] = torch.zeros(8, 3, 5, 5)
    save_file(tensors, tmp_path / "w.safetensors")
    message = refusal(tmp_path / "w.safetensors")
    assert "1 of another shape (features.0.0.weight [8, 3, 5, 5], expected [8, 3, 3, 3])" in message


def test_weights_of_another_width(tmp_path: Path) -> None:
    save_file(dict(MobileNetV2(2, 0.35).state_dict()), tmp_path / "w.safetensors")
    message = refusal(tmp_path / "w.safetensors")
    assert "of another shape (features.0.0.weight [16, 3, 3, 3], expected [8, 3, 3, 3]" in message


@pytest.mark.parametrize(
    ("key", "change", "reason"),
    [
        ("features.0.0.weight", lambda t: t.fill_(float("nan")), "holds NaN or infinity"),
        ("features.0.1.bias", lambda t: t.fill_(float("inf")), "holds NaN or infinity"),
        ("features.0.1.weight", lambda t: t.double() * 1e300, "holds NaN or infinity"),
        ("features.0.1.running_var", lambda t: -t, "holds a negative variance"),
        ("features.0.0.weight", lambda t: t.to(torch.int8), "is torch.int8, expected dense float"),
    ],
)
def test_unusable_values(
    tmp_path: Path, key: str, change: Callable[[Tensor], Tensor], reason: str
) -> None:
    tensors = state()
    tensors[key] = change(tensors[key])
    save_file(tensors, tmp_path / "w.safetensors")
    assert f"1 unusable ({key} {reason}" in refusal(tmp_path / "w.safetensors")


class Malicious:
    """Runs a command when unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_does_not_run(tmp_path: Path, zipped: bool) -> None:
    content = {"features.0.0.weight": torch.zeros(2), "x": Malicious(tmp_path / "ran")}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    assert "not a readable weights file" in refusal(tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"\x80", b"not weights", b"PK\x03\x04" + b"\0" * 90])
def test_malformed_files(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert "not a readable weights file" in refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_truncated_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "w.pth":
        torch.save(state(), path)
    else:
        save_file(state(), path)
    path.write_bytes(path.read_bytes()[:-1000])
    assert "not a readable weights file" in refusal(path)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {1: torch.zeros(1)}, torch.zeros(3), None])
def test_pth_that_holds_something_else(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pth")
    assert "expected tensors by name" in refusal(tmp_path / "w.pth")


def test_unknown_suffix_and_missing_file(tmp_path: Path) -> None:
    (tmp_path / "w.h5").write_bytes(b"\x89HDF")
    assert "expected .safetensors or .pth" in refusal(tmp_path / "w.h5")
    assert "imagenet, demo, none or a path" in refusal(tmp_path / "imagnet")


def test_unknown_model() -> None:
    with pytest.raises(UnsupportedModel, match="mbv2-WIDTH"):
        load_weights("none", "resnet18")


@pytest.mark.parametrize(
    ("source", "model"),
    [
        *(("imagenet", "mbv2-0.35"), ("imagenet", "proxyless"), ("imagenet", "mcunet-5fps")),
        *(("demo", "mbv2"), ("demo", "mbv3-small-0.35")),
    ],
)
def test_named_weights_are_of_one_network(source: str, model: str) -> None:
    with pytest.raises(UsageError, match=f"--weights {source} is for --model mbv2.*not {model}"):
        load_weights(source, model)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_backbone_reads_back_what_it_saves(tmp_path: Path, family: Family) -> None:
    torch.manual_seed(0)
    network = family.build(7, 0.35 if family.has_widths else 1.0)
    save_file(dict(network.state_dict()), tmp_path / "w.safetensors")
    name = f"{family.name}-0.35" if family.has_widths else family.name
    loaded = load_weights(str(tmp_path / "w.safetensors"), name)
    assert loaded is not None
    missing, unexpected = find_backbone(name).build(3).load_state_dict(loaded, strict=False)
    assert missing == [f"{network.classes_layer}.weight", f"{network.classes_layer}.bias"]
    assert unexpected == []
    kept = {key: tensor for key, tensor in network.state_dict().items() if key not in missing}
    assert all(torch.equal(loaded[key], tensor) for key, tensor in kept.items())


def test_hidden_linear_layer_of_mobilenetv3_is_kept() -> None:
    with torch.device("meta"):
        keys = find_backbone("mbv3-small").build(5).state_dict().keys()
    assert {key for key in keys if key.startswith("classifier.")} == {
        f"classifier.{layer}.{leaf}" for layer in (0, 3) for leaf in ("weight", "bias")
    }


def test_embedded_weights_fit_and_are_small() -> None:
    loaded = load_weights("demo", "mbv2-0.35")
    assert loaded is not None
    missing, _ = MobileNetV2(10, 0.35).load_state_dict(loaded, strict=False)
    assert set(missing) == {"classifier.1.weight", "classifier.1.bias"}
    # Trained: a norm's statistics start at 0 and 1.
    assert loaded["features.18.1.running_mean"].abs().max() > 0
    assert weights.EMBEDDED.stat().st_size <= 2_000_000


def test_real_imagenet_weights_of_width_one() -> None:
    path = shared("weights/mobilenet_v2-imagenet.safetensors")
    loaded = load_weights(str(path), "mbv2")
    assert loaded is not None
    network = MobileNetV2(10)
    missing, _ = network.load_state_dict(loaded, strict=False)
    assert set(missing) == {"classifier.1.weight", "classifier.1.bias"}


def test_real_weights_of_mcunet() -> None:
    path = shared("weights/mcunet-5fps-imagenet.safetensors")
    loaded = load_weights(str(path), "mcunet-5fps")
    assert loaded is not None
    missing, _ = find_backbone("mcunet-5fps").build(10).load_state_dict(loaded, strict=False)
    assert set(missing) == {"classifier.1.weight", "classifier.1.bias"}


def test_real_weights_without_a_head_are_refused_by_name() -> None:
    path = shared("weights/mbv2-w0.35-imagenet.safetensors")
    with pytest.raises(BadWeights, match=r"5 missing \(features\.18\.0\.weight, "):
        load_weights(str(path), "mbv2-0.35")


def test_every_host_error_has_an_exit_code_of_its_own() -> None:
    kinds = MobileTLError.__subclasses__()
    codes = [kind.exit_code for kind in kinds]
    assert len(set(codes)) == len(codes)
    assert not {0, 1, 130} & set(codes)
