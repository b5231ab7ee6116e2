"""timm's names of MobileNetV2's layers, turned into torchvision's.

timm numbers blocks by stage and repeat and names their layers; torchvision numbers all blocks in
one row, the stem being 0 and the head conv last, and numbers their layers.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mobiletl.core.mobilenetv2 import BLOCK_COUNT, INVERTED_RESIDUAL_SETTING

# Inside a block: timm's layer, torchvision's layer.
_BLOCK_LAYERS = (
    ("conv_pw", "conv.0.0"),  # expand
    ("bn1", "conv.0.1"),
    ("conv_dw", "conv.1.0"),  # depthwise
    ("bn2", "conv.1.1"),
    ("conv_pwl", "conv.2"),  # project
    ("bn3", "conv.3"),
)
# The first block expands nothing, and timm then calls the projection conv_pw.
_UNEXPANDED_BLOCK_LAYERS = (
    ("conv_dw", "conv.0.0"),
    ("bn1", "conv.0.1"),
    ("conv_pw", "conv.1"),
    ("bn2", "conv.2"),
)
_AROUND_THE_BLOCKS = (
    ("conv_stem", "features.0.0"),
    ("bn1", "features.0.1"),
    ("conv_head", f"features.{BLOCK_COUNT + 1}.0"),
    ("bn2", f"features.{BLOCK_COUNT + 1}.1"),
    ("classifier", "classifier.1"),
)


def _layer_names() -> dict[str, str]:
    """Every layer with parameters: timm's path -> torchvision's path."""
    names = dict(_AROUND_THE_BLOCKS)
    index = 1
    for stage, (expansion, _, repeats, _) in enumerate(INVERTED_RESIDUAL_SETTING):
        layers = _UNEXPANDED_BLOCK_LAYERS if expansion == 1 else _BLOCK_LAYERS
        for repeat in range(repeats):
            for theirs, ours in layers:
                names[f"blocks.{stage}.{repeat}.{theirs}"] = f"features.{index}.{ours}"
            index += 1
    return names


def is_timm(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the names are timm's: torchvision has nothing called `conv_stem`."""
    return any(key.startswith("conv_stem.") for key in tensors)


def from_timm(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under torchvision's names; names that are not timm's stay as they are."""
    layers = _layer_names()
    renamed = {}
    for key, tensor in tensors.items():
        layer, _, leaf = key.rpartition(".")
        renamed[f"{layers[layer]}.{leaf}" if layer in layers else key] = tensor
    return renamed
