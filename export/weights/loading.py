"""Pretrained weights from where a person has them, checked against the network they are for.

| source     | what |
|------------|------|
| `imagenet` | torchvision's published file, for width 1.0 of the networks it has |
| `demo`     | the small backbone that the package ships |
| `none`     | nothing: the network keeps its random start |
| a path     | `.safetensors`, or a `.pth` of some kind, under names that `names.py` knows |

`checkpoint.py` reads files, and runs no code of theirs. The last linear layer of a file is dropped,
whatever its classes: a board makes its own.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mobiletl.core.backbones import Backbone, find_backbone
from mobiletl.core.errors import BadWeights, UsageError
from mobiletl.export.own_network import find_network
from mobiletl.export.weights.checkpoint import read_checkpoint, unprefixed
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


# Counts batches; norms with a fixed momentum, as here, never read it.
_COUNTER = "num_batches_tracked"
_SHOWN = 3
_LOG = logging.getLogger(__name__)


def load_weights(source: str, model_name: str, ema: bool = False) -> dict[str, Tensor] | None:
    """`weights_of` the network of that name."""
    return weights_of(find_network(model_name), source, ema)


def weights_of(backbone: Backbone, source: str, ema: bool = False) -> dict[str, Tensor] | None:
    """float32 tensors for every key of the network but its last linear layer's; None for `none`.

    Fits `network.load_state_dict(weights, strict=False)`, which then misses that layer only. Raises
    UsageError where the named weights are of another network, BadWeights for a file that can't be
    read or holds another network, NoNetwork if a download fails. With `ema` the moving average is
    taken that a training script has kept of its weights.
    """
    if ema and source in ("none", "imagenet", "demo"):
        raise UsageError(f"--ema is for a checkpoint of your own, not for --weights {source}")
    if source == "none":
        return None
    if source == "imagenet":
        path = fetch(IMAGENET[_named(source, backbone, tuple(IMAGENET))], cache_folder())
    elif source == "demo":
        _named(source, backbone, (EMBEDDED_MODEL,))
        path = EMBEDDED
    else:
        path = Path(source)
    checkpoint = read_checkpoint(path, ema)
    expected = _expected(backbone)
    found, taken_off = _best_fitting(checkpoint.tensors, backbone, expected, path)
    if checkpoint.story or taken_off:
        story = checkpoint.story or f"{path}: weights taken"
        _LOG.info("%s%s", story, f"; without '{taken_off}' before names" if taken_off else "")
    blame = f"{path}: not the weights of {backbone.name}"
    theirs = foreign_names(found, backbone.family.name)
    if theirs is not None:
        blame += f" under names we know: these are {theirs}"
    return _fitted(found, expected, blame)


def _best_fitting(
    tensors: Mapping[str, Tensor],
    backbone: Backbone,
    expected: Mapping[str, torch.Size],
    path: Path,
) -> tuple[dict[str, Tensor], str]:
    """The tensors under the network's names, and the prefix that had to come off for that."""
    versions = [
        (_renamed(version, backbone, path), prefix) for prefix, version in unprefixed(tensors)
    ]
    fitting = (row for row in versions if _needed(expected) <= row[0].keys())
    return next(fitting, versions[-1])


def _renamed(tensors: Mapping[str, Tensor], backbone: Backbone, path: Path) -> dict[str, Tensor]:
    """The same tensors under the names of the network."""
    ours = under_our_names(tensors, backbone.family.name)
    renamed = {backbone.family.rename(key): tensor for key, tensor in ours.items()}
    if len(renamed) < len(ours):
        raise BadWeights(f"{path}: {backbone.name} renames {len(ours)} keys to {len(renamed)} ones")
    return renamed


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


def _expected(backbone: Backbone) -> dict[str, torch.Size]:
    """The shapes of the network's tensors, but for its last linear layer's."""
    with torch.device("meta"):  # shapes without memory or random numbers
        network = backbone.build(classes=1)
    return {
        key: tensor.shape
        for key, tensor in network.state_dict().items()
        if not key.startswith(f"{network.classes_layer}.")
    }


def _needed(expected: Mapping[str, torch.Size]) -> set[str]:
    return {key for key in expected if not key.endswith(_COUNTER)}


def _fitted(
    tensors: Mapping[str, Tensor], expected: Mapping[str, torch.Size], blame: str
) -> dict[str, Tensor]:
    """`tensors` as float32, if they are exactly those of the network; counters start at zero."""
    needed = _needed(expected)
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
