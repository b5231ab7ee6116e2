"""Other projects' names of layers, turned into ours.

| names | whose | for |
|---|---|---|
| `features.1.conv.0.0` | torchvision's, which are ours | every network |
| `blocks.0.0.conv_dw` | timm's | `mbv2` |
| `blocks.0.mobile_inverted_conv` | ProxylessNAS's authors' | `proxyless` |

timm numbers blocks by stage and repeat and names their layers; torchvision numbers all blocks in
one row, the stem being 0 and the head conv last, and numbers their layers. timm's MobileNetV3 is
refused: its norms have an epsilon of 1e-5, torchvision's 1e-3, so that renamed tensors would
compute something else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from mobiletl.core.backbones.mobilenetv2 import BLOCK_COUNT, INVERTED_RESIDUAL_SETTING
from mobiletl.core.backbones.proxyless import ROWS as PROXYLESS_ROWS

# Expand, depthwise, project and the norm after each, in torchvision's order of numbers.
_BLOCK = ("conv.0.0", "conv.0.1", "conv.1.0", "conv.1.1", "conv.2", "conv.3")
_UNEXPANDED_BLOCK = ("conv.0.0", "conv.0.1", "conv.1", "conv.2")

_TIMM_BLOCK = ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")
# The first block expands nothing, and timm then calls the projection conv_pw.
_TIMM_UNEXPANDED_BLOCK = ("conv_dw", "bn1", "conv_pw", "bn2")

_AUTHORS_UNEXPANDED_BLOCK = (
    "depth_conv.conv",
    "depth_conv.bn",
    "point_linear.conv",
    "point_linear.bn",
)
_AUTHORS_BLOCK = (
    "inverted_bottleneck.conv",
    "inverted_bottleneck.bn",
    *_AUTHORS_UNEXPANDED_BLOCK,
)
# The authors' blocks 3 and 4 are empty: the search chose to leave them out.
_AUTHORS_EMPTY_BLOCKS = (3, 4)


@dataclass(frozen=True)
class Convention:
    """One project's names: the layer that nobody else's files have, and the names by family."""

    whose: str
    marker: str
    layers: Mapping[str, Callable[[], dict[str, str]]]


def _timm_mobilenetv2() -> dict[str, str]:
    """Every layer with parameters: timm's path -> torchvision's path."""
    names = {
        "conv_stem": "features.0.0",
        "bn1": "features.0.1",
        "conv_head": f"features.{BLOCK_COUNT + 1}.0",
        "bn2": f"features.{BLOCK_COUNT + 1}.1",
        "classifier": "classifier.1",
    }
    index = 1
    for stage, (expansion, _, repeats, _) in enumerate(INVERTED_RESIDUAL_SETTING):
        for repeat in range(repeats):
            theirs = _TIMM_UNEXPANDED_BLOCK if expansion == 1 else _TIMM_BLOCK
            names.update(_block(f"blocks.{stage}.{repeat}", theirs, index))
            index += 1
    return names


def _authors_proxyless() -> dict[str, str]:
    """Every layer with parameters: the path in the authors' file -> ours."""
    last = len(PROXYLESS_ROWS) + 1
    names = {
        "first_conv.conv": "features.0.0",
        "first_conv.bn": "features.0.1",
        "feature_mix_layer.conv": f"features.{last}.0",
        "feature_mix_layer.bn": f"features.{last}.1",
        "classifier.linear": "classifier.1",
    }
    numbers = _numbers_without(_AUTHORS_EMPTY_BLOCKS)
    for index, (_, expansion, _, _) in enumerate(PROXYLESS_ROWS, start=1):
        theirs = _AUTHORS_UNEXPANDED_BLOCK if expansion == 1 else _AUTHORS_BLOCK
        names.update(_block(f"blocks.{next(numbers)}.mobile_inverted_conv", theirs, index))
    return names


def _numbers_without(left_out: tuple[int, ...]) -> Iterator[int]:
    number = 0
    while True:
        if number not in left_out:
            yield number
        number += 1


def _block(their_path: str, their_layers: tuple[str, ...], index: int) -> dict[str, str]:
    our_layers = _BLOCK if len(their_layers) == len(_BLOCK) else _UNEXPANDED_BLOCK
    return {
        f"{their_path}.{theirs}": f"features.{index}.{ours}"
        for theirs, ours in zip(their_layers, our_layers, strict=True)
    }


CONVENTIONS = (
    Convention("timm's", "conv_stem", {"mbv2": _timm_mobilenetv2}),
    Convention("the ProxylessNAS authors'", "first_conv.conv", {"proxyless": _authors_proxyless}),
)


def _convention(tensors: Mapping[str, Tensor]) -> Convention | None:
    for row in CONVENTIONS:
        if any(key.startswith(f"{row.marker}.") for key in tensors):
            return row
    return None


def foreign_names(tensors: Mapping[str, Tensor], family: str) -> str | None:
    """Whose names these are, if we know whose and have no rule for this family of networks."""
    row = _convention(tensors)
    return row.whose if row is not None and family not in row.layers else None


def under_our_names(tensors: Mapping[str, Tensor], family: str) -> dict[str, Tensor]:
    """The same tensors under torchvision's names; names without a rule stay as they are."""
    row = _convention(tensors)
    if row is None or family not in row.layers:
        return dict(tensors)
    layers = row.layers[family]()
    renamed = {}
    for key, tensor in tensors.items():
        layer, _, leaf = key.rpartition(".")
        renamed[f"{layers[layer]}.{leaf}" if layer in layers else key] = tensor
    return renamed
