"""A backbone cut in two: a frozen prefix and a top that is trained.

Letters: N pictures, C x h x w the feature map between the two, K classes, D the embedding's width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import fuse_conv_bn_eval

from mobiletl.core.backbones.inverted_residual import IrbNetwork
from mobiletl.core.errors import UnsupportedModel

# Every network here halves its maps five times.
TOTAL_STRIDE = 32
# That of the papers, and of the backbones' pretraining.
USUAL_RESOLUTION = 224


class TransferTop(nn.Module):
    """The trained layers. Maps a feature map [N,C,h,w] to logits [N,K].

    `features` and `classifier` keep the layers' numbers in the backbone, so that state-dict keys
    stay those of the backbone. The last layer of `classifier` is the linear one that boards
    replace by their own; its keys start with `classes_layer`. `side` and `picture_side` hold what a
    method puts beside layers of `features`, under their numbers: the former reads the layer's
    input, the latter the input of the whole top. The result, resized where maps differ, is added
    to the layer's output.
    """

    def __init__(
        self, features: Mapping[str, nn.Module], classifier: Mapping[str, nn.Module]
    ) -> None:
        super().__init__()
        self.features = nn.ModuleDict(dict(features))
        self.classifier = nn.ModuleDict(dict(classifier))
        self.side = nn.ModuleDict()
        self.picture_side = nn.ModuleDict()

    @property
    def classes_layer(self) -> str:
        """The name of the linear layer that gives the logits."""
        return f"classifier.{list(self.classifier)[-1]}"

    @property
    def embedding_size(self) -> int:
        """D, how many numbers the layer that gives the logits reads of a picture."""
        return int(self.get_parameter(f"{self.classes_layer}.weight").shape[1])

    def forward(self, h: Tensor) -> Tensor:
        return self.classify(self.embed(h))

    def embed(self, h: Tensor) -> Tensor:
        """A feature map [N,C,h,w] to the embedding [N,D], which is what `classify` reads."""
        pictures = h
        for name, layer in self.features.items():
            y = layer(h)
            if name in self.side:
                y = y + _resized(self.side[name](h), y)
            if name in self.picture_side:
                y = y + _resized(self.picture_side[name](pictures), y)
            h = y
        embedding = torch.mean(h, dim=(2, 3))
        for layer in list(self.classifier.values())[:-1]:
            embedding = layer(embedding)
        return embedding

    def classify(self, embedding: Tensor) -> Tensor:
        """An embedding [N,D] to logits [N,K]."""
        logits: Tensor = self.get_submodule(self.classes_layer)(embedding)
        return logits


def _resized(x: Tensor, like: Tensor) -> Tensor:
    """`x` [N,C,h,w] brought bilinearly to the height and width of `like`; a single pixel is left to
    be broadcast, which is the same.
    """
    size = like.shape[2:]
    if x.shape[2:] in (size, (1, 1)):
        return x
    return functional.interpolate(x, size, mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class Transfer:
    """`prefix` maps [N,3,H,W] to [N,C,h,w]; `top` maps that to [N,K]. Both own their tensors.

    `block_names` are the inverted residual blocks among the layers of `top.features`. `resolution`
    is the picture size that what a method adds beside blocks is laid out for; others run, too.
    """

    prefix: nn.Sequential
    top: TransferTop
    block_names: tuple[str, ...] = ()
    resolution: int = USUAL_RESOLUTION

    @property
    def blocks(self) -> int:
        """How many blocks the top has."""
        return len(self.block_names)


def check_resolution(resolution: int) -> None:
    """Raise UnsupportedModel for a picture size the backbones' strides do not divide."""
    if resolution < TOTAL_STRIDE or resolution % TOTAL_STRIDE:
        nearest = max(1, round(resolution / TOTAL_STRIDE)) * TOTAL_STRIDE
        raise UnsupportedModel(
            f"resolution {resolution} does not fit a network of stride {TOTAL_STRIDE}, expected a "
            f"multiple of it from {TOTAL_STRIDE} up; try {nearest}"
        )


def split(
    model: IrbNetwork,
    blocks: int | None,
    fold: bool = True,
    resolution: int = USUAL_RESOLUTION,
) -> Transfer:
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
            f"{blocks} blocks to train, but {model.title} has {available}; "
            f"try --blocks {min(3, available)}"
        )
    trained = 0 if blocks is None else blocks + model.head_count
    layers = dict(model.features.named_children())
    names = list(layers)
    border = len(names) - trained
    prefix = nn.Sequential(*(layers[name] for name in names[:border]))
    classifier = _without_dropout(model.classifier)
    if blocks is None:
        last = list(classifier)[-1]
        prefix.extend(_pooled([layer for name, layer in classifier.items() if name != last]))
        classifier = {last: classifier[last]}
    if fold:
        fold_norms(prefix.eval())
    top = TransferTop({name: layers[name] for name in names[border:]}, classifier)
    block_names = tuple(names[border : border + (blocks or 0)])
    return Transfer(prefix.eval().requires_grad_(False), top, block_names, resolution)


def whole(model: IrbNetwork, resolution: int = USUAL_RESOLUTION) -> Transfer:
    """The whole network as the top, below it nothing: h is the pictures. Consumes `model`."""
    layers = dict(model.features.named_children())
    stem = len(layers) - model.head_count - model.block_count
    block_names = tuple(layers)[stem : stem + model.block_count]
    top = TransferTop(layers, _without_dropout(model.classifier))
    return Transfer(nn.Sequential(), top, block_names, resolution)


def _without_dropout(classifier: nn.Sequential) -> dict[str, nn.Module]:
    return {
        name: layer
        for name, layer in classifier.named_children()
        if not isinstance(layer, nn.Dropout)
    }


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
            f"the norm {name} can't be frozen: no convolution comes before it in an nn.Sequential; "
            "try as_rows (docs/own-network.md)"
        )


def trained_norms(top: nn.Module) -> Iterator[tuple[str, nn.BatchNorm2d]]:
    """The norms of which scale, shift and statistics are trained, with their names."""
    for name, module in top.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            yield name, module


def count_no_batches(top: nn.Module) -> None:
    """Let the trained norms count no batches: that only serves momentum=None, and is no part of
    our state.
    """
    for _, norm in trained_norms(top):
        norm.num_batches_tracked = None
