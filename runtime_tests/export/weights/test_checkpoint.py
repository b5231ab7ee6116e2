"""Checkpoints as training scripts write them, and files that are none."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mobiletl.core.backbones.mobilenetv2 import MobileNetV2
from mobiletl.core.errors import BadWeights, UsageError
from mobiletl.export.weights.loading import load_weights
from runtime_tests.support.board.shared_files import shared

WIDTH = 0.1
MODEL = "mbv2-0.1"
FIRST = "features.0.0.weight"
Tensors = dict[str, Tensor]


def network() -> MobileNetV2:
    torch.manual_seed(0)
    return MobileNetV2(5, WIDTH)


def state() -> Tensors:
    return dict(network().state_dict())


def doubled() -> Tensors:
    return {key: 2 * tensor for key, tensor in state().items()}


def prefixed(prefix: str, tensors: Tensors) -> Tensors:
    return {prefix + key: tensor for key, tensor in tensors.items()}


def reference_script() -> dict[str, Any]:
    """What torchvision's references/classification/train.py saves."""
    model = network()
    average = torch.optim.swa_utils.AveragedModel(model)
    average.update_parameters(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 30).state_dict(),
        "epoch": 3,
        "args": argparse.Namespace(model="mobilenet_v2", output_dir=Path("runs"), lr=0.1),
        "model_ema": average.state_dict(),
    }


SCRIPTS: dict[str, Callable[[], dict[str, Any]]] = {
    "torchvision.pth": reference_script,
    "timm.pth.tar": lambda: {
        "epoch": 3,
        "arch": "mobilenetv2_100",
        "state_dict": state(),
        "optimizer": {},
        "version": 2,
        "args": argparse.Namespace(lr=0.1),
        "state_dict_ema": doubled(),
        "metric": np.float64(71.5),
    },
    "lightning.ckpt": lambda: {
        "epoch": 1,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": {**prefixed("model.", state()), "loss.weight": torch.ones(5)},
        "hyper_parameters": {"lr": 0.1, "data": Path("photos")},
        "callbacks": {},
    },
    "compiled.pth": lambda: prefixed("_orig_mod.", state()),
    "parallel.pth": lambda: {"model_state_dict": prefixed("module._orig_mod.", state())},
    "part.pt": lambda: {"net": {**prefixed("backbone.", state()), "head.weight": torch.ones(2)}},
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_weights_are_found(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    torch.save(SCRIPTS[name](), tmp_path / name)
    with caplog.at_level(logging.INFO):
        loaded = load_weights(str(tmp_path / name), MODEL)
    assert loaded is not None
    expected = state()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in loaded.items())
    missing, unexpected = network().load_state_dict(loaded, strict=False)
    assert set(missing) == {"classifier.1.weight", "classifier.1.bias"}
    assert unexpected == []
    (line,) = caplog.messages
    assert line.startswith(f"{tmp_path / name}: weights taken")


def test_what_was_taken_and_left_out_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save(SCRIPTS["torchvision.pth"](), tmp_path / "a.pth")
    torch.save(SCRIPTS["lightning.ckpt"](), tmp_path / "b.ckpt")
    with caplog.at_level(logging.INFO):
        load_weights(str(tmp_path / "a.pth"), MODEL)
        load_weights(str(tmp_path / "b.ckpt"), MODEL)
    first, second = caplog.messages
    assert "from 'model'; left out: optimizer, lr_scheduler, epoch, args" in first
    assert "; the moving average in 'model_ema' is taken with --ema" in first
    assert second.endswith("; without 'model.' before names")


def test_the_moving_average(tmp_path: Path) -> None:
    for name in ("torchvision.pth", "timm.pth.tar"):
        torch.save(SCRIPTS[name](), tmp_path / name)
    averaged = load_weights(str(tmp_path / "torchvision.pth"), MODEL, ema=True)
    assert averaged is not None
    assert torch.equal(averaged[FIRST], state()[FIRST])
    averaged = load_weights(str(tmp_path / "timm.pth.tar"), MODEL, ema=True)
    assert averaged is not None
    assert torch.equal(averaged[FIRST], 2 * state()[FIRST])
    torch.save({"model": state()}, tmp_path / "none.pth")
    with pytest.raises(BadWeights, match=r"no moving average .*; leave --ema out"):
        load_weights(str(tmp_path / "none.pth"), MODEL, ema=True)
    with pytest.raises(UsageError, match="not for --weights imagenet"):
        load_weights("imagenet", "mbv2", ema=True)


def test_a_network_whose_own_names_begin_so_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fits as it is is not stripped."""
    from mobiletl.export.weights import checkpoint

    monkeypatch.setattr(checkpoint, "PREFIXES", ("features.",))
    torch.save(state(), tmp_path / "w.pth")
    loaded = load_weights(str(tmp_path / "w.pth"), MODEL)
    assert loaded is not None
    assert FIRST in loaded


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "w.ckpt"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0d71\nsize 14\n",
            r"a Git LFS pointer of \d+ bytes, .*: git lfs pull --include 'w\.",
        ),
        (b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>", "a web page, not the weights"),
        (b"<html lang='en'>", "a web page, not the weights"),
    ],
)
def test_what_was_not_really_downloaded(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadWeights, match=message):
        load_weights(str(tmp_path / name), MODEL)


class Configuration:
    """Somebody's own class, which the reader must not make."""


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"model": {}, "config": Configuration()}, "Configuration"),
        (nn.Linear(2, 2), "Linear"),
        ({"state_dict": state(), "scheduler": argparse.ArgumentParser}, "ArgumentParser"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_other_classes_are_named_without_the_advice_to_read_them(
    tmp_path: Path, content: object, named: str, zipped: bool
) -> None:
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(BadWeights) as caught:
        load_weights(str(tmp_path / "w.pth"), MODEL)
    message = str(caught.value)
    assert named in message
    assert "torch.save(model.state_dict()" in message
    for advice in ("weights_only", "safe_globals", "trust", "\n", "\x1b"):
        assert advice not in message


def test_the_cases_from_the_field() -> None:
    folder = shared("cases/ckpt")
    assert load_weights(str(folder / "tv_reference_checkpoint.pth"), "mbv2-0.35") is not None
    with pytest.raises(BadWeights, match="Git LFS pointer"):
        load_weights(str(folder / "lfs_pointer.pth"), "mbv2")
