"""Networks by name: those of `core/backbones/`, and a person's own, `path/to/file.py:function`.

The function takes a number of classes and returns an `IrbNetwork` (docs/own-network.md). Its file
may also define `rename(key) -> key`, which turns the keys of a weights file into the network's.
Both run as `python file.py` would: only what a person typed is ever opened here, never a path that
a bundle holds.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from mobiletl.core.backbones import Backbone, Family, find_backbone
from mobiletl.core.backbones.inverted_residual import IrbNetwork
from mobiletl.core.errors import MobileTLError, UnsupportedModel, UsageError

_SUFFIX = ".py"
_RENAME = "rename"
_CLASSES, _RESOLUTION = 3, 224
_SHOWN = 3


@dataclass(frozen=True)
class _OwnFile:
    """The file a person wrote, as a module; what goes wrong in it becomes one line."""

    path: Path
    module: ModuleType

    def call(self, name: str, *arguments: object) -> Any:
        """`name(*arguments)` of the file; UnsupportedModel says where it failed."""
        try:
            # Shapes are asked for under the meta device, which a person's code need not know.
            with torch.device("cpu"):
                return vars(self.module)[name](*arguments)
        except MobileTLError:
            raise
        except Exception as error:
            raise UnsupportedModel(f"{name} failed: {_where(error, self.path)}") from error


def is_own(name: str) -> bool:
    """Whether a model's name is that of a person's own network."""
    return name.rpartition(":")[0].endswith(_SUFFIX)


def short_name(name: str) -> str:
    """Fit for a folder: `mnasnet` for `nets/mnasnet.py:build`, other names as they are."""
    return Path(name.rpartition(":")[0]).stem if is_own(name) else name


def find_network(name: str) -> Backbone:
    """The backbone of that name; a person's own is built once and looked at.

    Raises UsageError for a file or function that is not there, UnsupportedModel for an unknown name
    or a network that can't be trained here.
    """
    if name.endswith(_SUFFIX):
        raise UsageError(
            f"--model {name} names a file but no function in it; try --model {name}:build"
        )
    if not is_own(name):
        return find_backbone(name)
    path, _, function = name.rpartition(":")
    file = _load(Path(path))
    if not callable(vars(file.module).get(function)):
        raise UsageError(f"--model {name}: {path} has no function {function!r}")
    title = f"{file.path.name}:{function}"
    with torch.random.fork_rng():
        network = file.call(function, _CLASSES)
    _check(network, title)

    def build(classes: int, _width: float) -> IrbNetwork:
        built: IrbNetwork = file.call(function, classes)
        return built

    def rename(key: str) -> str:
        return str(file.call(_RENAME, key)) if _RENAME in vars(file.module) else key

    family = Family(title, build, network.block_count, has_widths=False, rename=rename)
    return Backbone(title, family, 1.0)


def _load(path: Path) -> _OwnFile:
    """Run the file. Not by an import, which would leave its compiled form beside it."""
    try:
        source = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"--model {path}: can't be read ({error.strerror or error}); expected FILE.py:FUNCTION"
        ) from error
    module = ModuleType(f"own_network_{path.stem}")
    vars(module)["__file__"] = str(path)
    sys.modules[module.__name__] = module  # dataclasses look their module up
    try:
        exec(compile(source, str(path), "exec"), vars(module))
    except Exception as error:
        raise UnsupportedModel(f"{path} does not run: {_where(error, path)}") from error
    return _OwnFile(path, module)


def _where(error: Exception, path: Path) -> str:
    """`net.py line 12: NameError: name 'x' is not defined`, on one line."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    if isinstance(error, SyntaxError):
        lines = [error.lineno]
    place = f"{path.name} line {lines[-1]}" if lines else path.name
    return f"{place}: {type(error).__name__}: {' '.join(str(error).split())}"


def _check(network: object, title: str) -> None:
    """Raise UnsupportedModel that names all that is wrong with what a function returned."""
    if not isinstance(network, IrbNetwork):
        raise UnsupportedModel(
            f"{title} returned {type(network).__name__}, expected an IrbNetwork of "
            "mobiletl.core.backbones.inverted_residual (docs/own-network.md)"
        )
    problems = [*_layer_problems(network), *_shape_problems(network)]
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise UnsupportedModel(
            f"{title} can't be trained as it is: {'; '.join(problems[:_SHOWN])}{more} "
            "(docs/own-network.md)"
        )


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
