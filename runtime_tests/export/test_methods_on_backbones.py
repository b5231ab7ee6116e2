"""Every backbone with every method: the exported functions against PyTorch's own autograd.

A new row of either table is tested by being there. The reference shares nothing with the exported
step but the modules: `F.cross_entropy`, `backward` and `torch.optim.SGD` in float64. Momentum
starts at zero, so that after one step the momentum slot is the gradient.

Four things make the numbers comparable, and are explained in test_exactness.py: statistics
taken from pictures (with random ones the logits of a V3 hardly depend on the picture, and PyTorch
itself is 1e-4 off); pre-activations clear of every kink; a shift that only norms over the batch
read, which subtract it again, held against the gradient of the same norm's scale; and in whole
networks, where rounding adds up, `ROUNDING` times what PyTorch in float32 is off by at its worst.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mobiletl.core.backbones import FAMILIES, Family
from mobiletl.core.backbones.inverted_residual import IrbNetwork
from mobiletl.core.methods import METHODS, Method, Reach
from mobiletl.core.optimizers import Sgd
from mobiletl.core.step import TrainingStep
from mobiletl.core.transfer import Transfer, TransferTop
from mobiletl.export.memory.plan import plan_graph
from mobiletl.export.memory.verifier import verify_plan
from mobiletl.export.stock_graphs import lower_features, lower_predict, lower_train_step
from runtime_tests.support.exported_bundles import invented_pictures
from runtime_tests.support.kinks import Room, clear_of_kinks
from runtime_tests.support.layer_steps import in_onnxruntime

RESOLUTION = 64
BATCH = 8
CLASSES = 3
BLOCKS = 2
LR = 0.01
# Down a network of random weights gradients grow far larger than the weights they are of.
WHOLE_LR = 0.001
STEP_ERROR = 1e-5
# Through 20 layers of random weights; PyTorch's own float32 is as far from its float64.
FEATURES_ERROR = 5e-5
ROUNDING = 4
# Rounding adds up over a whole network of random weights.
ROOM = Room(margin=5e-4, reach=5e-2)
# A gradient that is 0 but for rounding; in float64 what is left of it is far below this.
UNREAD = 1e-9

# A cell takes 5 to 40 s. The fast tier has every backbone; the slow tier has every cell.
FAST = {
    "mbv2": {"mobiletl"},
    "mbv3-small": {"mobiletl"},
    "mbv3-large": {"ft-last"},
    "proxyless": {"ft-last"},
    "mcunet-5fps": {"ft-last"},
}

Array = NDArray[np.float32]

pytestmark = pytest.mark.usefixtures("one_thread")


def trained_looking(family: Family) -> IrbNetwork:
    """The network as training leaves it: norms that know the statistics of their inputs."""
    torch.manual_seed(0)
    network = family.build(CLASSES, 1.0)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    with torch.no_grad():
        for norm in norms:
            norm.momentum = 1.0
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.uniform_(-0.5, 0.5)
        for module in network.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight)
        network.train()(torch.from_numpy(invented_pictures(BATCH, RESOLUTION, seed=1)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return network.eval()


def stir(top: nn.Module) -> None:
    """Give numbers to what methods add and start at zero, so that every gradient is something."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in top.parameters():
            if not parameter.any():
                parameter.uniform_(-0.5, 0.5)


@dataclass(frozen=True)
class Exported:
    """A transfer, its three functions as models, and a batch that is clear of kinks."""

    transfer: Transfer
    step: TrainingStep
    models: dict[str, onnx.ModelProto]
    pictures: Array
    h: Tensor
    whole: bool

    @property
    def rate(self) -> float:
        """The learning rate of the step."""
        return WHOLE_LR if self.whole else LR


def export(family: Family, method: Method) -> Exported:
    blocks = None if method.default_blocks is None else BLOCKS
    transfer = method.prepare(trained_looking(family), blocks, resolution=RESOLUTION)
    stir(transfer.top)
    pictures = invented_pictures(BATCH, RESOLUTION, seed=2)
    with torch.no_grad():
        h = transfer.prefix(torch.from_numpy(pictures))
    clear_of_kinks(transfer.top.train(), h.numpy(), ROOM)
    _, channels, height, width = h.shape
    step = TrainingStep(transfer.top, Sgd())
    shape = (channels, height, width)
    # Symbolic sizes double the time that a whole network takes; they have tests of their own.
    sizes = (BATCH, CLASSES) if method.reach is Reach.NETWORK else ("N", "K")
    models = {
        "features": lower_features(transfer, RESOLUTION),
        "train_step": lower_train_step(step, shape, *sizes),
        "predict": lower_predict(step, shape),
    }
    return Exported(transfer, step, models, pictures, h, method.reach is Reach.NETWORK)


def error(found: Array, expected: Tensor, scale: Tensor | None = None) -> float:
    """||found - expected|| / ||scale||, or over ||expected||."""
    reference = expected.detach().double().numpy()
    norm = reference if scale is None else scale.detach().double().numpy()
    return float(np.linalg.norm(found - reference) / np.linalg.norm(norm))


def in_tiers() -> Iterator[Any]:
    """(family, method) for all of both tables; what is not in `FAST` is in the slow tier."""
    for family in FAMILIES:
        for method in METHODS:
            fast = method.name in FAST[family.name]
            marks = [] if fast else [pytest.mark.slow]
            yield pytest.param(family, method, marks=marks, id=f"{family.name}-{method.name}")


def test_the_fast_tier_has_every_backbone() -> None:
    assert set(FAST) == {family.name for family in FAMILIES}
    assert all(FAST.values())
    assert set().union(*FAST.values()) <= {method.name for method in METHODS}


@pytest.mark.parametrize(("family", "method"), list(in_tiers()))
def test_exported_functions_equal_autograd(family: Family, method: Method) -> None:
    it = export(family, method)
    for model in it.models.values():
        verify_plan(model, plan_graph(model), BATCH, CLASSES)
    exact = copy.deepcopy(it.transfer)
    top = exact.top.double()
    found = in_onnxruntime(it.models["features"], {"images": it.pictures})["h"]
    h = exact.prefix.double()(torch.from_numpy(it.pictures).double())
    assert error(found, h) <= FEATURES_ERROR

    labels = np.arange(BATCH, dtype=np.int64) % CLASSES
    state = {entry.name: entry.value.numpy().copy() for entry in it.step.entries}
    feeds = {**state, "h": it.h.numpy(), "labels": labels, "lr": np.array(it.rate, np.float32)}
    stepped = in_onnxruntime(it.models["train_step"], feeds)
    predicted = {e.name: state[e.name] for e in it.step.predict_entries}
    answered = in_onnxruntime(it.models["predict"], {**predicted, "h": it.h.numpy()})
    top.eval()
    single_top = it.transfer.top.eval()
    for name, own_value, exact_value in (
        ("logits", single_top(it.h), top(it.h.double())),
        ("embedding", single_top.embed(it.h), top.embed(it.h.double())),
    ):
        own = error(own_value.detach().numpy(), exact_value)
        assert error(answered[name], exact_value) <= (
            max(STEP_ERROR, ROUNDING * own) if it.whole else STEP_ERROR
        ), name
    check_logits_are_of_the_embedding(it.transfer.top, answered)

    before = {name: tensor.clone() for name, tensor in top.state_dict().items()}
    single = copy.deepcopy(it.transfer.top)
    loss = reference_step(top, it.h.double(), labels, it.rate)
    reference_step(single, it.h, labels, it.rate)
    assert stepped["loss"] == pytest.approx(loss, rel=STEP_ERROR)
    check_state(it, stepped, top, single)
    frozen = before.keys() - state.keys()
    assert all(torch.equal(top.state_dict()[name], before[name]) for name in frozen)


def check_logits_are_of_the_embedding(top: TransferTop, answered: dict[str, Array]) -> None:
    """logits = embedding W' + b, W and b those of the last linear layer."""
    weight, bias = (
        top.get_parameter(f"{top.classes_layer}.{key}").detach().double().numpy()
        for key in ("weight", "bias")
    )
    expected = torch.from_numpy(answered["embedding"].astype(np.float64) @ weight.T + bias)
    assert error(answered["logits"], expected) <= STEP_ERROR


def reference_step(top: nn.Module, h: Tensor, labels: NDArray[np.int64], rate: float) -> float:
    """The loss; the gradients stay at the parameters."""
    trained = [p for p in top.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, rate, momentum=0.9)
    loss = functional.cross_entropy(top.train()(h), torch.from_numpy(labels))
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.item()


def check_state(it: Exported, stepped: dict[str, Array], top: nn.Module, single: nn.Module) -> None:
    """Every gradient (a momentum slot), parameter and statistic after the step; `single` is the
    reference in float32.
    """
    after, after_single = top.state_dict(), single.state_dict()
    found, own = {}, {}
    for entry in it.step.entries:
        scale = None
        if entry.role == "slot":
            exact, same = (gradient_of(module, entry.owner) for module in (top, single))
            scale = comparable(top, entry.owner, exact)
        else:
            exact, same = after[entry.name], after_single[entry.name]
        found[entry.name] = error(stepped[f"{entry.name}.next"], exact, scale)
        own[entry.name] = error(same.numpy(), exact, scale)
    bound = max(STEP_ERROR, ROUNDING * max(own.values())) if it.whole else STEP_ERROR
    assert {name: e for name, e in found.items() if not e <= bound} == {}


def gradient_of(top: nn.Module, name: str) -> Tensor:
    gradient = top.get_parameter(name).grad
    assert gradient is not None, f"no gradient for {name}"
    return gradient


def comparable(top: nn.Module, name: str, gradient: Tensor) -> Tensor:
    """The gradient itself, or that of the norm's scale beside a shift nobody reads."""
    module, _, leaf = name.rpartition(".")
    scale = getattr(top.get_submodule(module), "weight", None)
    if leaf != "bias" or not isinstance(scale, nn.Parameter) or scale.grad is None:
        return gradient
    unread = gradient.norm() < UNREAD * scale.grad.norm()
    return scale.grad if unread else gradient
