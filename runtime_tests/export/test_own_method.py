"""A method that this repository does not define, from its file to a finished state."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from mobiletl.core.backbones import find_backbone
from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.state_file import load_state
from mobiletl.device.commands.table import main
from mobiletl.device.sessions.runtimes import open_session
from mobiletl.export.own_network import find_network
from runtime_tests.export.test_methods_on_backbones import trained_looking
from runtime_tests.support.board.shared_files import REPOSITORY
from runtime_tests.support.digits import write_digits
from runtime_tests.support.exported_bundles import invented_pictures

FILE = REPOSITORY / "examples" / "own_method" / "depthwise.py"
DEPTHWISE = f"{FILE}:depthwise"
CLASSES = 3
PICTURES = invented_pictures(2, 64)
GRAPHS = ("features", "train_step", "predict")

Array = NDArray[np.float32]

# ft-bias written once more, with PyTorch alone, and a method that puts its own layers into blocks.
OTHERS = '''
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import fuse_conv_bn_eval

from mobiletl.core.methods import Method, Reach
from mobiletl.core.transfer import fold_norms


class Shift(nn.Module):
    """What is left of a norm when its scale is in the kernel before it."""

    def __init__(self, norm, folded_bias):
        super().__init__()
        self.bias = nn.Parameter(norm.bias.detach().clone())
        self.register_buffer("offset", (norm.bias - folded_bias).detach())


class Row(nn.Sequential):
    def forward(self, x):
        layers = list(self) + [None]
        for layer, after in zip(layers, layers[1:]):
            if isinstance(after, Shift):
                bias = after.bias - after.offset
                x = functional.conv2d(
                    x, layer.weight, bias, layer.stride, layer.padding, 1, layer.groups
                )
            elif layer is not None and not isinstance(layer, Shift):
                x = layer(x)
        return x


def rewrite(module):
    for name, child in list(module.named_children()):
        rewrite(child)
        layers = list(child) if isinstance(child, nn.Sequential) else []
        if not any(isinstance(layer, nn.BatchNorm2d) for layer in layers):
            continue
        for place in range(1, len(layers)):
            if isinstance(layers[place], nn.BatchNorm2d):
                conv, norm = layers[place - 1].eval(), layers[place].eval()
                folded = fuse_conv_bn_eval(conv, norm)
                layers[place] = Shift(norm, folded.bias)
                folded.bias = None
                layers[place - 1] = folded
        setattr(module, name, Row(*layers))


def shifts_and_biases(transfer):
    rewrite(transfer.top.features)
    for name, parameter in transfer.top.named_parameters():
        parameter.requires_grad_(name.endswith("bias"))
    transfer.top.get_submodule(transfer.top.classes_layer).requires_grad_(True)


biases = Method("biases", "ft-bias once more", shifts_and_biases, Reach.NETWORK)


class LowRank(nn.Module):
    """A frozen 1x1 convolution and a trained product of two thin ones beside it."""

    def __init__(self, conv, rank=4):
        super().__init__()
        self.conv = conv
        self.down = nn.Conv2d(conv.in_channels, rank, 1, bias=False)
        self.up = nn.Conv2d(rank, conv.out_channels, 1, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x):
        return self.conv(x) + self.up(self.down(x))


def add_low_rank(transfer):
    top = transfer.top
    fold_norms(top.features.eval())
    top.requires_grad_(False)
    for name in transfer.block_names:
        sequence = top.features[name].conv
        for place, layer in list(sequence.named_children()):
            if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1):
                setattr(sequence, place, LowRank(layer))
                getattr(sequence, place).down.requires_grad_(True)
                getattr(sequence, place).up.requires_grad_(True)
    top.get_submodule(top.classes_layer).requires_grad_(True)


low_rank = Method("low_rank", "LoRA", add_low_rank, Reach.BLOCKS)
'''


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("methods") / "others.py"
    path.write_text(OTHERS, "utf-8")
    return path


def export(out: Path, *flags: str) -> Path:
    assert main(["export", *flags, "--runtimes", "onnxruntime", "--out", str(out)]) == 0
    return out


def test_ft_bias_in_a_file_of_ones_own_is_the_same_step_to_the_byte(
    others: Path, tmp_path: Path
) -> None:
    (tmp_path / "both.py").write_text(BOTH, "utf-8")
    network, weights = f"{tmp_path / 'both.py'}:build", tmp_path / "w.safetensors"
    save_file(dict(trained_looking(find_network(network).family).state_dict()), weights)
    small = ["--model", network, "--weights", str(weights), "--resolution", "64"]
    ours = export(tmp_path / "ours", *small, "--method", "ft-bias")
    theirs = export(tmp_path / "theirs", *small, "--method", f"{others}:biases")
    first, second = (open_bundle(folder).manifest for folder in (ours, theirs))
    for role in GRAPHS:
        a = first.runtimes["onnxruntime"].files[role]
        b = second.runtimes["onnxruntime"].files[role]
        assert (ours / a).read_bytes() == (theirs / b).read_bytes(), role
    assert second.method.name == "others.py:biases"
    assert first.method.trains == second.method.trains
    assert first.memory.train_step == second.memory.train_step


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, others: Path) -> Callable[[str], Path]:
    """Method and flags -> a bundle, exported and trained on digits with what a person types."""
    folder = tmp_path_factory.mktemp("own")
    write_digits(folder / "digits", CLASSES)

    def made(method: str) -> Path:
        place = folder / method.rpartition(":")[2]
        if not place.exists():
            flags = ["--weights", "demo", "--method", method, "--blocks", "1"]
            export(place / "bundle", *flags)
            flags = ["--bundle", str(place / "bundle"), "--data", str(folder / "digits")]
            flags += [
                "--start",
                "random",
                "--no-augment",
                "--threads",
                "1",
                "--lr",
                "0.1",
                "--epochs",
                "6",
            ]
            assert main(["train", *flags, "--out", str(place / "run")]) == 0
        return place

    return made


def test_the_example_trains_what_it_says(trained: Callable[[str], Path]) -> None:
    place = trained(DEPTHWISE)
    manifest = open_bundle(place / "bundle").manifest
    assert (manifest.method.name, manifest.method.blocks) == ("depthwise.py:depthwise", 1)
    parameters = [entry.name for entry in manifest.state if entry.role != "slot"]
    kernel = "features.17.conv.1.0.weight"
    assert parameters == [kernel, "classifier.1.weight", "classifier.1.bias"]
    first = open_bundle(place / "bundle").initial_state(CLASSES, 0)[kernel]
    last = load_file(place / "run/state.safetensors")[kernel].numpy()
    assert first.shape == last.shape == (336, 1, 3, 3)
    assert not np.array_equal(first, last)


def test_its_loss_falls_and_no_folder_is_named(trained: Callable[[str], Path]) -> None:
    place = trained(DEPTHWISE)
    lines = (place / "run/metrics.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert rows[-1]["train_loss"] < 0.65 * rows[0]["val_loss"]
    assert rows[-1]["val_accuracy"] > 0.6
    assert str(REPOSITORY) not in (place / "bundle/manifest.json").read_text("utf-8")


def finish(place: Path, out: Path, *flags: str) -> int:
    """The exit code of `mobiletl finish`."""
    state = str(place / "run" / "state.safetensors")
    given = ["--bundle", str(place / "bundle"), "--state", state, "--out", str(out)]
    return main(["finish", *given, *flags])


def on_board(place: Path) -> Array:
    """The logits that a finished file has: those of the state over its temperature."""
    bundle = open_bundle(place / "bundle")
    state, info = load_state(place / "run/state.safetensors", bundle.manifest)
    temperature = 1.0 if info.answers is None else info.answers.temperature
    with open_session(bundle, CLASSES, state, 1) as session:
        return np.asarray(session.predict(session.features(PICTURES))) / temperature


def in_onnx(path: Path) -> Array:
    logits = onnxruntime.InferenceSession(path).run(["logits"], {"images": PICTURES})[0]
    return np.asarray(logits)


def in_pytorch(path: Path) -> Array:
    network = find_backbone("mbv2-0.35").build(CLASSES)
    network.load_state_dict(load_file(path), strict=True)
    with torch.no_grad():
        return np.asarray(network.eval()(torch.from_numpy(PICTURES)).numpy())


@pytest.mark.parametrize(
    ("to", "flags", "run"),
    [("onnx", [], in_onnx), ("torchvision", ["--weights", "demo"], in_pytorch)],
)
def test_finish_writes_what_the_board_computes(
    to: str,
    flags: list[str],
    run: Callable[[Path], Array],
    trained: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    place = trained(DEPTHWISE)
    out = tmp_path / f"out.{'onnx' if to == 'onnx' else 'safetensors'}"
    assert finish(place, out, "--to", to, "--method", DEPTHWISE, *flags) == 0
    np.testing.assert_allclose(run(out), on_board(place), atol=1e-4, rtol=0)


def test_layers_of_ones_own_are_finished_with_the_frozen_ones_below(
    trained: Callable[[str], Path],
    others: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    method = f"{others}:low_rank"
    place = trained(method)
    assert finish(place, tmp_path / "out.onnx", "--to", "onnx", "--method", method) == 0
    np.testing.assert_allclose(in_onnx(tmp_path / "out.onnx"), on_board(place), atol=1e-4, rtol=0)
    capsys.readouterr()
    for name, *flags in (["o.safetensors", "torchvision"], ["o.onnx", "onnx", "--weights", "demo"]):
        assert finish(place, tmp_path / name, "--to", *flags, "--method", method) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "others.py:low_rank has put layers beside the blocks" in line


@pytest.mark.parametrize(
    ("method", "code", "words"),
    [
        (None, 2, "others.py:low_rank, a method of somebody's own, whose code it does not hold; "),
        ("mobiletl", 2, "expected path/to/others.py:low_rank"),
        ("{others}:biases", 2, "expected path/to/others.py:low_rank"),
        ("nowhere.py:low_rank", 2, "can't be read"),
    ],
)
def test_finish_asks_for_the_file_in_one_line(
    method: str | None,
    code: int,
    words: str,
    trained: Callable[[str], Path],
    others: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = trained(f"{others}:low_rank")
    capsys.readouterr()
    named = [] if method is None else ["--method", method.format(others=others)]
    assert finish(place, tmp_path / "out.onnx", "--to", "onnx", *named) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("+ self.up(", "- self.up(", "does not compute what"),
        ("rank=4", "rank=8", "down.weight of others.py:low_rank is \\[8, .*, but \\[4, "),
        ("self.down", "self.thin", "thin.weight of others.py:low_rank is neither in the state"),
    ],
)
def test_finish_tells_a_file_that_has_changed(
    old: str,
    new: str,
    words: str,
    trained: Callable[[str], Path],
    others: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = trained(f"{others}:low_rank")
    capsys.readouterr()
    text = OTHERS.replace(old, new).replace(".down.", f".{new[5:]}." if "thin" in new else ".down.")
    (tmp_path / "others.py").write_text(text, "utf-8")
    changed = f"{tmp_path / 'others.py'}:low_rank"
    assert finish(place, tmp_path / "out.onnx", "--to", "onnx", "--method", changed) == 9
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(words, line), line
    assert "use others.py:low_rank as it was at the export" in line
    assert not (tmp_path / "out.onnx").exists()


BOTH = """
from torch import nn
from mobiletl.core.backbones.inverted_residual import IrbNetwork
from mobiletl.core.methods import Method, Reach
from mobiletl.core.transfer import fold_norms

class Mine(nn.Sequential):
    pass

def row(channels, out, stride=1):
    conv = nn.Conv2d(channels, out, stride, stride, bias=False)
    return Mine(conv, nn.BatchNorm2d(out), nn.ReLU())

def build(classes):
    blocks = [row(8, 8, 4), row(8, 8)]
    return IrbNetwork("Mine", [row(3, 8, 8)], blocks, [], nn.Sequential(nn.Linear(8, classes)))

def apply(transfer):
    top = transfer.top
    fold_norms(top.features.eval())
    top.requires_grad_(False)
    for layer in top.features.children():
        if isinstance(layer, Mine):
            layer[0].weight.requires_grad_(True)
    top.get_submodule(top.classes_layer).requires_grad_(True)

mine = Method("mine", "kernels of blocks of one's own class", apply, Reach.BLOCKS)
"""


def test_network_and_method_from_one_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The method looks for a class of the network: the file must have run once, not twice."""
    path = tmp_path / "both.py"
    path.write_text(BOTH, "utf-8")
    own = ["--model", f"{path}:build", "--method", f"{path}:mine"]
    bundle = tmp_path / "run" / "bundle"
    export(bundle, *own, "--weights", "none", "--resolution", "64", "--blocks", "1")
    assert "features.2.0.weight" in {entry.name for entry in open_bundle(bundle).manifest.state}
    write_digits(tmp_path / "digits", CLASSES)
    flags = ["--bundle", str(bundle), "--data", str(tmp_path / "digits"), "--epochs", "1"]
    assert main(["train", *flags, "--out", str(tmp_path / "run/run")]) == 0
    capsys.readouterr()
    place, out = tmp_path / "run", tmp_path / "out.onnx"
    assert finish(place, out, "--to", "onnx", *own[:2]) == 2
    assert "name the file: --method path/to/both.py:mine" in capsys.readouterr().err
    assert finish(place, out, "--to", "onnx", *own) == 0
    np.testing.assert_allclose(in_onnx(out), on_board(place), atol=1e-4, rtol=0)


def test_account_of_a_method_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    """Reckoned by hand: the depthwise kernels of one block, their input, and the last layer."""
    flags = ["account", "--model", "mbv2", "--method", DEPTHWISE, "--blocks", "1", "--batch", "8"]
    flags += ["--resolution", "64"]
    assert main([*flags, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["trained_parameters"] == 960 * 9 + 1280 * 10 + 10
    # The depthwise convolution's input; a bit for each ReLU6 above it; the classifier's input.
    stored = 4 * 8 * 960 * 4 + (8 * 960 * 4 + 8 * 1280 * 4) // 8 + 4 * 8 * 1280
    assert found["stored_bytes"] == stored
    assert main(flags) == 0
    assert capsys.readouterr().out.startswith(f"mbv2, {DEPTHWISE}, 1 blocks, 10 classes")


def test_the_page_has_a_method_that_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (REPOSITORY / "docs" / "own-method.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "mymethod.py").write_text(code, "utf-8")
    method = f"{tmp_path / 'mymethod.py'}:kernels"
    flags = ["--model", "mbv2-0.35", "--resolution", "64", "--blocks", "2"]
    assert main(["account", *flags, "--method", method, "--json"]) == 0
    trained = json.loads(capsys.readouterr().out)["trained_parameters"]
    kernels = 56 * 336 + 336 * 9 + 336 * 56 + 56 * 336 + 336 * 9 + 336 * 112
    assert trained == kernels + 1280 * 10 + 10
