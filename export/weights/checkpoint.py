"""Checkpoints as training scripts write them: the weights are found among what lies beside them.

| script | weights in | EMA copy in | beside them |
|---|---|---|---|
| torchvision's reference | `model` | `model_ema` | `optimizer`, `lr_scheduler`, `epoch`, `args` |
| timm's `train.py` | `state_dict` | `state_dict_ema` | `optimizer`, `epoch`, `args`, `metric` |
| Lightning | `state_dict` | | `callbacks`, `loops`, `hyper_parameters` |
| many others | `model_state_dict`, `net` | `ema`, `ema_state_dict` | |

A `.pth` is read by PyTorch's restricted reader, which makes tensors and plain containers and calls
nothing. A few classes more are let in that only hold values: those in which these scripts store
their arguments and scores. Nothing else is, ever: a file may run whatever it likes otherwise.
"""

from __future__ import annotations

import argparse
import collections
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mobiletl.core.errors import BadWeights
from mobiletl.device.bundle.tensors_header import header_of

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")
WRAPPERS = ("state_dict", "model", "model_state_dict", "net", "network", "weights", "module")
EMA_WRAPPERS = (
    *("model_ema", "state_dict_ema", "ema_state_dict", "model_ema_state_dict"),
    *("ema", "ema_model", "shadow"),
)
# Put before every name by parallel training, torch.compile, Lightning modules, and whoever has the
# network as a part of a larger one.
PREFIXES = (
    *("module.", "_orig_mod.", "model.", "backbone.", "net.", "network.", "encoder."),
    *("ema_model.", "model_ema.", "student."),
)

_MALFORMED = (
    UnpicklingError,
    SafetensorError,
    RuntimeError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
)
_LFS_POINTER = b"version https://git-lfs"
_PAGE = re.compile(rb"\s*(<!doctype html|<html|<\?xml|<head)", re.IGNORECASE)
_UNKNOWN_CLASS = re.compile(r"Unsupported (?:global|class|type)[^A-Za-z]*(?:GLOBAL )?([\w.]+\.\w+)")
_SHOWN = 6


@dataclass(frozen=True)
class Checkpoint:
    """`tensors` by their names in the file; `story` says where they were and what was left out."""

    tensors: dict[str, Tensor]
    story: str


def read_checkpoint(path: Path, ema: bool = False) -> Checkpoint:
    """The weights in a file, or with `ema` their moving average; raises BadWeights."""
    return _unwrapped(_content(path), path, ema)


def unprefixed(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The same tensors, then those under a known prefix, without it, and so on inwards.

    Each comes after what was taken off. Names that lack a prefix which most have are left out:
    they are of another part, such as a loss.
    """
    taken, current = "", dict(tensors)
    while True:
        yield taken, current
        for prefix in PREFIXES:
            inside = {
                key.removeprefix(prefix): current[key] for key in current if key.startswith(prefix)
            }
            if 2 * len(inside) > len(current):
                taken, current = taken + prefix, inside
                break
        else:
            return


def _content(path: Path) -> object:
    """What a file holds, in plain containers."""
    if path.is_dir():
        raise BadWeights(f"{path} is a folder; name the file with the weights in it")
    if not path.is_file():
        raise BadWeights(f"{path}: no such file; --weights takes imagenet, demo, none or a path")
    if path.suffix not in SUFFIXES:
        raise BadWeights(f"{path}: {path.suffix or 'no suffix'}; expected .safetensors or .pth")
    try:
        with path.open("rb") as file:
            _refuse_what_was_not_downloaded(path, file.read(512))
        if path.suffix == ".safetensors":
            header_of(path)  # as the board does, before the library reads it
            return load_file(path)
        with torch.serialization.safe_globals(_harmless()):
            content: object = torch.load(path, map_location="cpu", weights_only=True)
            return content
    except OSError as error:
        raise BadWeights(f"{path}: can't be read ({error.strerror or error})") from error
    except _MALFORMED as error:
        raise BadWeights(f"{path}: not a readable weights file ({_reason(error)})") from error


def _refuse_what_was_not_downloaded(path: Path, start: bytes) -> None:
    if start.startswith(_LFS_POINTER):
        raise BadWeights(
            f"{path}: a Git LFS pointer of {path.stat().st_size} bytes, not the weights "
            f"themselves; get them with: git lfs pull --include '{path.name}'"
        )
    if _PAGE.match(start):
        raise BadWeights(
            f"{path}: a web page, not the weights themselves; download the file behind the page's "
            "link (on GitHub the raw file, on Hugging Face the address with /resolve/ in it)"
        )


def _harmless() -> list[Any]:
    """Classes that hold values and do nothing when they are made."""
    classes: list[Callable[..., object] | tuple[Callable[..., object], str]] = [
        argparse.Namespace,
        collections.defaultdict,
        pathlib.PosixPath,
        pathlib.PurePosixPath,
        # Scores are NumPy's numbers in many scripts.
        np.dtype,
        type(np.dtype(np.float64)),
        type(np.dtype(np.float32)),
        type(np.dtype(np.int64)),
    ]
    scalar = np.float64(0).__reduce__()[0]
    # Files name it as the NumPy that wrote them did.
    return [*classes, *((scalar, f"{module}.multiarray.scalar") for module in _NUMPY_CORES)]


_NUMPY_CORES = ("numpy.core", "numpy._core")


def _reason(error: Exception) -> str:
    """The first line of an error, without PyTorch's advice to switch its safety off."""
    text = str(error)
    unknown = _UNKNOWN_CLASS.search(text)
    if unknown is not None:
        return (
            f"it holds a {unknown[1]}, which may run code when it is read; where it was trained "
            "save the tensors alone: torch.save(model.state_dict(), 'weights.pth')"
        )
    if "eights only load failed" in text or "weights_only" in text:
        return "neither PyTorch's zip nor its older format; copy or download it again"
    return f"{text.partition(chr(10))[0]}; save the state_dict alone: tensors by name"


def _unwrapped(content: object, path: Path, ema: bool) -> Checkpoint:
    """The dictionary of tensors inside what training scripts put around it."""
    places: list[str] = []
    beside: list[str] = []
    while isinstance(content, Mapping):
        names = EMA_WRAPPERS if ema and not places else WRAPPERS
        inner = next((name for name in names if isinstance(content.get(name), Mapping)), None)
        if inner is None:
            break
        beside += [str(name) for name in content if name != inner]
        places.append(inner)
        content = content[inner]
    if ema and not places:
        raise BadWeights(
            f"{path}: no moving average (EMA) in it, under none of {', '.join(EMA_WRAPPERS)}; "
            "leave --ema out"
        )
    return Checkpoint(_tensors(content, path), _story(path, places, beside))


def _tensors(content: object, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        raise BadWeights(f"{path}: holds {type(content).__name__}, expected tensors by name")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise BadWeights(
                f"{path}: {key!r} is {type(value).__name__}, expected tensors by name; "
                "save the state_dict alone"
            )
    return dict(content)


def _story(path: Path, places: list[str], beside: list[str]) -> str:
    if not places:
        return ""
    story = f"{path}: weights taken from '{'.'.join(places)}'"
    averages = [name for name in beside if name in EMA_WRAPPERS]
    others = [name for name in beside if name not in EMA_WRAPPERS]
    if others:
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        story += f"; left out: {', '.join(others[:_SHOWN])}{more}"
    if averages:
        story += f"; the moving average in '{averages[0]}' is taken with --ema"
    return story
