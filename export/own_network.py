"""Networks by name: those of `core/backbones/`, and a person's own, `path/to/file.py:function`.

The function takes a number of classes and returns an `IrbNetwork` (docs/own-network.md). Its file
may also define `rename(key) -> key`, which turns the keys of a weights file into the network's.
own_file.py opens and runs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from types import FunctionType

import torch
from torch import nn

from mobiletl.core.backbones import Backbone, Family, find_backbone
from mobiletl.core.backbones.inverted_residual import IrbNetwork
from mobiletl.core.errors import UnsupportedModel, UsageError
from mobiletl.export.own_file import Wanted, is_own, open_own, refuse, title_of

_FUNCTION = Wanted(
    "--model",
    "function",
    "FILE.py:FUNCTION",
    "build",
    lambda value, module: isinstance(value, FunctionType) and value.__module__ == module.__name__,
)
_PAGE = "docs/own-network.md"
_RENAME = "rename"
_CLASSES, _RESOLUTION = 3, 224


def find_network(name: str) -> Backbone:
    """The backbone of that name; a person's own is built once and looked at.

    Raises UsageError for a file or function that is not there, UnsupportedModel for an unknown name
    or a network that can't be trained here.
    """
    if not is_own(name):
        return find_backbone(name)
    file, function = open_own(name, _FUNCTION)
    title = title_of(name)
    if not callable(function):
        raise UsageError(
            f"--model {name}: {title} is {type(function).__name__}, expected a function that takes "
            f"a number of classes ({_PAGE})"
        )
    with torch.random.fork_rng():
        network = file.call(title, function, _CLASSES)
    _check(network, title)
    file_rename = vars(file.module).get(_RENAME)

    def build(classes: int, _width: float) -> IrbNetwork:
        built: IrbNetwork = file.call(title, function, classes)
        return built

    def rename(key: str) -> str:
        return key if file_rename is None else str(file.call(_RENAME, file_rename, key))

    family = Family(title, build, network.block_count, has_widths=False, rename=rename)
    return Backbone(title, family, 1.0)


def _check(network: object, title: str) -> None:
    """Raise UnsupportedModel that names all that is wrong with what a function returned."""
    if not isinstance(network, IrbNetwork):
        raise UnsupportedModel(
            f"{title} returned {type(network).__name__}, expected an IrbNetwork of "
            f"mobiletl.core.backbones.inverted_residual ({_PAGE})"
        )
    refuse(title, [*_layer_problems(network), *_shape_problems(network)], _PAGE)


def _layer_problems(network: IrbNetwork) -> Iterator[str]:
    """Layers that look like known ones and compute something else."""
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d):
            plain = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
            if type(layer) is not nn.Conv2d or not plain or set(layer.dilation) != {1}:
                yield f"{name} is {layer}, expected an nn.Conv2d padded with zeros, not dilated"
        elif isinstance(layer, nn.BatchNorm2d):
            whole = layer.affine and layer.track_running_stats and layer.momentum is not None
            if type(layer) is not nn.BatchNorm2d or not whole:
                yield f"{name} is {layer}, expected an nn.BatchNorm2d with shift and statistics"
        elif isinstance(layer, nn.Sequential):
            for (place, conv), (_, norm) in pairwise(layer.named_children()):
                biased = isinstance(conv, nn.Conv2d) and conv.bias is not None
                if biased and isinstance(norm, nn.BatchNorm2d):
                    yield f"{name}.{place} has a bias and a norm behind it, expected bias=False"


def _shape_problems(network: IrbNetwork) -> Iterator[str]:
    size = _RESOLUTION
    if not network.block_count:
        yield "it has no blocks"
    try:
        with torch.no_grad():
            logits = network.eval()(torch.zeros(1, 3, size, size))
    except Exception as error:  # noqa: BLE001 - a person's own code may raise anything
        yield f"a picture of {size} px does not pass: {' '.join(str(error).split())}"
        return
    if logits.shape != (1, _CLASSES):
        yield f"one picture gives {list(logits.shape)}, expected [1,K] with K = {_CLASSES} classes"
