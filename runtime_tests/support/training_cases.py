"""What tests of onnxruntime-training share: bundles for it, and the same training in PyTorch."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from mobiletl.core.backbones import find_backbone
from mobiletl.core.methods import find_method
from mobiletl.core.optimizers import find_optimizer
from mobiletl.core.step import TrainingStep
from mobiletl.core.transfer import Transfer
from mobiletl.device.bundle.bundle import Bundle
from mobiletl.export.weights.loading import load_weights
from mobiletl.export.writing.export_bundle import Request, export_bundle
from runtime_tests.support.exported_bundles import invented_pictures
from runtime_tests.support.networks import unsettle

Array = NDArray[np.float32]

BATCH, CLASSES, STEPS = 8, 5, 12
# Adam moves by its rate whatever the gradient, also where that is rounding: keep it small.
LR = {"sgd": 0.01, "adam": 1e-5, "adamw": 1e-5}
ONE_STEP = 1e-5
# How many times PyTorch's own rounding ours may be, where that is more
# (runtime_tests/export/test_exactness.py).
ROUNDING = 4
REDRAWN = 4


@dataclass(frozen=True)
class Case:
    """A bundle and the network it was made from."""

    model: str = "mbv2-0.35"
    weights: str = "demo"
    method: str = "mobiletl"
    optimizer: str = "sgd"
    resolution: int = 64

    def __str__(self) -> str:
        return f"{self.model}-{self.method}-{self.optimizer}"

    def transfer(self, method: str = "") -> Transfer:
        model = find_backbone(self.model).build(CLASSES)
        values = load_weights(_FILES.get(self.weights, self.weights), self.model)
        if values is not None:
            model.load_state_dict(values, strict=False)
        return find_method(method or self.method).prepare(model, 3)


# Hard-swish and squeeze-excite. Fresh weights let no gradient through its first blocks.
HARD_SWISH = Case("mbv3-small", "unsettled")
CASES = [Case(), Case(method="ft-blocks"), Case(optimizer="adam"), Case(optimizer="adamw")]
_WRITTEN: dict[Case, Path] = {}
# Weights that a test run makes itself.
_FILES: dict[str, str] = {}


def write_unsettled_weights(factory: pytest.TempPathFactory) -> str:
    """Weights of `HARD_SWISH` that let gradients through."""
    torch.manual_seed(0)
    network = find_backbone(HARD_SWISH.model).build(CLASSES)
    unsettle(network)
    file = factory.mktemp("weights") / "unsettled.safetensors"
    save_file(network.state_dict(), str(file))
    return str(file)


def bundle_of(case: Case, factory: pytest.TempPathFactory) -> Path:
    """The folder `bundle`, exported once; tests write beside it."""
    if case.weights == HARD_SWISH.weights and case.weights not in _FILES:
        _FILES[case.weights] = write_unsettled_weights(factory)
    if case not in _WRITTEN:
        request = Request(
            case.model,
            _FILES.get(case.weights, case.weights),
            case.method,
            3,
            case.resolution,
            case.optimizer,
            factory.mktemp("training") / "bundle",
            runtimes=("onnxruntime", "onnxruntime-training"),
            classes=CLASSES,
            whole_graph=True,
        )
        _WRITTEN[case] = export_bundle(request)
    return _WRITTEN[case]


def reference(case: Case, bundle: Bundle, state: dict[str, Array]) -> dict[str, Array]:
    """STEPS steps in PyTorch, from `state`, on one batch of pictures."""
    transfer = case.transfer()
    pictures = invented_pictures(BATCH, case.resolution)
    with torch.no_grad():
        h = transfer.prefix(torch.from_numpy(pictures))
    step = TrainingStep(transfer.top, find_optimizer(case.optimizer))
    labels, rate = torch.arange(BATCH) % CLASSES, torch.tensor(LR[case.optimizer])
    names = [entry.name for entry in step.entries]
    values = [torch.from_numpy(state[name]) for name in names]
    found: dict[str, Array] = {f"state/{name}": state[name] for name in names}
    found |= one_step(step, values, h, labels, rate)
    losses, hits = [], []
    for _ in range(STEPS):
        loss, correct, *values = step.train(values, h, labels, rate)
        losses.append(float(loss))
        hits.append(int(correct))
    logits, embedding = step.predict(values[: len(step.predict_entries)], h)
    _, _, layer = transfer.top.classes_layer.partition(".")
    return {
        **found,
        "pictures": pictures,
        "h": h.numpy(),
        "labels": labels.numpy(),
        "lr": rate.numpy(),
        "losses": np.array(losses),
        "correct": np.array(hits),
        "logits": logits.detach().numpy(),
        "embedding": embedding.detach().numpy(),
        "classes_layer": np.array(layer),
    }


def one_step(
    step: TrainingStep, state: list[Tensor], h: Tensor, labels: Tensor, rate: Tensor
) -> dict[str, Array]:
    """PyTorch's state after a step in float64, and by how much it misses that in float32.

    Gradients that nearly cancel are off by more than 1e-5 in any float32 program; `rounding/NAME`
    is the worst of some runs, each with the last bit of the feature map drawn anew.
    """
    names = [entry.name for entry in step.entries]
    top = deepcopy(step.top).double()
    exact = TrainingStep(top, step.optimizer).train(
        [value.double() for value in state], h.double(), labels, rate.double()
    )[2:]
    worst = dict.fromkeys(names, 0.0)
    generator = torch.Generator().manual_seed(1)
    for _ in range(REDRAWN):
        toward = (torch.rand(h.shape, generator=generator) - 0.5).sign() * torch.inf
        rounded = step.train(state, torch.nextafter(h, toward), labels, rate)[2:]
        for name, value, right in zip(names, rounded, exact, strict=True):
            error = float((value - right).norm() / right.norm().clamp_min(1e-30))
            worst[name] = max(worst[name], error)
    found = {f"{_kind(name)}/{name}": v.numpy() for name, v in zip(names, exact, strict=True)}
    return {**found, **{f"rounding/{name}": np.array(error) for name, error in worst.items()}}


def _kind(name: str) -> str:
    return "slot_after" if "/" in name or "correction" in name else "one_step"
