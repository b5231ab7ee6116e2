"""Every backbone with every method: the exported functions against PyTorch's own autograd.

A new row of either table is tested by being there. The reference shares nothing with the exported
step but the modules: `F.cross_entropy`, `backward` and `torch.optim.SGD` in float64. Momentum
starts at zero, so that after one step the momentum slot is the gradient.

Three things make the numbers comparable, and are explained in test_export_exactness.py: statistics
taken from pictures (with random ones the logits of a V3 hardly depend on the picture, and PyTorch
itself is 1e-4 off); pre-activations clear of every kink; the shift of a block's last norm, which
under `ft-blocks` nobody reads, held against the gradient of that norm's scale.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mobiletl.core.backbones import FAMILIES, Family
from mobiletl.core.inverted_residual import IrbNetwork
from mobiletl.core.layers import ShiftNormActivation
from mobiletl.core.methods import METHODS, Method
from mobiletl.core.optimizers import Sgd
from mobiletl.core.step import TrainingStep
from mobiletl.core.transfer import Transfer
from mobiletl.export.memory_plan import plan_graph
from mobiletl.export.plan_verifier import verify_plan
from mobiletl.export.stock_graphs import lower_features, lower_predict, lower_train_step
from runtime_tests.exported_bundles import invented_pictures

RESOLUTION = 64
BATCH = 8
CLASSES = 3
BLOCKS = 2
LR = 0.01
STEP_ERROR = 1e-5
# Through 20 layers of random weights; PyTorch's own float32 is as far from its float64.
FEATURES_ERROR = 5e-5
MARGIN = 5e-6
KINKS = {nn.ReLU: (0.0,), nn.ReLU6: (0.0, 6.0), nn.Hardswish: (-3.0, 0.0, 3.0)}

Array = NDArray[np.float32]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two libraries' threads wait for one another on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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


@dataclass(frozen=True)
class Exported:
    """A transfer, its three functions as models, and a batch that is clear of kinks."""

    transfer: Transfer
    step: TrainingStep
    models: dict[str, onnx.ModelProto]
    pictures: Array
    h: Tensor


def export(family: Family, method: Method) -> Exported:
    blocks = None if method.default_blocks is None else BLOCKS
    transfer = method.prepare(trained_looking(family), blocks)
    pictures, h = clear_batch(transfer)
    _, channels, height, width = h.shape
    step = TrainingStep(transfer.top, Sgd())
    shape = (channels, height, width)
    models = {
        "features": lower_features(transfer, RESOLUTION),
        "train_step": lower_train_step(step, shape),
        "predict": lower_predict(step, shape),
    }
    return Exported(transfer, step, models, pictures, h)


def clear_batch(transfer: Transfer) -> tuple[Array, Tensor]:
    """The first pictures all of whose pre-activations in the top are clear of the kinks."""
    for seed in range(2, 40):
        pictures = invented_pictures(BATCH, RESOLUTION, seed)
        with torch.no_grad():
            h = transfer.prefix(torch.from_numpy(pictures))
        if nearest_kink(transfer.top, h) > MARGIN:
            return pictures, h
    raise AssertionError("every batch has a pre-activation at a kink")


def nearest_kink(top: nn.Module, h: Tensor) -> float:
    """The smallest distance of a pre-activation to a kink of its activation."""
    distances = [torch.tensor(torch.inf)]

    def measure(module: nn.Module, inputs: tuple[Tensor]) -> None:
        a = inputs[0]
        kind = type(module)
        if isinstance(module, ShiftNormActivation):
            kind = module.activation_type
            for layer in module:
                a = layer(a)
        distances.extend((a - kink).abs().min() for kink in KINKS[kind])

    watched = copy.deepcopy(top).train()
    for module in watched.modules():
        if type(module) in KINKS or isinstance(module, ShiftNormActivation):
            module.register_forward_pre_hook(measure)
    with torch.no_grad():
        watched(h)
    return float(torch.stack(distances).min())


def run(model: onnx.ModelProto, feeds: dict[str, Array]) -> dict[str, Array]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def error(found: Array, expected: Tensor, scale: Tensor | None = None) -> float:
    """||found - expected|| / ||scale||, or over ||expected||."""
    reference = expected.detach().double().numpy()
    norm = reference if scale is None else scale.detach().double().numpy()
    return float(np.linalg.norm(found - reference) / np.linalg.norm(norm))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_exported_functions_equal_autograd(family: Family, method: Method) -> None:
    it = export(family, method)
    for model in it.models.values():
        verify_plan(model, plan_graph(model), batch=3, classes=5)
    exact = copy.deepcopy(it.transfer)
    top = exact.top.double()
    found = run(it.models["features"], {"images": it.pictures})["h"]
    h = exact.prefix.double()(torch.from_numpy(it.pictures).double())
    assert error(found, h) <= FEATURES_ERROR

    labels = np.arange(BATCH, dtype=np.int64) % CLASSES
    state = {entry.name: entry.value.numpy().copy() for entry in it.step.entries}
    feeds = {**state, "h": it.h.numpy(), "labels": labels, "lr": np.array(LR, np.float32)}
    stepped = run(it.models["train_step"], feeds)
    predicted = {e.name: state[e.name] for e in it.step.predict_entries}
    logits = run(it.models["predict"], {**predicted, "h": it.h.numpy()})["logits"]
    assert error(logits, top.eval()(it.h.double())) <= STEP_ERROR

    before = {name: tensor.clone() for name, tensor in top.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in top.parameters() if p.requires_grad], LR, momentum=0.9)
    loss = functional.cross_entropy(top.train()(it.h.double()), torch.from_numpy(labels))
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    assert stepped["loss"] == pytest.approx(loss.item(), rel=STEP_ERROR)
    check_state(it, method, stepped, top)
    frozen = before.keys() - state.keys()
    assert all(torch.equal(top.state_dict()[name], before[name]) for name in frozen)


def check_state(it: Exported, method: Method, stepped: dict[str, Array], top: nn.Module) -> None:
    """Every gradient (a momentum slot), parameter and statistic after the step."""
    after = top.state_dict()
    unread = unread_shifts(it.transfer) if method.name == "ft-blocks" else {}
    errors = {}
    for entry in it.step.entries:
        found = stepped[f"{entry.name}.next"]
        if entry.role == "slot":
            gradient = top.get_parameter(entry.owner).grad
            assert gradient is not None, f"no gradient for {entry.owner}"
            scale = top.get_parameter(unread.get(entry.owner, entry.owner)).grad
            errors[entry.name] = error(found, gradient, scale)
        else:
            errors[entry.name] = error(found, after[entry.name])
    too_large = {name: e for name, e in errors.items() if not e <= STEP_ERROR}
    assert not too_large


def unread_shifts(transfer: Transfer) -> dict[str, str]:
    """The shift of each block's last norm, with the name of that norm's scale."""
    names = list(transfer.top.features)[: transfer.blocks]
    last_norms = {}
    for block in names:
        layer = transfer.top.features[block]
        norms = [name for name, m in layer.named_modules() if isinstance(m, nn.BatchNorm2d)]
        last_norms[block] = f"features.{block}.{norms[-1]}"
    return {f"{norm}.bias": f"{norm}.weight" for norm in last_norms.values()}
