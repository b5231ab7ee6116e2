"""From a model's name to a bundle on disk."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch

from mobiletl.core.backbones import Backbone, find_backbone
from mobiletl.core.flops import macs, parameter_count, training_macs
from mobiletl.core.methods import Method, find_method
from mobiletl.core.optimizers import Optimizer, find_optimizer
from mobiletl.core.step import CLASSIFIER_BIAS, CLASSIFIER_WEIGHT, Entry, TrainingStep
from mobiletl.core.transfer import Transfer, check_resolution
from mobiletl.export.bundle_writer import write_bundle
from mobiletl.export.functions import (
    export_features,
    export_predict,
    export_train_step,
    state_shape,
)
from mobiletl.export.memory_plan import GraphPlan, plan_graph
from mobiletl.export.plan_verifier import verify_plan
from mobiletl.export.runtime_at_rest import runtime_at_rest
from mobiletl.export.trace import EXAMPLE_SIZE
from mobiletl.export.weights import load_weights

# ImageNet's statistics: what every published backbone was trained with (torchvision).
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
# Evaluation resizes to size / 0.875 before the central crop (256 for 224).
CROP_SHARE = 0.875
HEAD_STD = 0.01
RUNTIME = "onnxruntime"
_VERIFIED_AT = ((1, 2), (3, 5))
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Request:
    """What a person asked for. `blocks` None takes the method's default."""

    model: str
    weights: str
    method: str
    blocks: int | None
    resolution: int
    optimizer: str
    out: Path


@dataclass(frozen=True)
class _Parts:
    """What the manifest is written from."""

    backbone: Backbone
    method: Method
    transfer: Transfer
    step: TrainingStep
    feature_shape: tuple[int, int, int]


def export_bundle(request: Request) -> Path:
    """Write the bundle and return its folder.

    Raises UnsupportedModel, BadWeights, NoNetwork, UsageError or NoSpace (core/errors.py); nothing
    is left at `request.out` then but what was there before.
    """
    parts = _prepare(request)
    graphs = {
        "features": export_features(parts.transfer, request.resolution),
        "train_step": export_train_step(parts.step, parts.feature_shape),
        "predict": export_predict(parts.step, parts.feature_shape),
    }
    plans = {name: _plan(model) for name, model in graphs.items()}
    contents = {name: model.SerializeToString() for name, model in graphs.items()}
    at_rest = runtime_at_rest(contents, sum(plan.weights for plan in plans.values()))
    manifest = _manifest(request, parts, plans, at_rest)
    state = {e.name: e.value.numpy() for e in parts.step.entries if _initial(e) == "file"}
    files = {_path(name): content for name, content in contents.items()}
    write_bundle(request.out, manifest, files, _contiguous(state))
    return request.out


def _prepare(request: Request) -> _Parts:
    check_resolution(request.resolution)
    backbone = find_backbone(request.model)
    method = find_method(request.method)
    optimizer = find_optimizer(request.optimizer)
    model = backbone.build(EXAMPLE_SIZE["K"])
    weights = load_weights(request.weights, request.model)
    if weights is not None:
        model.load_state_dict(weights, strict=False)
    transfer = method.prepare(model, request.blocks)
    with torch.no_grad():
        h = transfer.prefix(torch.zeros(1, 3, request.resolution, request.resolution))
    _, channels, height, width = h.shape
    step = TrainingStep(transfer.top, optimizer)
    return _Parts(backbone, method, transfer, step, (channels, height, width))


def _plan(model: onnx.ModelProto) -> GraphPlan:
    plan = plan_graph(model)
    for batch, classes in _VERIFIED_AT:
        verify_plan(model, plan, batch, classes)
    return plan


def _manifest(
    request: Request, parts: _Parts, plans: dict[str, GraphPlan], at_rest: int
) -> dict[str, Any]:
    optimizer: Optimizer = parts.step.optimizer
    trained = list(parts.transfer.top.features.children())
    blocks = max(0, len(trained) - 1)  # the head convolution is no block
    return {
        "model": {
            "name": request.model,
            "width": parts.backbone.width,
            "weights": _weights_label(request.weights),
            "blocks": parts.backbone.family.blocks,
        },
        "method": {
            "name": parts.method.name,
            "blocks": blocks,
            "trains": _trains(parts.step.entries),
        },
        "input": {
            "resolution": request.resolution,
            "resize": round(request.resolution / CROP_SHARE),
            "mean": list(MEAN),
            "std": list(STD),
        },
        "feature": {"shape": list(parts.feature_shape)},
        "optimizer": {
            "name": optimizer.name,
            "momentum": float(getattr(optimizer, "momentum", 0.0)),
            "weight_decay": optimizer.weight_decay,
            "default_lr": optimizer.default_lr,
        },
        "state": [
            {
                "name": e.name,
                "role": e.role,
                "shape": list(state_shape(e)),
                "dtype": "float32",
                "init": _initial(e),
            }
            for e in parts.step.entries
        ],
        "runtimes": {RUNTIME: {name: _path(name) for name in plans}},
        "parameters": {
            "trainable": _per_class(parts.step.entries, ("parameter",)),
            "frozen": parameter_count(parts.transfer.prefix) + _frozen_in_top(parts.transfer),
        },
        "macs": _macs(request, parts),
        "memory": {
            **{
                name: {"weights": p.weights, "activations": [list(m.terms()) for m in p.moments]}
                for name, p in plans.items()
            },
            "state": _bytes(parts.step.entries, ("parameter", "statistic")),
            "slots": _bytes(parts.step.entries, ("slot",)),
            "runtime": at_rest,
        },
    }


def _weights_label(source: str) -> str:
    """The kind of weights, or a file's name without the folders it lies in on this host."""
    return source if source in ("imagenet", "demo", "none") else Path(source).name


def _initial(entry: Entry) -> str:
    if entry.name == CLASSIFIER_WEIGHT:
        return f"normal:{HEAD_STD}"
    return "zeros" if entry.name == CLASSIFIER_BIAS or entry.role == "slot" else "file"


def _path(function: str) -> str:
    return f"{RUNTIME}/{function}.onnx"


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


def _frozen_in_top(transfer: Transfer) -> int:
    """Scales of norms whose shift alone is trained."""
    frozen = {name: b for name, b in transfer.top.named_buffers() if name.endswith(".weight")}
    return sum(buffer.numel() for buffer in frozen.values())


def _per_class(entries: Iterable[Entry], roles: tuple[str, ...]) -> dict[str, int]:
    chosen = [e for e in entries if e.role in roles]
    return {
        "fixed": sum(e.value.numel() for e in chosen if not e.per_class),
        "per_class": sum(math.prod(e.value.shape[1:]) for e in chosen if e.per_class),
    }


def _bytes(entries: Iterable[Entry], roles: tuple[str, ...]) -> dict[str, int]:
    return {key: _FLOAT_BYTES * n for key, n in _per_class(entries, roles).items()}


def _macs(request: Request, parts: _Parts) -> dict[str, Any]:
    """Per picture. The classifier's share is what one more class costs."""
    top, shape = parts.transfer.top, (1, *parts.feature_shape)
    classes = EXAMPLE_SIZE["K"]
    per_class = top.classifier.get_parameter("1.weight").shape[1]
    backward = 2 if len(top.features) else 1  # the classifier's input gradient, where one is needed
    training = per_class * (1 + backward)
    return {
        "features": macs(parts.transfer.prefix, (1, 3, request.resolution, request.resolution)),
        "train_step": {
            "fixed": training_macs(top, shape) - classes * training,
            "per_class": training,
        },
        "predict": {"fixed": macs(top, shape) - classes * per_class, "per_class": per_class},
    }


def _contiguous(
    state: dict[str, npt.NDArray[np.float32]],
) -> dict[str, npt.NDArray[np.float32]]:
    return {name: np.ascontiguousarray(value) for name, value in state.items()}
