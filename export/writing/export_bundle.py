"""From a model's name to a bundle on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch

from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.integer.top import FLOAT32, integer_top
from mobiletl.core.optimizers import find_optimizer
from mobiletl.core.saved import find_saved
from mobiletl.core.step import TrainingStep
from mobiletl.core.transfer import check_resolution
from mobiletl.device.bundle.graph_scan import graph_bytes_problem
from mobiletl.export.memory.at_rest import runtime_at_rest
from mobiletl.export.memory.plan import GraphPlan, plan_graph
from mobiletl.export.memory.verifier import verify_plan
from mobiletl.export.own_file import blamed
from mobiletl.export.own_method import method_named
from mobiletl.export.own_network import find_network
from mobiletl.export.parts import Parts, Request
from mobiletl.export.prefix.frozen_in_bytes import INT8, check_prefix, frozen_in_bytes
from mobiletl.export.runtimes import build_artifact, find_runtimes
from mobiletl.export.stock_graphs import stock_graphs
from mobiletl.export.tracing.functions import initial
from mobiletl.export.tracing.trace import EXAMPLE_SIZE
from mobiletl.export.weights.loading import weights_of
from mobiletl.export.writing.description import describe, input_of
from mobiletl.export.writing.frozen import with_graph
from mobiletl.export.writing.writer import require_free, write_bundle

__all__ = ["Request", "export_bundle"]

_VERIFIED_AT = ((1, 2), (3, 5))


def export_bundle(request: Request) -> Path:
    """Write the bundle and return its folder.

    Raises UnsupportedModel, BadWeights, NoNetwork, MissingDependency, UsageError or NoSpace
    (core/errors.py); nothing is left at `request.out` then but what was there before.
    """
    require_free(request.out, request.force)  # before the work, not after it
    runtimes = find_runtimes(request.runtimes)
    with blamed("exported", request.model, request.method):
        parts = _prepare(request)
        check_prefix(parts)
        graphs, cost = stock_graphs(parts), None
        if request.prefix == INT8:
            graphs, cost = frozen_in_bytes(parts, graphs, input_of(request.resolution))
        artifacts = {row.name: build_artifact(row, parts, graphs) for row in runtimes}
    plans = {name: _plan(model) for name, model in graphs.by_name().items()}
    contents = {name: model.SerializeToString() for name, model in graphs.by_name().items()}
    _require_openable(contents)
    at_rest = runtime_at_rest(contents, sum(plan.weights for plan in plans.values()))
    files = {
        path: artifact.files[role].content
        for name, artifact in artifacts.items()
        for role, path in artifact.paths(name).items()
    }
    with blamed("described", request.model, request.method):
        manifest = describe(parts, plans, artifacts, at_rest)
    if cost is not None:
        manifest["prefix"] = cost.document()
        manifest["frozen"] = with_graph(manifest["frozen"], graphs.features)
    state = {e.name: e.value.numpy() for e in parts.step.entries if initial(e) == "file"}
    write_bundle(request.out, manifest, files, _contiguous(state), request.force)
    return request.out


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
    training = step
    if request.step != FLOAT32:
        check_step(request)
        training = TrainingStep(integer_top(transfer), optimizer)
    return Parts(
        request, backbone, method, saved, transfer, step, training, (channels, height, width)
    )


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
    return plan


def _require_openable(contents: dict[str, bytes]) -> None:
    """Raise UnsupportedModel for graphs that a board would refuse to open."""
    for name, content in contents.items():
        problem = graph_bytes_problem(content)
        if problem:
            raise UnsupportedModel(
                f"{name} {problem}: no board would open it; train fewer blocks, or add what is "
                "missing to device/bundle/graph_rules.py"
            )


def _contiguous(
    state: dict[str, npt.NDArray[np.float32]],
) -> dict[str, npt.NDArray[np.float32]]:
    return {name: np.ascontiguousarray(value) for name, value in state.items()}
