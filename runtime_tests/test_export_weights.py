"""Weights from every source, and each way a file can be wrong."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mobiletl.core.backbones import FAMILIES, Family, find_backbone
from mobiletl.core.errors import (
    BadWeights,
    MobileTLError,
    NoNetwork,
    NoSpace,
    UnsupportedModel,
    UsageError,
)
from mobiletl.core.mobilenetv2 import MobileNetV2
from mobiletl.export import weights
from mobiletl.export.weight_download import IMAGENET, PublishedFile, cache_folder, fetch
from mobiletl.export.weight_names import under_our_names
from mobiletl.export.weights import load_weights
from runtime_tests.shared_files import shared

WIDTH = 0.1
MODEL = "mbv2-0.1"

# Written out by hand from timm's and torchvision's published files, one row per kind of layer.
TIMM_AND_TORCHVISION = (
    ("conv_stem.weight", "features.0.0.weight"),
    ("bn1.running_mean", "features.0.1.running_mean"),
    ("blocks.0.0.conv_dw.weight", "features.1.conv.0.0.weight"),
    ("blocks.0.0.bn1.bias", "features.1.conv.0.1.bias"),
    ("blocks.0.0.conv_pw.weight", "features.1.conv.1.weight"),
    ("blocks.0.0.bn2.running_var", "features.1.conv.2.running_var"),
    ("blocks.1.0.conv_pw.weight", "features.2.conv.0.0.weight"),
    ("blocks.1.1.conv_dw.weight", "features.3.conv.1.0.weight"),
    ("blocks.2.2.bn2.weight", "features.6.conv.1.1.weight"),
    ("blocks.3.3.conv_pwl.weight", "features.10.conv.2.weight"),
    ("blocks.4.0.bn1.bias", "features.11.conv.0.1.bias"),
    ("blocks.5.2.bn3.bias", "features.16.conv.3.bias"),
    ("blocks.6.0.conv_pwl.weight", "features.17.conv.2.weight"),
    ("conv_head.weight", "features.18.0.weight"),
    ("bn2.weight", "features.18.1.weight"),
    ("classifier.bias", "classifier.1.bias"),
)


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


def test_timm_names_one_by_one() -> None:
    tensors = {theirs: torch.tensor(float(i)) for i, (theirs, _) in enumerate(TIMM_AND_TORCHVISION)}
    renamed = under_our_names(tensors, "mbv2")
    assert renamed == {ours: tensors[theirs] for theirs, ours in TIMM_AND_TORCHVISION}


def test_timm_pth(tmp_path: Path) -> None:
    tensors = state()
    layers = {ours: theirs for theirs, ours in timm_layers().items()}
    renamed = {}
    for key, tensor in tensors.items():
        layer, _, leaf = key.rpartition(".")
        renamed[f"{layers[layer]}.{leaf}"] = tensor
    torch.save(renamed, tmp_path / "w.pth")
    assert_loads_as(tmp_path / "w.pth", tensors)


def timm_layers() -> dict[str, str]:
    """timm's layer -> torchvision's, spelled out block by block: stages of 1 2 3 4 3 3 1."""
    stages = [(s, r) for s, repeats in enumerate((1, 2, 3, 4, 3, 3, 1)) for r in range(repeats)]
    names = {"conv_stem": "features.0.0", "bn1": "features.0.1", "classifier": "classifier.1"}
    names |= {"conv_head": "features.18.0", "bn2": "features.18.1"}
    first = ["conv_dw:conv.0.0", "bn1:conv.0.1", "conv_pw:conv.1", "bn2:conv.2"]
    others = ["conv_pw:conv.0.0", "bn1:conv.0.1", "conv_dw:conv.1.0", "bn2:conv.1.1"]
    others += ["conv_pwl:conv.2", "bn3:conv.3"]
    for index, (stage, repeat) in enumerate(stages, start=1):
        for pair in first if index == 1 else others:
            theirs, ours = pair.split(":")
            names[f"blocks.{stage}.{repeat}.{theirs}"] = f"features.{index}.{ours}"
    return names


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


class Quiet(SimpleHTTPRequestHandler):
    """Serves the current test's folder and counts what it was asked for."""

    asked: list[str]

    def log_message(self, format: str, *args: object) -> None:
        self.asked.append(self.path)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path, list[str]]]:
    """A web server on this machine: its address, the folder it serves, the paths asked for."""
    folder, asked = tmp_path / "site", list[str]()
    folder.mkdir()
    monkeypatch.setenv("no_proxy", "*")

    class Handler(Quiet):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

    Handler.asked = asked
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder, asked
        server.shutdown()
        thread.join()


def published(address: str, content: bytes) -> PublishedFile:
    """The published file `w.pth` whose name would carry the hash of `content`."""
    return PublishedFile(f"{address}/w.pth", hashlib.sha256(content).hexdigest()[:8])


def test_download_is_kept_and_asked_for_once(
    tmp_path: Path, site: tuple[str, Path, list[str]]
) -> None:
    address, folder, asked = site
    (folder / "w.pth").write_bytes(b"weights")
    for _ in range(2):
        path = fetch(published(address, b"weights"), tmp_path / "a" / "b")
        assert path.read_bytes() == b"weights"
    assert len(asked) == 1
    assert list((tmp_path / "a" / "b").iterdir()) == [path]


def test_damaged_cache_is_downloaded_again(
    tmp_path: Path, site: tuple[str, Path, list[str]]
) -> None:
    address, folder, _ = site
    (folder / "w.pth").write_bytes(b"weights")
    (tmp_path / "w.pth").write_bytes(b"weig")
    assert fetch(published(address, b"weights"), tmp_path).read_bytes() == b"weights"


def test_download_with_another_hash_is_refused_and_not_kept(
    tmp_path: Path, site: tuple[str, Path, list[str]]
) -> None:
    address, folder, _ = site
    (folder / "w.pth").write_bytes(b"a login page")
    with pytest.raises(BadWeights, match="the 12 bytes that came have SHA-256"):
        fetch(published(address, b"weights"), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_missing_page_names_the_alternatives(
    tmp_path: Path, site: tuple[str, Path, list[str]]
) -> None:
    with pytest.raises(NoNetwork) as caught:
        fetch(published(site[0], b"weights"), tmp_path)
    assert "(File not found)" in str(caught.value)
    assert "--weights demo, --weights none or --weights PATH" in str(caught.value)


def test_download_that_cannot_be_kept(tmp_path: Path, site: tuple[str, Path, list[str]]) -> None:
    address, folder, _ = site
    (folder / "w.pth").write_bytes(b"weights")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "w.pth").mkdir()
    with pytest.raises(NoSpace, match="XDG_CACHE_HOME"):
        fetch(published(address, b"weights"), tmp_path / "cache")


def test_imagenet_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")
    # The discard port: nothing listens there.
    unreachable = {"mbv2": PublishedFile("http://127.0.0.1:9/w.pth", "00")}
    monkeypatch.setattr(weights, "IMAGENET", unreachable)
    with pytest.raises(NoNetwork) as caught:
        load_weights("imagenet", "mbv2")
    message = str(caught.value)
    assert "\n" not in message
    assert "--weights demo, --weights none or --weights PATH" in message


def test_imagenet_takes_the_cached_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: tuple[str, Path, list[str]]
) -> None:
    address, folder, _ = site
    network = MobileNetV2(3)
    torch.save(network.state_dict(), folder / "w.pth")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    content = (folder / "w.pth").read_bytes()
    monkeypatch.setattr(weights, "IMAGENET", {"mbv2": published(address, content)})
    loaded = load_weights("imagenet", "mbv2")
    assert loaded is not None
    assert torch.equal(loaded["features.18.0.weight"], network.state_dict()["features.18.0.weight"])
    assert (tmp_path / "mobiletl" / "w.pth").is_file()


@pytest.mark.parametrize("model", IMAGENET)
def test_published_names_carry_their_own_hash(model: str) -> None:
    row = IMAGENET[model]
    assert row.name.endswith(f"-{row.sha256_prefix}.pth")
    assert find_backbone(model).width == 1.0


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


def test_timm_file_of_mobilenetv3_is_refused_by_its_keys(tmp_path: Path) -> None:
    tensors = {"conv_stem.weight": torch.zeros(16, 3, 3, 3), "bn1.weight": torch.zeros(16)}
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(BadWeights) as caught:
        load_weights(str(tmp_path / "w.safetensors"), "mbv3-small")
    message = str(caught.value)
    assert "not the weights of mbv3-small under names we know: these are timm's: " in message
    assert "missing (features.0.0.weight, features.0.1.weight, " in message
    assert "2 unexpected (bn1.weight, conv_stem.weight)" in message


# Read off the authors' published file: (their layer, ours).
AUTHORS_PROXYLESS = (
    ("first_conv.conv.weight", "features.0.0.weight"),
    ("first_conv.bn.bias", "features.0.1.bias"),
    ("blocks.0.mobile_inverted_conv.depth_conv.conv.weight", "features.1.conv.0.0.weight"),
    ("blocks.0.mobile_inverted_conv.point_linear.conv.weight", "features.1.conv.1.weight"),
    ("blocks.2.mobile_inverted_conv.inverted_bottleneck.bn.weight", "features.3.conv.0.1.weight"),
    ("blocks.5.mobile_inverted_conv.depth_conv.bn.running_var", "features.4.conv.1.1.running_var"),
    ("blocks.21.mobile_inverted_conv.point_linear.bn.bias", "features.20.conv.3.bias"),
    ("feature_mix_layer.conv.weight", "features.21.0.weight"),
    ("classifier.linear.bias", "classifier.1.bias"),
)


def test_names_of_the_proxyless_authors() -> None:
    tensors = {theirs: torch.tensor(float(i)) for i, (theirs, _) in enumerate(AUTHORS_PROXYLESS)}
    renamed = under_our_names(tensors, "proxyless")
    assert renamed == {ours: tensors[theirs] for theirs, ours in AUTHORS_PROXYLESS}
    assert under_our_names(tensors, "mbv2") == tensors


def test_cache_folder_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == tmp_path / ".cache" / "mobiletl"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    assert cache_folder() == tmp_path / "elsewhere" / "mobiletl"


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
