"""What a person's own method may do wrong, and the one line that says so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from mobiletl.core.accounting.account import account
from mobiletl.core.backbones import find_backbone
from mobiletl.core.methods import find_method
from mobiletl.device.commands.table import main
from mobiletl.export.own_method import method_named

HEAD = """
import torch
from torch import nn
from mobiletl.core.backbones.inverted_residual import IrbNetwork
from mobiletl.core.methods import Method, Reach
from mobiletl.core.transfer import fold_norms

def rows(channels, stride=1):
    conv = nn.Conv2d(channels, 8, stride, stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(8), nn.ReLU())

def build(classes):
    blocks = [rows(8, 4), rows(8)]
    return IrbNetwork("Mine", [rows(3, 8)], blocks, [], nn.Sequential(nn.Linear(8, classes)))

def row(apply, reach=Reach.BLOCKS):
    return Method("mine", "what it trains", apply, reach)

def spoil(t):
    with torch.no_grad():
        t.prefix[0][0].weight.zero_()

def last(t):
    return t.top.get_submodule(t.top.classes_layer)

class Behind(nn.Module):
    def __init__(self, body, function):
        super().__init__()
        self.body, self.function = body, function

    def forward(self, x):
        return self.function(self.body(x))

def behind(function):
    def apply(t):
        name = t.block_names[-1]
        t.top.features[name] = Behind(t.top.features[name], function)
    return row(apply)

class Counts(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.seen += 1
        return x

def fill(t, value):
    with torch.no_grad():
        t.top.features["2"][0].weight.fill_(value)

def half(t):
    t.top.features["2"].half()
"""

# (what stands in the file, exit code, a part of the line)
REFUSALS = (
    ("mine = row(lambda t: t.nothing)", 9, r"mine failed: own.py line \d+: AttributeError: 'Trans"),
    ("mine = row(lambda t: exit())", 9, r"own.py:mine failed: .*SystemExit"),
    ("mine = row(lambda t: t)", 9, "returned Transfer, expected None: a method changes"),
    ("mine = row(lambda t: None and t.top.requires_grad_(False), 'blocks')", 9, "its reach is 'bl"),
    ("mine = Method('a', 'b', 3, Reach.BLOCKS)", 9, "its apply is 3, expected a function that"),
    ("mine = Method('a', 'b', print, Reach.BLOCKS, 8)", 9, "its saved is 8, expected FLOAT32"),
    ("mine = row(lambda t: t.top.requires_grad_(False) and None)", 9, "it trains nothing, expecte"),
    (
        "mine = row(lambda t: last(t).requires_grad_(False) and None)",
        9,
        "is not trained as a whole",
    ),
    (
        "mine = row(lambda t: t.top.classifier.update({'0': nn.Linear(8, 7)}))",
        9,
        "the last layer, classifier.0, has gone or has another behind it",
    ),
    ("mine = row(lambda t: t.top.classifier.clear())", 9, "the last layer, classifier.0, has gone"),
    ("mine = row(lambda t: fill(t, float('nan')))", 9, "NaN or infinity in features.2.0.weight"),
    (
        "mine = row(half)",
        9,
        r"features.2.0.weight is torch.float16, expected torch.float32",
    ),
    (
        "mine = row(spoil)",
        9,
        r"it changes 0.0.weight of the frozen prefix, expected changes of transfer.top only; Reach",
    ),
    (
        "mine = row(lambda t: t.prefix.requires_grad_(True) and None)",
        9,
        "it trains 0.0.weight of th",
    ),
    (
        "mine = row(lambda t: t.prefix.append(nn.ReLU()) and None)",
        9,
        "it changes layers of the fro",
    ),
    ("mine = row(lambda t: t.top.features.eval() and None)", 9, "in eval mode, .*try fold_norms"),
    ("mine = behind(lambda y: y.detach())", 9, "it trains .*on which the loss does not depend"),
    ("mine = behind(lambda y: y / 0)", 9, r"the gradient of .* is NaN or infinity"),
    (
        "mine = behind(lambda y: y[:, :3])",
        9,
        "does not pass forward and backward: RuntimeError: ",
    ),
    ("mine = behind(Counts())", 9, "seen changes as it runs"),
    ("mine = behind(torch.erf)", 9, r"operator aten.erf.default of features.2\S* has no ONNX tr"),
    (
        "mine = behind(lambda y: nn.functional.dropout(y, 0.1, True))",
        9,
        r"the operator aten.native_dropout.default of features.2\S* has no ONNX translation",
    ),
    ("mine = behind(lambda y: y + y.nonzero().sum())", 9, "the operator aten.nonzero.default of"),
    (
        "mine = behind(lambda y: y if y.sum() > 0 else -y)",
        9,
        r"own.py:mine can't be exported: own.py line \d+: GuardOnDataDependent",
    ),
    (
        "mine = behind(lambda y: nn.functional.conv_transpose2d(y, torch.eye(y.shape[1])"
        "[..., None, None]))",
        9,
        "a trained convolution .*transposed=True has no training rule; train fewer blocks$",
    ),
    ("mine = missing", 9, r"own.py does not run: own.py line \d+: NameError"),
    ("mine = Method('a', 'b', print)", 9, r"line \d+: TypeError: .*missing 1 required .*'reach'"),
    ("def mine(:", 9, r"own.py does not run: own.py line \d+: SyntaxError"),
    ("raise SystemExit(3)", 9, r"own.py does not run: own.py line \d+: SystemExit: 3"),
    (
        "def mine(t): pass",
        2,
        "is a function, expected a Method .*try row = Method\\('mine', .*mine, ",
    ),
    ("mine = 3", 2, "own.py:mine is a int, expected a Method of mobiletl.core.methods"),
    ("min = row(print)", 2, r"own.py has no Method 'mine' \(did you mean min\?\)"),
    ("other = row(print)", 2, "own.py has no Method 'mine'; it has other"),
    ("", 2, "own.py has no Method 'mine'; it has none at all"),
)


@pytest.mark.parametrize(("body", "code", "words"), REFUSALS)
def test_refusals_are_one_line(
    body: str,
    code: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(HEAD + body + "\n", "utf-8")
    flags = ["--method", "own.py:mine", "--blocks", "1", "--weights", "none", "--out", "bundle"]
    assert main(["export", "--model", "own.py:build", *flags, "--resolution", "64"]) == code
    captured = capsys.readouterr()
    (message,) = captured.err.splitlines()
    assert message.startswith("mobiletl: ")
    assert re.search(words, message), message
    assert [path.name for path in tmp_path.iterdir()] == ["own.py"]


@pytest.mark.parametrize("command", ["export", "account"])
@pytest.mark.parametrize(
    ("method", "code", "words"),
    [
        ("own.py", 2, "--method own.py names a file but no Method in it; try --method own.py:NAME"),
        ("own.py:mine", 2, "own.py: can't be read .*expected FILE.py:NAME"),
        (
            "own.txt:mine",
            9,
            "no method is called 'own.txt:mine', .*or FILE.py:NAME for one of your",
        ),
    ],
)
def test_names_that_lead_nowhere(
    method: str, code: int, words: str, command: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    weights = ["--weights", "none"] if command == "export" else []
    assert main([command, "--method", method, *weights]) == code
    (message,) = capsys.readouterr().err.splitlines()
    assert re.search(words, message), message


def test_an_account_says_what_it_cannot_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = "mine = behind(lambda y: y if y.sum() > 0 else -y)\n"
    (tmp_path / "own.py").write_text(HEAD + body, "utf-8")
    small = ["--model", "mbv2-0.1", "--resolution", "64"]
    assert main(["account", *small, "--method", f"{tmp_path / 'own.py'}:mine"]) == 9
    (message,) = capsys.readouterr().err.splitlines()
    assert re.search(r"own.py:mine can't be counted: own.py line \d+: ", message), message


def test_a_method_may_look_at_values_in_an_account(tmp_path: Path) -> None:
    """Accounts need shapes only, but a method may choose what it trains by what is there."""
    body = "def apply(transfer):\n    top = transfer.top\n"
    body += "    assert all(p.isfinite().all() for p in top.parameters())\n"
    body += "    assert transfer.resolution == 96\n"
    body += "row = Method('mine', '', apply, Reach.BLOCKS)\n"
    (tmp_path / "own.py").write_text(HEAD + body, "utf-8")
    method = method_named(f"{tmp_path / 'own.py'}:row")
    before = torch.get_rng_state()
    mine = account(find_backbone("mbv2-0.35"), method, 2, 10, 8, 96)
    assert torch.equal(torch.get_rng_state(), before)
    assert mine == account(find_backbone("mbv2-0.35"), find_method("ft-blocks"), 2, 10, 8, 96)
    assert [path.name for path in tmp_path.iterdir()] == ["own.py"]
