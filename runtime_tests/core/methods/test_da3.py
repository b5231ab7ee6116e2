"""DA3 on every backbone: what is trained, what the backward pass reads, what the gate says."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mobiletl.core.backbones import find_backbone
from mobiletl.core.backbones.inverted_residual import ConvNormActivation, IrbNetwork
from mobiletl.core.backbones.mobilenetv2 import INVERTED_RESIDUAL_SETTING, STEM_CHANNELS
from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.methods import find_method
from mobiletl.core.methods.attention_adaptor import AttendedRow, AttentionAdaptor
from mobiletl.core.optimizers import Sgd
from mobiletl.core.step import TrainingStep
from mobiletl.core.transfer import TransferTop
from runtime_tests.support.frozen_backbones import (
    BACKBONES,
    PICTURES,
    gradients,
    last_layer,
    moved,
    prepared,
    pretrained,
    trained_names,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def attended(top: TransferTop) -> list[AttendedRow]:
    return [module for module in top.modules() if isinstance(module, AttendedRow)]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_gradients_reach_what_is_trained_and_nothing_else(backbone: str) -> None:
    transfer = prepared("da3", backbone)
    top = moved(transfer.top)
    assert len(attended(top)) == transfer.blocks
    expected = {n for n, _ in top.named_parameters() if ".adaptor." in n} | last_layer(top)
    assert len(expected) == 4 * transfer.blocks + 2
    assert trained_names(top) == expected
    found = gradients(top)
    assert found.keys() == expected
    assert [name for name, gradient in found.items() if not gradient.any()] == []
    step = TrainingStep(top, Sgd())
    assert step.named("parameter").keys() == expected
    assert not step.named("statistic")


def test_adaptor_stores_a_vector_per_picture() -> None:
    adaptor = AttentionAdaptor(48, 96)
    saved: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        adaptor(torch.randn(2, 48, 14, 14, requires_grad=True))
    parameters = {p.untyped_storage().data_ptr() for p in adaptor.parameters()}
    kept = [s for s in saved if s.untyped_storage().data_ptr() not in parameters]
    assert {tuple(tensor.shape) for tensor in kept} == {(2, 48), (2, 16)}


def test_row_against_its_equation() -> None:
    top = moved(prepared("da3", "mbv2-0.35").top)
    row = attended(top)[4]
    conv, _, _, adaptor = row
    x = torch.randn(2, conv.in_channels, 8, 8)
    with torch.no_grad():
        hidden = (x.mean((2, 3)) @ adaptor.reduce.weight.t() + adaptor.reduce.bias).clamp(min=0.0)
        addend = hidden @ adaptor.expand.weight.t() + adaptor.expand.bias
        torch.testing.assert_close(row(x), (conv(x) + addend[:, :, None, None]).clamp(0.0, 6.0))


def test_keys_of_the_backbone_stay() -> None:
    plain = {n for n, _ in pretrained("mbv3-small-0.35").named_parameters() if "weight" in n}
    top = prepared("da3", "mbv3-small-0.35").top
    kernels = {n for n, p in top.named_parameters() if ".adaptor." not in n and "weight" in n}
    assert kernels <= plain


@pytest.mark.parametrize("backbone", BACKBONES)
def test_closed_channels_are_not_missed(backbone: str) -> None:
    """A quarter of the channels pushed far down: closed, 0 everywhere, and nobody's loss."""
    top = prepared("da3", backbone).top.eval()
    seen: list[torch.Tensor] = []

    def look(row: nn.Module, inputs: tuple[torch.Tensor, ...], y: torch.Tensor) -> None:
        assert isinstance(row, AttendedRow)
        is_open = row.open_channels(inputs[0], reach=6.0)
        quarter = is_open.shape[1] // 4
        assert not is_open[:, :quarter].any()
        assert is_open[:, quarter:].float().mean() > 0.9
        closed = y[~is_open]
        assert closed.numel() > 0
        assert torch.equal(closed, torch.zeros_like(closed))
        seen.append(is_open)

    with torch.no_grad():
        for row in attended(top):
            expand = row.adaptor.expand
            expand.bias[: expand.out_features // 4] = -50.0
            row.register_forward_hook(look)
        top(PICTURES)
    assert len(seen) == len(attended(top))


def test_gate_goes_by_picture_and_reach() -> None:
    top = moved(prepared("da3", "mbv2-0.35").top)
    row = attended(top)[2]
    x = torch.randn(8, row.mean.numel() // 6, 8, 8) * torch.linspace(0.1, 50.0, 8).view(8, 1, 1, 1)
    with torch.no_grad():
        wide, narrow = row.open_channels(x), row.open_channels(x, reach=0.5)
        assert wide.shape == (8, row.mean.numel())
        assert (wide | ~narrow).all()
        assert narrow.sum() < wide.sum()
        assert not torch.equal(narrow[0], narrow[-1])
        expected = row.mean + 3.0 * row.spread + row.adaptor(x)[:, :, 0, 0] > 0.0
    assert torch.equal(wide, expected)


def test_gate_at_first_is_what_the_norms_say() -> None:
    """Without an addend a channel is closed if its pretraining put it below every value."""
    network = pretrained("mbv3-small-0.35")
    norms = [m for m in network.features[4].modules() if isinstance(m, nn.BatchNorm2d)]
    with torch.no_grad():
        norms[0].bias[0], norms[0].weight[0] = -10.0, -2.0
        norms[0].bias[1], norms[0].weight[1] = -10.0, -4.0
    row = attended(find_method("da3").prepare(network, None).top)[3]
    assert row.closed_at == -3.0  # hard swish
    conv = row[0]
    x = torch.randn(2, conv.in_channels, 4, 4)
    assert row.open_channels(x)[:, :2].tolist() == [[False, True]] * 2


def test_size_on_mobilenetv2() -> None:
    with torch.device("meta"):
        top = find_method("da3").prepare(find_backbone("mbv2").build(2), None).top
    channels, expected = STEM_CHANNELS, 0
    for expansion, out_channels, repeats, _ in INVERTED_RESIDUAL_SETTING:
        for _ in range(repeats):
            # A quarter, to a multiple of 8 and not much less.
            hidden = {16: 8, 24: 8, 32: 8, 64: 16, 96: 24, 160: 40}[channels]
            wide = channels * expansion
            expected += (channels + 1) * hidden + (hidden + 1) * wide
            channels = out_channels
    adaptors = [row.adaptor for row in attended(top)]
    assert sum(p.numel() for a in adaptors for p in a.parameters()) == expected == 228_376


class NoRow(nn.Module):
    """A block that is no row of convolution, norm and activation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x)  # type: ignore[no-any-return]


def test_block_without_a_place_for_an_adaptor_is_named() -> None:
    stem = [ConvNormActivation(3, 8, 3, 2, groups=1)]
    network = IrbNetwork("Odd", stem, [NoRow()], [], nn.Sequential(nn.Linear(8, 2)))
    with pytest.raises(UnsupportedModel, match=r"block 1 has no nn\.Sequential of convolution"):
        find_method("da3").prepare(network, None)
