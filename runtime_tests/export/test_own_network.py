"""A network that this repository does not define, from its file to a trained state."""

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

from mobiletl.core.errors import BadWeights
from mobiletl.core.methods import find_method
from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.state_file import load_state
from mobiletl.device.commands.table import main
from mobiletl.device.sessions.runtimes import open_session
from mobiletl.export.own_file import short_name
from mobiletl.export.own_network import find_network
from mobiletl.export.weights.loading import load_weights
from runtime_tests.export import test_methods_on_backbones as table
from runtime_tests.support.board.shared_files import REPOSITORY
from runtime_tests.support.digits import write_digits
from runtime_tests.support.exported_bundles import invented_pictures

FILE = REPOSITORY / "examples" / "own_network" / "mnasnet.py"
HALF = f"{FILE}:build_half"
RESOLUTION, CLASSES = 64, 3
PICTURES = invented_pictures(2, RESOLUTION)

Array = NDArray[np.float32]

# Read off torchvision's MNASNet: (its key, ours).
TORCHVISION = (
    ("layers.0.weight", "features.0.0.weight"),
    ("layers.4.running_mean", "features.1.1.running_mean"),
    ("layers.6.weight", "features.2.0.weight"),
    ("layers.8.0.layers.0.weight", "features.3.expand.0.weight"),
    ("layers.8.2.layers.4.bias", "features.5.depthwise.1.bias"),
    ("layers.9.0.layers.6.weight", "features.6.project.0.weight"),
    ("layers.11.1.layers.7.running_var", "features.13.project.1.running_var"),
    ("layers.13.0.layers.3.weight", "features.18.depthwise.0.weight"),
    ("layers.14.weight", "features.19.0.weight"),
    ("layers.15.num_batches_tracked", "features.19.1.num_batches_tracked"),
    ("classifier.1.bias", "classifier.1.bias"),
)


@pytest.mark.parametrize(("name", "parameters"), [("build", 4_383_312), ("build_half", 2_218_512)])
def test_mnasnet_has_its_published_size(name: str, parameters: int) -> None:
    """torchvision's `num_params` of mnasnet1_0 and mnasnet0_5, for 1000 classes."""
    network = find_network(f"{FILE}:{name}").build(1000)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert network.block_count == 16


def test_keys_of_published_weights_are_renamed_one_by_one() -> None:
    rename = find_network(HALF).family.rename
    assert [rename(theirs) for theirs, _ in TORCHVISION] == [ours for _, ours in TORCHVISION]


@pytest.mark.slow
def test_exported_functions_equal_autograd() -> None:
    """By the same test as every backbone of the table."""
    table.test_exported_functions_equal_autograd(find_network(HALF).family, find_method("mobiletl"))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, exported and trained for some epochs of digits with the commands a person types."""
    folder = tmp_path_factory.mktemp("own")
    weights = folder / "mnasnet.safetensors"
    save_file(dict(table.trained_looking(find_network(HALF).family).state_dict()), weights)
    write_digits(folder / "digits", CLASSES)
    flags = ["--model", HALF, "--weights", str(weights), "--blocks", "2"]
    flags += ["--resolution", str(RESOLUTION), "--runtimes", "onnxruntime"]
    assert main(["export", *flags, "--out", str(folder / "bundle")]) == 0
    flags = ["--bundle", str(folder / "bundle"), "--data", str(folder / "digits"), "--epochs", "6"]
    flags += [
        "--start",
        "random",
        "--no-augment",
        "--threads",
        "1",
        "--lr",
        "0.01",
        "--out",
        str(folder / "run"),
    ]
    assert main(["train", *flags]) == 0
    return folder


def test_bundle_says_whose_network_it_is(workplace: Path) -> None:
    manifest = open_bundle(workplace / "bundle").manifest
    assert (manifest.model.name, manifest.model.blocks) == ("mnasnet.py:build_half", 16)
    assert str(REPOSITORY) not in (workplace / "bundle" / "manifest.json").read_text("utf-8")


def test_board_trains_it(workplace: Path) -> None:
    rows = [json.loads(line) for line in (workplace / "run/metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["train_loss"] < 0.8 * rows[0]["val_loss"]
    assert rows[-1]["val_accuracy"] > 0.6


@pytest.fixture(scope="module")
def expected(workplace: Path) -> Array:
    """Logits of two pictures in PyTorch: pretrained tensors, then those of the state."""
    network = find_network(HALF).build(CLASSES)
    weights = load_weights(str(workplace / "mnasnet.safetensors"), HALF)
    assert weights is not None
    network.load_state_dict(weights, strict=False)
    found = network.load_state_dict(state_of(workplace), strict=False)
    assert all(key.startswith("adam.") for key in found.unexpected_keys)
    return logits_of(network.eval())


def state_of(workplace: Path) -> dict[str, torch.Tensor]:
    """The trained state, without what is known of its answers."""
    tensors = load_file(workplace / "run/state.safetensors")
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("answers.")}


def temperature_of(workplace: Path) -> float:
    """What a finished file has its logits divided by."""
    manifest = open_bundle(workplace / "bundle").manifest
    _, info = load_state(workplace / "run/state.safetensors", manifest)
    return 1.0 if info.answers is None else info.answers.temperature


def logits_of(network: Callable[[torch.Tensor], torch.Tensor]) -> Array:
    with torch.no_grad():
        result: Array = network(torch.from_numpy(PICTURES)).numpy()
    return result


def test_board_computes_what_pytorch_does(workplace: Path, expected: Array) -> None:
    state = {name: tensor.numpy() for name, tensor in state_of(workplace).items()}
    with open_session(open_bundle(workplace / "bundle"), CLASSES, state, 1) as session:
        logits = session.predict(session.features(PICTURES))
    assert np.linalg.norm(logits - expected) <= 1e-4 * np.linalg.norm(expected)


def finish(workplace: Path, out: Path, *flags: str) -> int:
    """The exit code of `mobiletl finish`."""
    state = str(workplace / "run" / "state.safetensors")
    given = ["--bundle", str(workplace / "bundle"), "--state", state, "--out", str(out)]
    return main(["finish", *given, *flags])


def in_onnx(path: Path) -> Array:
    logits = onnxruntime.InferenceSession(path).run(["logits"], {"images": PICTURES})[0]
    return np.asarray(logits)


def in_torchscript(path: Path) -> Array:
    return logits_of(torch.jit.load(path))


def in_pytorch(path: Path) -> Array:
    network = find_network(HALF).build(CLASSES)
    network.load_state_dict(load_file(path), strict=True)
    return logits_of(network.eval())


@pytest.mark.filterwarnings("ignore:`torch.jit.load:DeprecationWarning")
@pytest.mark.parametrize(
    ("to", "suffix", "unfolds", "run"),
    [
        ("onnx", ".onnx", False, in_onnx),
        ("torchscript", ".ts", False, in_torchscript),
        ("torchvision", ".safetensors", False, in_pytorch),
        ("torchvision", ".safetensors", True, in_pytorch),
    ],
)
def test_finish_writes_it(
    to: str,
    suffix: str,
    unfolds: bool,
    run: Callable[[Path], Array],
    workplace: Path,
    expected: Array,
    tmp_path: Path,
) -> None:
    weights = ["--weights", str(workplace / "mnasnet.safetensors")] if unfolds else []
    out = tmp_path / f"out{suffix}"
    assert finish(workplace, out, "--to", to, "--model", HALF, *weights) == 0
    calibrated = expected / temperature_of(workplace)
    assert np.linalg.norm(run(out) - calibrated) <= 1e-4 * np.linalg.norm(calibrated)
    if unfolds:
        original, found = load_file(workplace / "mnasnet.safetensors"), load_file(out)
        key = "features.0.1.running_mean"
        assert torch.equal(found[key], original[key])


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (None, "mnasnet.py:build_half, a network of somebody's own, whose code it does not hold"),
        (f"{FILE}:build", "expected path/to/mnasnet.py:build_half"),
        ("mbv2", "expected path/to/mnasnet.py:build_half"),
    ],
)
def test_finish_asks_for_the_file_in_one_line(
    model: str | None,
    words: str,
    workplace: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    named = [] if model is None else ["--model", model]
    assert finish(workplace, tmp_path / "out.onnx", "--to", "onnx", *named) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("torch.add(y, x)", "torch.sub(y, x)", "does not compute what"),
        ("mnasnet(classes, 0.5)", "mnasnet(classes, 0.75)", "frozen layers that are not the"),
        ("(3, 6, 320, 1, 1)", "(3, 6, 320, 2, 1)", "build_half"),
        ("HEAD_CHANNELS = 32, 16, 1280", "HEAD_CHANNELS = 32, 16, 640", "features.19.0.weight"),
    ],
)
def test_finish_tells_a_file_that_has_changed(
    old: str,
    new: str,
    words: str,
    workplace: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = FILE.read_text("utf-8")
    assert old in text
    (tmp_path / FILE.name).write_text(text.replace(old, new), "utf-8")
    changed = f"{tmp_path / FILE.name}:build_half"
    assert finish(workplace, tmp_path / "out.onnx", "--to", "onnx", "--model", changed) == 9
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert "use mnasnet.py:build_half as it was at the export" in line
    assert not (tmp_path / "out.onnx").exists()


def test_weights_of_another_network_name_their_keys(tmp_path: Path) -> None:
    save_file(
        {"layers.0.weight": torch.zeros(1), "fc.bias": torch.zeros(1)}, tmp_path / "w.safetensors"
    )
    with pytest.raises(BadWeights) as caught:
        load_weights(str(tmp_path / "w.safetensors"), HALF)
    message = str(caught.value)
    assert "not the weights of mnasnet.py:build_half: " in message
    assert "1 unexpected (fc.bias)" in message
    assert "features.0.0.weight [1], expected [16, 3, 3, 3]" in message


HEAD = """
from torch import nn
from mobiletl.core.backbones.inverted_residual import IrbNetwork
from mobiletl.core.rows import as_rows

def network(block, stem=None, channels=8):
    stem = stem or nn.Conv2d(3, channels, 4, 4)
    return lambda classes: IrbNetwork("Mine", [stem], [block], [],
                                      nn.Sequential(nn.Linear(channels, classes)))

def row(activation, **more):
    return nn.Sequential(nn.Conv2d(8, 8, 1, bias=False, **more), nn.BatchNorm2d(8), activation)

class Loose(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.act = nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))

class Branches(Loose):
    def forward(self, x):
        return self.conv(x) if x.sum() > 0 else x

class Stem(Loose):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 4, 4, bias=False)
"""


GOOD = "build = network(row(nn.ReLU()))"
# (what stands in the file, flags, exit code, a part of the line)
REFUSALS = (
    ("build = network(row(nn.SiLU()))", "", 9, "block 1 is not recognised: found Conv2d, Batch"),
    ("build = network(row(nn.SiLU()))", "", 9, "expected an nn.Sequential of Conv2d, BatchNorm2d"),
    ("build = network(Loose())", "", 9, "not recognised: found .*; try as_rows .*or --method ft-b"),
    ("build = network(Loose())", "--method da3", 9, "block 1 has no nn.Sequential of convolution"),
    ("build = network(row(nn.ReLU()), Stem())", "--method ft-last", 9, "norm 0.bn can't be frozen"),
    (
        "build = network(row(nn.ReLU(), dilation=2))",
        "",
        9,
        "expected an nn.Conv2d padded with zero",
    ),
    ("build = network(row(nn.ReLU(), padding_mode='reflect'))", "", 9, "Conv2d padded with zeros"),
    ("build = network(row(nn.ReLU(), padding='same'))", "", 9, "expected an nn.Conv2d padded with"),
    (
        "build = network(nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.ReLU()))",
        "",
        9,
        "features.1.0 has a bias and a norm behind it, expected bias=False",
    ),
    (
        "build = network(nn.Sequential(nn.BatchNorm2d(8, affine=False)))",
        "",
        9,
        "expected an nn.BatchNorm2d with shift and statistics",
    ),
    ("build = network(row(nn.ReLU()), channels=9)", "", 9, "a picture of 224 px does not pass"),
    ("build = lambda classes: network(row(nn.ReLU()))(7)", "", 9, r"\[1, 7\], expected \[1,K\]"),
    (
        "build = network(Branches())",
        "--method ft-blocks --blocks 1",
        9,
        r"own.py:build can't be exported: own.py line \d+: GuardOnDataDependent",
    ),
    (GOOD, "--blocks 2", 9, "2 blocks to train, but Mine has 1; try --blocks 1"),
    (GOOD, "--method ft-last --blocks 1", 9, "leave --blocks out"),
    (GOOD, "--weights demo", 2, "--weights demo is for --model mbv2-0.35, not own.py:build"),
    ("build = lambda classes: nn.Linear(3, classes)", "", 9, "returned Linear, expected an IrbNet"),
    ("def build(classes):\n    return missing", "", 9, r"own.py line \d+: NameError: name 'missi"),
    ("def build(:", "", 9, r"own.py does not run: own.py line \d+: SyntaxError"),
    ("import nothing_of_that_name", "", 9, "does not run: .*ModuleNotFoundError"),
    ("other = 3", "", 2, "own.py has no function 'build'"),
)


@pytest.mark.parametrize(("body", "flags", "code", "words"), REFUSALS)
def test_refusals_are_one_line(
    body: str,
    flags: str,
    code: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(HEAD + body + "\n", "utf-8")
    line = ["--model", "own.py:build", "--blocks", "1", "--weights", "none", "--out", "bundle"]
    if "--method" in flags or "--blocks" in flags:
        del line[2:4]
    assert main(["export", *line, *flags.split()]) == code
    captured = capsys.readouterr()
    (message,) = captured.err.splitlines()
    assert message.startswith("mobiletl: ")
    assert re.search(words, message), message
    assert [path.name for path in tmp_path.iterdir()] == ["own.py"]


@pytest.mark.parametrize(
    ("model", "code", "words"),
    [
        ("own.py", 2, "names a file but no function in it; try --model own.py:build"),
        ("own.py:build", 2, "own.py: can't be read .*expected FILE.py:FUNCTION"),
        ("own.txt:build", 9, "own.txt:build is a network of somebody's own"),
    ],
)
def test_names_that_lead_nowhere(
    model: str, code: int, words: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["export", "--model", model, "--weights", "none"]) == code
    (message,) = capsys.readouterr().err.splitlines()
    assert re.search(words, message), message


def test_a_builder_need_not_know_the_meta_device(tmp_path: Path) -> None:
    """Shapes are asked for there; code that reads values would fail."""
    body = "def build(classes):\n    block = row(nn.ReLU())\n"
    body += "    assert block[0].weight.isfinite().all()\n"
    body += "    return network(block)(classes)\n"
    (tmp_path / "own.py").write_text(HEAD + body, "utf-8")
    own = find_network(f"{tmp_path / 'own.py'}:build")
    with torch.device("meta"):
        network = own.build(2)
    assert next(network.parameters()).device.type == "cpu"
    assert [path.name for path in tmp_path.iterdir()] == ["own.py"]


@pytest.mark.parametrize(
    ("model", "short"), [("a/b/net.py:build", "net"), ("mbv2-0.35", "mbv2-0.35")]
)
def test_short_name_fits_a_folder(model: str, short: str) -> None:
    assert short_name(model) == short
