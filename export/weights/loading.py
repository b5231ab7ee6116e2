"""Pretrained weights from where a person has them, checked against the network they are for.

| source     | what |
|------------|------|
| `imagenet` | torchvision's published file, for width 1.0 of the networks it has |
| `demo`     | the small backbone that the package ships |
| `none`     | nothing: the network keeps its random start |
| a path     | `.safetensors`, or a `.pth`, under names that `names.py` knows |

No pickle code is run: `.pth` files go through torch's restricted reader. The last linear layer of a
file is dropped, whatever its classes: a board makes its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mobiletl.core.backbones import Backbone, find_backbone
from mobiletl.core.errors import BadWeights, UsageError
from mobiletl.device.bundle.tensors_header import header_of
from mobiletl.export.own_network import find_network
from mobiletl.export.weights.download import IMAGENET, cache_folder, fetch
from mobiletl.export.weights.names import foreign_names, under_our_names

EMBEDDED = Path(__file__).parent.parent / "assets" / "mbv2-0.35-cifar10.safetensors"
EMBEDDED_MODEL = "mbv2-0.35"


@dataclass(frozen=True)
class EmbeddedFacts:
    """The network of the weights that come along, and the picture side they were trained at."""

    model: str
    resolution: int


def embedded_facts() -> EmbeddedFacts:
    """Read from the page beside the embedded weights."""
    facts = json.loads(EMBEDDED.with_suffix(".json").read_text("utf-8"))
    return EmbeddedFacts(facts["model"], facts["resolution"])


_TORCH_SUFFIXES = (".pth", ".pt", ".bin")
# Training scripts wrap the tensors: timm's and many others', torchvision's reference scripts.
_WRAPPERS = ("state_dict", "model")
_PARALLEL_PREFIX = "module."
# Counts batches; norms with a fixed momentum, as here, never read it.
_COUNTER = "num_batches_tracked"
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
_SHOWN = 3


def load_weights(source: str, model_name: str) -> dict[str, Tensor] | None:
    """`weights_of` the network of that name."""
    return weights_of(find_network(model_name), source)


def weights_of(backbone: Backbone, source: str) -> dict[str, Tensor] | None:
    """float32 tensors for every key of the network but its last linear layer's; None for `none`.

    Fits `network.load_state_dict(weights, strict=False)`, which then misses that layer only. Raises
    UsageError where the named weights are of another network, BadWeights for a file that can't be
    read or holds another network, NoNetwork if a download fails.
    """
    if source == "none":
        return None
    if source == "imagenet":
        path = fetch(IMAGENET[_named(source, backbone, tuple(IMAGENET))], cache_folder())
    elif source == "demo":
        _named(source, backbone, (EMBEDDED_MODEL,))
        path = EMBEDDED
    else:
        path = Path(source)
    found = _read(path)
    blame = f"{path}: not the weights of {backbone.name}"
    theirs = foreign_names(found, backbone.family.name)
    if theirs is not None:
        blame += f" under names we know: these are {theirs}"
    ours = under_our_names(found, backbone.family.name)
    renamed = {backbone.family.rename(key): tensor for key, tensor in ours.items()}
    if len(renamed) < len(ours):
        raise BadWeights(f"{path}: {backbone.name} renames {len(ours)} keys to {len(renamed)} ones")
    return _fitted(renamed, backbone, blame)


def _named(source: str, backbone: Backbone, models: tuple[str, ...]) -> str:
    """The one of `models` that is `backbone`, however its width is written."""
    for name in models:
        model = find_backbone(name)
        if (model.family, model.width) == (backbone.family, backbone.width):
            return name
    raise UsageError(
        f"--weights {source} is for --model {' or '.join(models)}, not {backbone.name}; "
        "use that model, --weights none or --weights PATH"
    )


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, as they were stored."""
    if path.is_dir():
        raise BadWeights(f"{path} is a folder; name the file with the weights in it")
    if not path.is_file():
        raise BadWeights(f"{path}: no such file; --weights takes imagenet, demo, none or a path")
    try:
        if path.suffix == ".safetensors":
            header_of(path)  # as the board does, before the library reads it
            content: object = load_file(path)
        elif path.suffix in _TORCH_SUFFIXES:
            content = torch.load(path, map_location="cpu", weights_only=True)
        else:
            raise BadWeights(f"{path}: {path.suffix or 'no suffix'}; expected .safetensors or .pth")
    except OSError as error:
        raise BadWeights(f"{path}: can't be read ({error.strerror or error})") from error
    except _MALFORMED as error:
        reason = str(error).partition("\n")[0]
        raise BadWeights(
            f"{path}: not a readable weights file ({reason}); "
            "save the state_dict alone: tensors by name, no other objects"
        ) from error
    return _unwrapped(content, path)


def _unwrapped(content: object, path: Path) -> dict[str, Tensor]:
    """The dictionary of tensors inside what training scripts put around it."""
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        raise BadWeights(f"{path}: holds {type(content).__name__}, expected tensors by name")
    tensors = {}
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise BadWeights(
                f"{path}: {key!r} is {type(value).__name__}, expected tensors by name; "
                "save the state_dict alone"
            )
        tensors[key.removeprefix(_PARALLEL_PREFIX)] = value
    return tensors


def _fitted(tensors: Mapping[str, Tensor], backbone: Backbone, blame: str) -> dict[str, Tensor]:
    """`tensors` as float32, if they are exactly those of the network; counters start at zero."""
    with torch.device("meta"):  # shapes without memory or random numbers
        network = backbone.build(classes=1)
    expected = {
        key: tensor.shape
        for key, tensor in network.state_dict().items()
        if not key.startswith(f"{network.classes_layer}.")
    }
    needed = {key for key in expected if not key.endswith(_COUNTER)}
    found = {
        key: tensor
        for key, tensor in tensors.items()
        if not key.endswith(_COUNTER) and (key in needed or not key.startswith("classifier."))
    }
    problems = [
        _listed("missing", (key for key in expected if key in needed - found.keys())),
        _listed("unexpected", (key for key in found if key not in needed)),
        _listed(
            "of another shape",
            (
                f"{key} {list(found[key].shape)}, expected {list(expected[key])}"
                for key in expected
                if key in found and found[key].shape != expected[key]
            ),
        ),
        _listed("unusable", _unusable(found)),
    ]
    if any(problems):
        raise BadWeights(f"{blame}: {'; '.join(filter(None, problems))}")
    return {
        key: found[key].to(torch.float32) if key in needed else torch.zeros((), dtype=torch.int64)
        for key in expected
    }


def _unusable(tensors: Mapping[str, Tensor]) -> Iterable[str]:
    """Each tensor no network can compute with, and why."""
    for key, tensor in tensors.items():
        if not tensor.is_floating_point() or tensor.layout != torch.strided:
            yield f"{key} is {tensor.dtype}, expected dense floating point"
            continue
        values = tensor.to(torch.float32)
        if not values.isfinite().all():
            yield f"{key} holds NaN or infinity"
        elif key.endswith("running_var") and (values < 0).any():
            yield f"{key} holds a negative variance"


def _listed(kind: str, items: Iterable[str]) -> str:
    """`3 missing (a, b, ...)`, empty for none."""
    rows = list(items)
    shown = ", ".join(rows[:_SHOWN]) + (", ..." if len(rows) > _SHOWN else "")
    return f"{len(rows)} {kind} ({shown})" if rows else ""
