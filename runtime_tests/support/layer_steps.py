"""Training steps around single layers: exported, run in onnxruntime, held against float64.

A 1x1 convolution comes before the layer, so that the gradient of the layer's input is seen as the
gradient of that kernel, and a linear layer behind it. Momentum starts at zero, so that after one
step the momentum slot is the gradient.
"""

from __future__ import annotations

import copy
import io
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn
from torch.nn import functional

from mobiletl.core.optimizers import Sgd
from mobiletl.core.step import TrainingStep
from mobiletl.core.transfer import TransferTop
from mobiletl.export.lowering.torchscript.program import lower_to_torchscript
from mobiletl.export.memory.plan import plan_graph
from mobiletl.export.memory.verifier import verify_plan
from mobiletl.export.passes.rematerialise import rematerialise_kernels
from mobiletl.export.passes.shrink_expand import shrink_expand
from mobiletl.export.stock_graphs import lower_predict, lower_train_step
from mobiletl.export.tracing.functions import NEXT, trace_predict, trace_train_step

CLASSES = 3
LR = 0.1
# Relative, of every gradient, of the logits and the embedding: float32 against float64.
ERROR = 1e-5

Array = NDArray[np.generic]


@dataclass(frozen=True)
class LayerStep:
    """A step whose top is `layer` between two that are plain, on maps of `shape` [C,H,W]."""

    step: TrainingStep
    shape: tuple[int, int, int]

    @classmethod
    def around(
        cls, layer: nn.Module, channels: int, shape: tuple[int, int, int], below: bool = True
    ) -> LayerStep:
        """`channels` is what `layer` gives; without `below` it reads the step's input itself."""
        torch.manual_seed(0)
        rows: dict[str, nn.Module] = {"1": layer}
        if below:
            rows = {"0": nn.Conv2d(shape[0], shape[0], 1), **rows}
        top = TransferTop(rows, {"1": nn.Linear(channels, CLASSES)})
        return cls(TrainingStep(top, Sgd()), shape)

    def arguments(self, batch: int) -> list[Tensor]:
        """State, maps, labels, rate."""
        generator = torch.Generator().manual_seed(batch)
        h = torch.randn(batch, *self.shape, generator=generator)
        state = [entry.value.clone() for entry in self.step.entries]
        return [*state, h, torch.arange(batch) % CLASSES, torch.tensor(LR)]

    def gradients(self, batch: int) -> dict[str, Tensor]:
        """By parameter name, float64, from PyTorch's own loss and autograd; with the loss."""
        *_, h, labels, _ = self.arguments(batch)
        top = copy.deepcopy(self.step.top).double().train()
        loss = functional.cross_entropy(top(h.double()), labels)
        names = [e.name for e in self.step.entries if e.role == "parameter"]
        found = torch.autograd.grad(loss, [top.get_parameter(name) for name in names])
        return {"loss": loss.detach(), **dict(zip(names, found, strict=True))}

    def check(self, batches: tuple[int, ...] = (1, 5), reference: bool = False) -> onnx.ModelProto:
        """The exported step and prediction against float64, and the plan against a run; returns the
        step. `reference` runs ONNX's own evaluator beside onnxruntime.
        """
        model = lower_train_step(self.step, self.shape)
        prediction = lower_predict(self.step, self.shape)
        for graph in (model, prediction):
            verify_plan(graph, plan_graph(graph), batch=3, classes=5)
        for batch in batches:
            self._check_step(model, batch, reference)
            self._check_prediction(prediction, batch)
        return model

    def check_torchscript(self, batches: tuple[int, ...] = (1, 5)) -> None:
        """The TorchScript programs of the step and of the prediction against float64."""
        traced = rematerialise_kernels(shrink_expand(trace_train_step(self.step, self.shape)))
        program = _load(lower_to_torchscript(traced, self.step.entries))
        prediction = _load(
            lower_to_torchscript(trace_predict(self.step, self.shape), self.step.predict_entries)
        )
        for batch in batches:
            expected = self.gradients(batch)
            *state, h, labels, lr = self.arguments(batch)
            logits, embedding = prediction(state[: len(self.step.predict_entries)], h)
            self._check_answer({"logits": logits.numpy(), "embedding": embedding.numpy()}, h)
            loss, _, after = program(state, h, labels, lr)
            self.check_results(
                {"loss": loss.numpy()}
                | {e.name: v.numpy() for e, v in zip(self.step.entries, after, strict=True)},
                expected,
            )

    def _check_step(self, model: onnx.ModelProto, batch: int, reference: bool) -> None:
        *state, h, labels, lr = self.arguments(batch)
        names = [e.name for e in self.step.entries]
        feeds = dict(zip([*names, "h", "labels", "lr"], [*state, h, labels, lr], strict=True))
        arrays = {name: value.detach().numpy() for name, value in feeds.items()}
        expected = self.gradients(batch)
        runs = [in_onnxruntime(model, arrays)]
        if reference:
            runs.append(in_reference(model, arrays))
        for found in runs:
            self.check_results({n.removesuffix(NEXT): v for n, v in found.items()}, expected)

    def check_results(self, found: dict[str, Array], expected: dict[str, Tensor]) -> None:
        """The loss and, by the name of its momentum slot, every gradient."""
        slot = f"{Sgd().name}.{Sgd().slots[0]}/"
        gradients = {name: found[slot + name] for name in expected.keys() - {"loss"}}
        check_close({"loss": found["loss"], **gradients}, expected)

    def _check_prediction(self, model: onnx.ModelProto, batch: int) -> None:
        h = self.arguments(batch)[-3]
        feeds = {e.name: e.value.numpy() for e in self.step.predict_entries}
        self._check_answer(in_onnxruntime(model, {**feeds, "h": h.numpy()}), h)

    def _check_answer(self, found: dict[str, Array], h: Tensor) -> None:
        top = copy.deepcopy(self.step.top).double().eval()
        check_close(found, {"logits": top(h.double()), "embedding": top.embed(h.double())})


def check_close(found: dict[str, Array], expected: dict[str, Tensor]) -> None:
    """||found - expected|| <= ERROR ||expected||, each."""
    errors = {}
    for name, tensor in expected.items():
        wanted = tensor.detach().numpy()
        assert found[name].shape == wanted.shape, f"{name}: {found[name].shape}, {wanted.shape}"
        size = np.linalg.norm(wanted)
        errors[name] = float(np.linalg.norm(found[name] - wanted) / (size or 1.0))
    too_large = {name: error for name, error in errors.items() if not error <= ERROR}
    assert not too_large


def _load(content: bytes) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.load", DeprecationWarning)
        return torch.jit.load(io.BytesIO(content))


def in_onnxruntime(model: onnx.ModelProto, feeds: dict[str, Array]) -> dict[str, Array]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def in_reference(model: onnx.ModelProto, feeds: dict[str, Array]) -> dict[str, Array]:
    names = [value.name for value in model.graph.output]
    results: list[Array] = ReferenceEvaluator(model).run(names, feeds)  # type: ignore[assignment]
    return dict(zip(names, results, strict=True))
