"""The manifest of a bundle (docs/bundle.md), but for what the writer adds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mobiletl.core.accounting.account import parameter_counts
from mobiletl.core.accounting.flops import macs, training_macs
from mobiletl.core.optimizers import Optimizer
from mobiletl.core.step import Entry
from mobiletl.device.bundle.manifest import Input
from mobiletl.export.memory.plan import GraphPlan
from mobiletl.export.parts import Parts
from mobiletl.export.runtimes.artifact import Artifact
from mobiletl.export.tracing.functions import initial, state_shape
from mobiletl.export.tracing.trace import EXAMPLE_SIZE
from mobiletl.export.writing.frozen import frozen_digest

# ImageNet's statistics: what every published backbone was trained with (torchvision).
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
# Evaluation resizes to size / 0.875 before the central crop (256 for 224).
CROP_SHARE = 0.875
_FLOAT_BYTES = 4


def describe(
    parts: Parts,
    plans: Mapping[str, GraphPlan],
    artifacts: Mapping[str, Artifact],
    at_rest: int,
) -> dict[str, Any]:
    """Everything a reader needs; `artifacts` by runtime, whose name is its folder's, too;
    `at_rest` is measured.
    """
    optimizer: Optimizer = parts.step.optimizer
    size = input_of(parts.request.resolution)
    return {
        "model": {
            "name": parts.backbone.name,
            "width": parts.backbone.width,
            "weights": _weights_label(parts.request.weights),
            "blocks": parts.backbone.family.blocks,
        },
        "method": {
            "name": parts.method.name,
            "blocks": parts.transfer.blocks,
            "saved": parts.saved.name,
            "trains": _trains(parts.step.entries),
        },
        "input": {
            **asdict(size),
            "mean": list(size.mean),
            "std": list(size.std),
        },
        "step": parts.request.step,
        "feature": {"shape": list(parts.feature_shape)},
        "embedding": {"size": parts.transfer.top.embedding_size},
        "frozen": frozen_digest(parts.transfer, {e.name for e in parts.step.entries}),
        "optimizer": {
            "name": optimizer.name,
            "momentum": float(getattr(optimizer, "momentum", 0.0)),
            "weight_decay": optimizer.weight_decay,
            "default_lr": parts.method.default_rate(optimizer),
        },
        "state": [
            {
                "name": e.name,
                "role": e.role,
                "shape": list(state_shape(e)),
                "dtype": "float32",
                "init": initial(e),
            }
            for e in parts.step.entries
        ],
        "runtimes": {name: artifact.describe(name) for name, artifact in artifacts.items()},
        "parameters": {
            "trainable": _per_class(parts.step.entries, ("parameter",)),
            "frozen": parameter_counts(parts.transfer)[1],
        },
        "macs": _macs(parts),
        "memory": {
            **{
                name: {
                    "weights": p.weights,
                    "activations": [list(m.terms()) for m in p.moments],
                    "holes": [list(at) for at in p.holes],
                }
                for name, p in plans.items()
            },
            "state": _bytes(parts.step.entries, ("parameter", "statistic")),
            "slots": _bytes(parts.step.entries, ("slot",)),
            "runtime": at_rest,
            "runtime_release": version("onnxruntime"),
        },
    }


def input_of(resolution: int) -> Input:
    """How a picture is prepared for networks of that side."""
    return Input(resolution, round(resolution / CROP_SHARE), MEAN, STD)


def _weights_label(source: str) -> str:
    """The kind of weights, or a file's name without the folders it lies in on this host."""
    return source if source in ("imagenet", "demo", "none") else Path(source).name


def _trains(entries: Iterable[Entry]) -> list[str]:
    """What is trained, layer by layer: `features.15: 3 weights, 2 shifts` and so on."""
    layers: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.role != "slot":
            layer = ".".join(entry.name.split(".")[: 2 if entry.name.startswith("features") else 1])
            layers.setdefault(layer, []).append(entry)
    return [f"{layer}: {_summary(members)}" for layer, members in layers.items()]


def _summary(members: list[Entry]) -> str:
    kernels = sum(e.value.dim() > 1 for e in members)
    scales = sum(e.role == "parameter" and e.name.endswith("weight") for e in members) - kernels
    shifts = sum(e.role == "parameter" and e.name.endswith("bias") for e in members)
    statistics = sum(e.role == "statistic" for e in members) // 2
    counts = (
        (kernels, "kernel"),
        (scales, "norm scale"),
        (shifts, "shift"),
        (statistics, "norm's statistics"),
    )
    return ", ".join(
        f"{n} {name}{'s' if n > 1 and name[-1] != 's' else ''}" for n, name in counts if n
    )


def _per_class(entries: Iterable[Entry], roles: tuple[str, ...]) -> dict[str, int]:
    chosen = [e for e in entries if e.role in roles]
    return {
        "fixed": sum(e.value.numel() for e in chosen if not e.per_class),
        "per_class": sum(math.prod(e.value.shape[1:]) for e in chosen if e.per_class),
    }


def _bytes(entries: Iterable[Entry], roles: tuple[str, ...]) -> dict[str, int]:
    return {key: _FLOAT_BYTES * n for key, n in _per_class(entries, roles).items()}


def _macs(parts: Parts) -> dict[str, Any]:
    """Per picture. The classifier's share is what one more class costs."""
    top, shape = parts.transfer.top, (1, *parts.feature_shape)
    classes = EXAMPLE_SIZE["K"]
    per_class = top.embedding_size
    backward = 2 if len(top.features) else 1  # the classifier's input gradient, where one is needed
    training = per_class * (1 + backward)
    return {
        "features": macs(
            parts.transfer.prefix, (1, 3, parts.request.resolution, parts.request.resolution)
        ),
        "train_step": {
            "fixed": training_macs(top, shape) - classes * training,
            "per_class": training,
        },
        "predict": {"fixed": macs(top, shape) - classes * per_class, "per_class": per_class},
    }
