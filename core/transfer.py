"""A backbone cut in two: a frozen prefix and a top that is trained.

Letters: N pictures, C x h x w the feature map between the two, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.inverted_residual import IrbNetwork

# Every network here halves its maps five times.
TOTAL_STRIDE = 32


class TransferTop(nn.Module):
    """The trained layers. Maps a feature map [N,C,h,w] to logits [N,K].

    `features` and `classifier` keep the layers' numbers in the backbone, so that state-dict keys
    stay those of the backbone. The last layer of `classifier` is the linear one that boards
    replace by their own; its keys start with `classes_layer`.
    """

    def __init__(
        self, features: Mapping[str, nn.Module], classifier: Mapping[str, nn.Module]
    ) -> None:
        super().__init__()
        self.features = nn.ModuleDict(dict(features))
        self.classifier = nn.ModuleDict(dict(classifier))

    @property
    def classes_layer(self) -> str:
        """The name of the linear layer that gives the logits."""
        return f"classifier.{list(self.classifier)[-1]}"

    def forward(self, h: Tensor) -> Tensor:
        for layer in self.features.values():
            h = layer(h)
        logits = torch.mean(h, dim=(2, 3))
        for layer in self.classifier.values():
            logits = layer(logits)
        return logits


@dataclass(frozen=True)
class Transfer:
    """`prefix` maps [N,3,H,W] to [N,C,h,w]; `top` maps that to [N,K]. Both own their tensors.

    `blocks` is how many inverted residual blocks the top has.
    """

    prefix: nn.Sequential
    top: TransferTop
    blocks: int = 0


def check_resolution(resolution: int) -> None:
    """Raise UnsupportedModel for a picture size the backbones' strides do not divide."""
    if resolution < TOTAL_STRIDE or resolution % TOTAL_STRIDE:
        nearest = max(1, round(resolution / TOTAL_STRIDE)) * TOTAL_STRIDE
        raise UnsupportedModel(
            f"resolution {resolution} does not fit a network of stride {TOTAL_STRIDE}, expected a "
            f"multiple of it from {TOTAL_STRIDE} up; try {nearest}"
        )


def split(model: IrbNetwork, blocks: int | None, fold: bool = True) -> Transfer:
    """Cut below the top `blocks` inverted residual blocks, or below the last layer for None.

    The head and the whole classifier belong to the top when any block count is given (0 included).
    With None the prefix ends with the input of the last linear layer, as a map [N,C,1,1]. Consumes
    `model`. Dropout is left out: a training step has no random numbers (docs/decisions.md). `fold`
    False leaves the prefix's norms as they are, for accounting.

    Raises UnsupportedModel when the backbone has fewer blocks, or a layer that can't be frozen.
    """
    available = model.block_count
    if blocks is not None and not 0 <= blocks <= available:
        raise UnsupportedModel(
            f"{blocks} blocks to train, but {model.title} has {available}; try --blocks 3"
        )
    trained = 0 if blocks is None else blocks + model.head_count
    layers = dict(model.features.named_children())
    names = list(layers)
    border = len(names) - trained
    prefix = nn.Sequential(*(layers[name] for name in names[:border]))
    classifier = {
        name: layer
        for name, layer in model.classifier.named_children()
        if not isinstance(layer, nn.Dropout)
    }
    if blocks is None:
        last = list(classifier)[-1]
        prefix.extend(_pooled([layer for name, layer in classifier.items() if name != last]))
        classifier = {last: classifier[last]}
    if fold:
        fold_norms(prefix.eval())
    top = TransferTop({name: layers[name] for name in names[border:]}, classifier)
    return Transfer(prefix.eval().requires_grad_(False), top, blocks or 0)


def _pooled(layers: list[nn.Module]) -> list[nn.Module]:
    """The global average, and `layers` over it; maps [N,C,h,w] to [N,C',1,1]."""
    average: list[nn.Module] = [nn.AdaptiveAvgPool2d(1)]
    if not layers:
        return average
    widths = [layer.out_features for layer in layers if isinstance(layer, nn.Linear)]
    if not widths:
        raise UnsupportedModel("a classifier whose hidden layers are not linear can't be frozen")
    return [*average, nn.Flatten(), *layers, nn.Unflatten(1, (widths[-1], 1, 1))]


def fold_norms(module: nn.Module) -> None:
    """Multiply every batch norm of `module`, in eval mode, into the convolution before it in the
    same `nn.Sequential`. Raises UnsupportedModel for one that has none before it.
    """
    for sequence in [m for m in module.modules() if isinstance(m, nn.Sequential)]:
        for (place, conv), (norm_place, norm) in pairwise(list(sequence.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(sequence, place, fuse_conv_bn_eval(conv, norm))
                setattr(sequence, norm_place, nn.Identity())
    for name, _ in trained_norms(module):
        raise UnsupportedModel(
            f"the norm {name} can't be frozen: no convolution comes before it in an nn.Sequential"
        )


def trained_norms(top: nn.Module) -> Iterator[tuple[str, nn.BatchNorm2d]]:
    """The norms of which scale, shift and statistics are trained, with their names."""
    for name, module in top.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            yield name, module
