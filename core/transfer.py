"""A backbone cut in two: a frozen prefix and a top that is trained.

Letters: N pictures, C x h x w the feature map between the two, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.mobilenetv2 import (
    TOTAL_STRIDE,
    ConvNormActivation,
    InvertedResidual,
    MobileNetV2,
)


class TransferTop(nn.Module):
    """The trained layers. Maps a feature map [N,C,h,w] to logits [N,K].

    `features` keeps the layers' numbers in the backbone, so that state-dict keys stay
    torchvision's.
    """

    def __init__(self, features: Mapping[str, nn.Module], classifier: nn.Linear) -> None:
        super().__init__()
        self.features = nn.ModuleDict(dict(features))
        self.classifier = nn.Sequential(nn.Identity(), classifier)

    def forward(self, h: Tensor) -> Tensor:
        for layer in self.features.values():
            h = layer(h)
        logits: Tensor = self.classifier(torch.mean(h, dim=(2, 3)))
        return logits


@dataclass(frozen=True)
class Transfer:
    """`prefix` maps [N,3,H,W] to [N,C,h,w]; `top` maps that to [N,K]. Both own their tensors."""

    prefix: nn.Sequential
    top: TransferTop


def check_resolution(resolution: int) -> None:
    """Raise UnsupportedModel for a picture size the backbone's strides do not divide."""
    if resolution < TOTAL_STRIDE or resolution % TOTAL_STRIDE:
        nearest = max(1, round(resolution / TOTAL_STRIDE)) * TOTAL_STRIDE
        raise UnsupportedModel(
            f"resolution {resolution} does not fit MobileNetV2, expected a multiple of "
            f"{TOTAL_STRIDE} from {TOTAL_STRIDE} up; try {nearest}"
        )


def split(model: MobileNetV2, blocks: int | None) -> Transfer:
    """Cut below the top `blocks` inverted residual blocks, or below the classifier for None.

    The head convolution belongs to the top when any block count is given (0 included). With None
    the prefix ends with the global average, so that its feature map is [N,C,1,1].

    Raises UnsupportedModel when the backbone has fewer blocks.
    """
    layers = dict(model.features.named_children())
    available = sum(isinstance(layer, InvertedResidual) for layer in layers.values())
    if blocks is not None and not 0 <= blocks <= available:
        raise UnsupportedModel(
            f"{blocks} blocks to train, but MobileNetV2 has {available}; try --blocks 3"
        )
    trained = 0 if blocks is None else blocks + 1  # and the head convolution
    names = list(layers)
    border = len(names) - trained
    prefix = nn.Sequential(*(_frozen(layers[name]) for name in names[:border]))
    if blocks is None:
        prefix.append(nn.AdaptiveAvgPool2d(1))
    classifier = model.classifier[1]
    assert isinstance(classifier, nn.Linear)
    top = TransferTop({name: layers[name] for name in names[border:]}, classifier)
    return Transfer(prefix.eval().requires_grad_(False), top)


def _frozen(layer: nn.Module) -> nn.Module:
    """The layer in eval mode, every norm folded into the convolution before it."""
    layer.eval()
    if isinstance(layer, ConvNormActivation):
        conv, norm, activation = layer
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        return nn.Sequential(fuse_conv_bn_eval(conv, norm), activation)
    if isinstance(layer, InvertedResidual):
        return _FrozenInvertedResidual(layer)
    raise TypeError(f"no rule to freeze a {type(layer).__name__}")


class _FrozenInvertedResidual(nn.Module):
    """An inverted residual block without norms. Maps [N,C,H,W] to [N,C',H/stride,W/stride]."""

    def __init__(self, block: InvertedResidual) -> None:
        super().__init__()
        *inner, project, norm = block.conv
        assert isinstance(project, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        self.residual = block.residual
        self.conv = nn.Sequential(
            *(_frozen(layer) for layer in inner), fuse_conv_bn_eval(project, norm)
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if self.residual else y


def trained_norms(top: nn.Module) -> Iterator[tuple[str, nn.BatchNorm2d]]:
    """The norms of which scale, shift and statistics are trained, with their names."""
    for name, module in top.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            yield name, module
