"""Other projects' names of layers: which are turned into ours, and what is said of the others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mobiletl.core.backbones.mobilenetv2 import MobileNetV2
from mobiletl.core.errors import BadWeights
from mobiletl.export.weights.loading import load_weights
from mobiletl.export.weights.names import under_our_names

WIDTH = 0.1

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


def test_timm_names_one_by_one() -> None:
    tensors = {theirs: torch.tensor(float(i)) for i, (theirs, _) in enumerate(TIMM_AND_TORCHVISION)}
    renamed = under_our_names(tensors, "mbv2")
    assert renamed == {ours: tensors[theirs] for theirs, ours in TIMM_AND_TORCHVISION}


def test_timm_pth(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tensors = dict(MobileNetV2(5, WIDTH).state_dict())
    layers = {ours: theirs for theirs, ours in timm_layers().items()}
    renamed = {}
    for key, tensor in tensors.items():
        layer, _, leaf = key.rpartition(".")
        renamed[f"{layers[layer]}.{leaf}"] = tensor
    torch.save(renamed, tmp_path / "w.pth")
    loaded = load_weights(str(tmp_path / "w.pth"), f"mbv2-{WIDTH}")
    assert loaded is not None
    assert loaded.keys() == {key for key in tensors if not key.startswith("classifier.")}
    assert all(torch.equal(tensor, tensors[key]) for key, tensor in loaded.items())


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
