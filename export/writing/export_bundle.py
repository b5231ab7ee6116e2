"""From a model's name to a bundle on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch

from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.integer.top import AUTO, FLOAT32, INT8, MEASURED, integer_top
from mobiletl.core.optimizers import find_optimizer
from mobiletl.core.saved import find_saved
from mobiletl.core.step import TrainingStep
from mobiletl.core.transfer import Transfer, TransferTop, check_resolution
from mobiletl.device.bundle.graph_scan import graph_bytes_problem
from mobiletl.export.chain import links
from mobiletl.export.memory.at_rest import runtime_at_rest
from mobiletl.export.memory.plan import GraphPlan, plan_chain, plan_graph
from mobiletl.export.memory.region import holes
from mobiletl.export.memory.verifier import verify_plan
from mobiletl.export.own_file import blamed
from mobiletl.export.own_method import method_named
from mobiletl.export.own_network import find_network
from mobiletl.export.parts import Parts, Request
from mobiletl.export.prefix.cost import Cost
from mobiletl.export.prefix.frozen_in_bytes import check_prefix, frozen_in_bytes, links_in_bytes
from mobiletl.export.runtimes import DEFAULT_RUNTIMES, Runtime, build_artifact, find_runtimes
from mobiletl.export.runtimes.artifact import Artifact, NamedFile
from mobiletl.export.stock_graphs import StockGraphs, stock_graphs
from mobiletl.export.tracing.functions import initial
from mobiletl.export.tracing.trace import EXAMPLE_SIZE
from mobiletl.export.weights.loading import weights_of
from mobiletl.export.writing.description import describe, input_of
from mobiletl.export.writing.frozen import with_graph
from mobiletl.export.writing.writer import require_free, write_bundle

__all__ = ["Request", "export_bundle"]

(STOCK,) = DEFAULT_RUNTIMES
_VERIFIED_AT = ((1, 2), (3, 5))


@dataclass(frozen=True)
class _Level:
    """What one number of blocks is trained with; `graphs.features` has all that is frozen."""

    parts: Parts
    graphs: StockGraphs
    cost: Cost | None
    artifacts: Mapping[str, Artifact]

    @property
    def files(self) -> dict[str, bytes]:
        """Path in the bundle to content."""
        return {
            path: artifact.files[role].content
            for name, artifact in self.artifacts.items()
            for role, path in artifact.paths(name).items()
        }

    @property
    def state(self) -> dict[str, npt.NDArray[np.float32]]:
        """The first values that a file has."""
        entries = [entry for entry in self.parts.step.entries if initial(entry) == "file"]
        return {entry.name: np.ascontiguousarray(entry.value.numpy()) for entry in entries}


def export_bundle(request: Request) -> Path:
    """Write the bundle and return its folder.

    Raises UnsupportedModel, BadWeights, NoNetwork, MissingDependency, UsageError or NoSpace
    (core/errors.py); nothing is left at `request.out` then but what was there before.
    """
    require_free(request.out, request.force)  # before the work, not after it
    runtimes = find_runtimes(request.runtimes)
    check_levels(request)
    levels = [_level(one, runtimes) for one in request.of_each_level()]
    chain = [levels[0].graphs.features]
    if request.levels:
        chain = _chain(levels)
        levels = [levels[0], *(_linked(levels, chain, place) for place in range(1, len(levels)))]
        _require_shared(levels)
    manifests = [
        _manifest(level, chain[: place + 1], request) for place, level in enumerate(levels)
    ]
    files = {path: content for level in levels for path, content in level.files.items()}
    write_bundle(request.out, manifests[0], files, levels[0].state, request.force, manifests[1:])
    return request.out


def check_levels(request: Request) -> None:
    """Raise UnsupportedModel for what several levels in one bundle do not go with."""
    others = [name for name in request.runtimes if name != STOCK]
    if request.levels and others:
        depths = ",".join(str(one.blocks) for one in request.of_each_level())
        raise UnsupportedModel(
            f"--blocks {depths}: several levels in one bundle are for {STOCK} alone; leave "
            f"{', '.join(others)} out of --runtimes, or export a bundle for each number of blocks"
        )


def _level(request: Request, runtimes: Sequence[Runtime]) -> _Level:
    with blamed("exported", request.model, request.method):
        parts = _prepare(request)
        check_prefix(parts)
        graphs, cost = stock_graphs(parts), None
        if request.prefix == INT8:
            graphs, cost = frozen_in_bytes(parts, graphs, input_of(request.resolution))
        artifacts = {row.name: build_artifact(row, parts, graphs) for row in runtimes}
    return _Level(parts, graphs, cost, artifacts)


def _chain(levels: Sequence[_Level]) -> list[onnx.ModelProto]:
    """The frozen layers of all levels, one file behind the other."""
    features = [level.graphs.features for level in levels]
    if levels[0].cost is None:
        return links(features)
    parts = [level.parts for level in levels]
    return links_in_bytes(parts, features, input_of(parts[0].request.resolution))


def _linked(levels: Sequence[_Level], chain: Sequence[onnx.ModelProto], place: int) -> _Level:
    """The level at `place`, with the files of the deeper ones for what they freeze, too."""
    blocks = [level.parts.transfer.blocks for level in levels]
    files = {"features": levels[0].artifacts[STOCK].files["features"]}
    for index in range(1, place + 1):
        name = f"features-{blocks[index - 1]}-{blocks[index]}.onnx"
        files[f"features.{index}"] = NamedFile(name, chain[index].SerializeToString())
    for role in ("train_step", "predict"):
        content = levels[place].artifacts[STOCK].files[role].content
        files[role] = NamedFile(f"{role}-{blocks[place]}.onnx", content)
    return replace(levels[place], artifacts={STOCK: Artifact(files)})


def _require_shared(levels: Sequence[_Level]) -> None:
    """Raise UnsupportedModel where a level's first state is not part of the deepest one's."""
    deepest = levels[0].state
    for level in levels[1:]:
        for name, value in level.state.items():
            if name not in deepest or not np.array_equal(deepest[name], value):
                raise UnsupportedModel(
                    f"{level.parts.method.name} begins with another {name} at "
                    f"{level.parts.transfer.blocks} blocks than at "
                    f"{levels[0].parts.transfer.blocks}, so the levels share no state; export a "
                    "bundle for each number of --blocks"
                )


def _manifest(level: _Level, chain: Sequence[onnx.ModelProto], request: Request) -> dict[str, Any]:
    models = {"train_step": level.graphs.train_step, "predict": level.graphs.predict}
    frozen = {"features" if not i else f"features.{i}": model for i, model in enumerate(chain)}
    plans = {name: _plan(model) for name, model in {**frozen, **models}.items()}
    contents = {name: m.SerializeToString() for name, m in {**frozen, **models}.items()}
    _require_openable(contents)
    at_rest = runtime_at_rest(contents, sum(plan.weights for plan in plans.values()))
    if len(chain) > 1:
        plans["features"] = plan_chain(chain, [plans[name] for name in frozen])
    with blamed("described", request.model, request.method):
        named = {name: plans[name] for name in ("features", *models)}
        manifest = describe(level.parts, named, level.artifacts, at_rest)
    if level.cost is not None:
        manifest["prefix"] = level.cost.document()
        manifest["frozen"] = with_graph(manifest["frozen"], level.graphs.features)
    return manifest


def _prepare(request: Request) -> Parts:
    check_resolution(request.resolution)
    backbone = find_network(request.model)
    method = method_named(request.method)
    optimizer = find_optimizer(request.optimizer)
    with torch.random.fork_rng():
        torch.manual_seed(0)  # without weights the same export gives the same bundle, too
        model = backbone.build(EXAMPLE_SIZE["K"])
    weights = weights_of(backbone, request.weights, request.ema)
    if weights is not None:
        model.load_state_dict(weights, strict=False)
    saved = method.saved if request.saved is None else find_saved(request.saved)
    transfer = method.prepare(model, request.blocks, resolution=request.resolution, saved=saved)
    with torch.no_grad():
        h = transfer.prefix(torch.zeros(1, 3, request.resolution, request.resolution))
    _, channels, height, width = h.shape
    step = TrainingStep(transfer.top, optimizer)
    in_bytes = _top_in_bytes(request, transfer)
    training = step if in_bytes is None else TrainingStep(in_bytes, optimizer)
    request = replace(request, step=FLOAT32 if in_bytes is None else INT8)
    return Parts(
        request, backbone, method, saved, transfer, step, training, (channels, height, width)
    )


def _top_in_bytes(request: Request, transfer: Transfer) -> TransferTop | None:
    """What is traced for a step on bytes; None for one on floats.

    Raises UnsupportedModel where bytes are asked for and have no form.
    """
    is_auto = request.step == AUTO
    if request.step == FLOAT32 or (is_auto and request.method != MEASURED):
        return None
    try:
        check_step(request)
        return integer_top(transfer)
    except UnsupportedModel:
        if not is_auto:
            raise
        return None


def check_step(request: Request) -> None:
    """Raise UnsupportedModel for what a step on bytes does not go with."""
    others = [name for name in request.runtimes if name != "onnxruntime"]
    if others:
        raise UnsupportedModel(
            "--step int8 is for onnxruntime alone, whose operators on bytes it is made of; leave "
            f"{', '.join(others)} out of --runtimes"
        )
    if request.saved is not None:
        raise UnsupportedModel(
            f"--saved {request.saved} is for --step float32: a step on bytes keeps the bytes that "
            "it multiplies; leave one of the two out"
        )


def _plan(model: onnx.ModelProto) -> GraphPlan:
    plan = plan_graph(model)
    for batch, classes in _VERIFIED_AT:
        verify_plan(model, plan, batch, classes)
    return replace(plan, holes=holes(model, plan))


def _require_openable(contents: dict[str, bytes]) -> None:
    """Raise UnsupportedModel for graphs that a board would refuse to open."""
    for name, content in contents.items():
        problem = graph_bytes_problem(content)
        if problem:
            raise UnsupportedModel(
                f"{name} {problem}: no board would open it; train fewer blocks, or add what is "
                "missing to device/bundle/graph_rules.py"
            )
