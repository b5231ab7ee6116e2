"""What each method trains, by state-dict key, and that nothing else moves."""

from __future__ import annotations

import pytest
import torch

from mobiletl.core.backbones.inverted_residual import InvertedResidual
from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.layers.shift_norm import ShiftNormActivation
from mobiletl.core.methods import METHODS, Method, Reach, find_method
from mobiletl.core.step import TrainingStep
from runtime_tests.support.networks import (
    feature_shape,
    run_eager,
    small_network,
    small_step,
    small_transfer,
    step_arguments,
)

CLASSIFIER = ["classifier.1.weight", "classifier.1.bias"]
MOBILETL_BLOCK = [
    "conv.0.0.weight",
    "conv.0.1.bias",
    "conv.1.0.weight",
    "conv.1.1.bias",
    "conv.2.weight",
    "conv.3.weight",
    "conv.3.bias",
]
EXACT_BLOCK = sorted([*MOBILETL_BLOCK, "conv.0.1.weight", "conv.1.1.weight"])
STATISTICS = ("running_mean", "running_var")


def trained(step: TrainingStep) -> tuple[list[str], list[str]]:
    return list(step.named("parameter")), list(step.named("statistic"))


def test_mobiletl_trains_kernels_shifts_and_the_last_norm() -> None:
    parameters, statistics = trained(small_step("mobiletl", 2))
    assert sorted(parameters) == sorted(
        [
            *(f"features.{i}.{key}" for i in (16, 17) for key in MOBILETL_BLOCK),
            "features.18.0.weight",
            "features.18.1.bias",
            *CLASSIFIER,
        ]
    )
    assert statistics == [f"features.{i}.conv.3.{s}" for i in (16, 17) for s in STATISTICS]


def test_ft_blocks_trains_everything_in_the_top() -> None:
    parameters, statistics = trained(small_step("ft-blocks", 1))
    assert sorted(parameters) == sorted(
        [
            *(f"features.17.{key}" for key in EXACT_BLOCK),
            *("features.18.0.weight", "features.18.1.weight", "features.18.1.bias"),
            *CLASSIFIER,
        ]
    )
    norms = ["features.17.conv.0.1", "features.17.conv.1.1", "features.17.conv.3", "features.18.1"]
    assert statistics == [f"{norm}.{s}" for norm in norms for s in STATISTICS]


def test_ft_last_trains_the_classifier_alone() -> None:
    assert trained(small_step("ft-last", None)) == (CLASSIFIER, [])


def test_first_block_has_no_expansion() -> None:
    parameters, _ = trained(small_step("mobiletl", 17))
    assert sorted(key for key in parameters if key.startswith("features.1.")) == [
        "features.1.conv.0.0.weight",
        "features.1.conv.0.1.bias",
        "features.1.conv.1.weight",
        "features.1.conv.2.bias",
        "features.1.conv.2.weight",
    ]


@pytest.mark.parametrize("method", ["mobiletl", "ft-blocks", "ft-last"])
def test_steps_move_what_is_trained_and_nothing_else(method: str) -> None:
    blocks = None if method == "ft-last" else 2
    step = small_step(method, blocks)
    before = {name: tensor.clone() for name, tensor in step.top.state_dict().items()}
    arguments = step_arguments(step, feature_shape(blocks), batch=8)
    for _ in range(3):
        after = run_eager(step, arguments)
        arguments[: len(step.entries)] = [after[e.name + ".next"] for e in step.entries]
    state = dict(zip((e.name for e in step.entries), arguments, strict=False))
    unmoved = [n for n in step.named("parameter") if torch.equal(state[n], before[n])]
    assert unmoved == []
    # The module itself is only read; whatever is no entry can't have moved then.
    assert all(torch.equal(step.top.state_dict()[name], value) for name, value in before.items())


def test_mobiletl_keeps_the_statistics_of_inner_norms() -> None:
    transfer = small_transfer("mobiletl", 2)
    frozen = {n: b.clone() for n, b in transfer.top.named_buffers() if ".conv.3." not in n}
    optimizer = torch.optim.SGD(transfer.top.parameters(), lr=0.1)
    for _ in range(3):
        transfer.top(torch.randn(4, *feature_shape(2))).square().sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert len(frozen) == 5 * (3 + 2)  # weight, statistics, and the two derived from them
    for name, buffer in transfer.top.named_buffers():
        assert name not in frozen or torch.equal(buffer, frozen[name]), name


@pytest.mark.parametrize("method", ["mobiletl", "ft-blocks"])
def test_methods_agree_on_what_the_network_computes(method: str) -> None:
    """In inference mode; float32, scales multiplied into kernels."""
    h = torch.randn(2, *feature_shape(3))
    with torch.no_grad():
        expected = torch.nn.Sequential(*small_network().features[15:])(h).mean((2, 3))
        found = h
        for layer in small_transfer(method, 3).top.eval().features.values():
            found = layer(found)
    torch.testing.assert_close(found.mean((2, 3)), expected, rtol=1e-4, atol=1e-5)


def test_mobiletl_replaces_every_activation_of_the_top() -> None:
    top = small_transfer("mobiletl", 3).top
    assert sum(isinstance(m, ShiftNormActivation) for m in top.modules()) == 3 * 2 + 1
    assert not any(isinstance(m, torch.nn.ReLU6) for m in top.modules())


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_the_top_is_what_the_method_reaches(method: Method) -> None:
    """Of MobileNetV2: 17 blocks between a stem and a head."""
    transfer = method.prepare(small_network(), None)
    layers = {Reach.CLASSIFIER: 0, Reach.BLOCKS: 3 + 1, Reach.NETWORK: 1 + 17 + 1}
    blocks = {Reach.CLASSIFIER: 0, Reach.BLOCKS: 3, Reach.NETWORK: 17}
    assert len(transfer.top.features) == layers[method.reach]
    assert transfer.blocks == blocks[method.reach]
    named = [transfer.top.features[name] for name in transfer.block_names]
    assert all(isinstance(block, InvertedResidual) for block in named)


@pytest.mark.parametrize(
    "method", [m for m in METHODS if m.reach is not Reach.BLOCKS], ids=lambda method: method.name
)
def test_blocks_for_a_method_without_any(method: Method) -> None:
    asked = f"{method.name} reaches {method.reach.value}, but 3 blocks were asked for"
    with pytest.raises(UnsupportedModel, match=asked):
        method.prepare(small_network(), 3)


def test_ft_bias_trains_shifts_and_the_classifier() -> None:
    """And computes what the network does, in both modes: norms stay in inference mode."""
    pictures = torch.randn(2, 3, 64, 64)
    network = small_network()
    with torch.no_grad():
        expected = network.eval()(pictures)
        top = find_method("ft-bias").prepare(network, None).top
        for mode in (True, False):
            torch.testing.assert_close(top.train(mode)(pictures), expected, rtol=1e-4, atol=1e-5)
    norms = 1 + 16 * 3 + 2 + 1
    trained = [name for name, p in top.named_parameters() if p.requires_grad]
    assert len(trained) == norms + 2
    assert all(name.endswith(".bias") for name in trained if name != "classifier.1.weight")


def test_ft_bn_trains_norms_and_the_classifier() -> None:
    top = find_method("ft-bn").prepare(small_network(), None).top
    norms = [m for m in top.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    owned = {id(p) for norm in norms for p in norm.parameters()}
    owned |= {id(p) for p in top.get_submodule(top.classes_layer).parameters()}
    assert {id(p) for p in top.parameters() if p.requires_grad} == owned


@pytest.mark.parametrize("method", ["mobiletl", "ft-blocks"])
def test_too_many_blocks(method: str) -> None:
    with pytest.raises(UnsupportedModel, match=r"18 blocks to train, but MobileNetV2 has 17"):
        find_method(method).prepare(small_network(), 18)


def test_table() -> None:
    assert len({method.name for method in METHODS}) == len(METHODS)
    assert [find_method(method.name) for method in METHODS] == list(METHODS)
    with pytest.raises(UnsupportedModel, match=r"'lora', expected one of: mobiletl, ft-blocks"):
        find_method("lora")
