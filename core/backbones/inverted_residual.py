"""The layers that every network here is made of, and a network made of them.

Inverted residual block (IRB; Sandler et al., CVPR 2018, section 3.3): a 1x1 convolution expands, a
depthwise one filters, a 1x1 one projects; MobileNetV3 (Howard et al., ICCV 2019) adds
squeeze-excite before the projection. Two orders of state-dict keys are in use, torchvision's of
MobileNetV2 (`conv.0.0` ... `conv.3`) and of MobileNetV3 (`block.0.0` ... `block.3.1`).

Letters: N pictures, C channels, H x W the height and width of a map, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mobiletl.core.errors import UnsupportedModel


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Round to a multiple of `divisor`, never below 90 % of `channels` (the authors' rule)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


@dataclass(frozen=True)
class NormSetting:
    """What a network's batch norms share; the defaults are PyTorch's."""

    eps: float = 1e-5
    momentum: float = 0.1

    def build(self, channels: int) -> nn.BatchNorm2d:
        """A norm of that many channels."""
        return nn.BatchNorm2d(channels, self.eps, self.momentum)


@dataclass(frozen=True)
class Block:
    """One row of a network's table: an inverted residual block.

    There is no expansion where `hidden_channels` equals `in_channels`, and no squeeze-excite where
    `squeezed_channels` is None.
    """

    in_channels: int
    hidden_channels: int
    out_channels: int
    kernel: int = 3
    stride: int = 1
    activation: type[nn.Module] = nn.ReLU6
    squeezed_channels: int | None = None

    @property
    def expands(self) -> bool:
        """Whether there is an expand convolution."""
        return self.hidden_channels != self.in_channels

    @property
    def residual(self) -> bool:
        """Whether the input is added to the output."""
        return self.stride == 1 and self.in_channels == self.out_channels


class ConvNormActivation(nn.Sequential):
    """Convolution, norm, activation. Maps [N,C,H,W] to [N,C',H/stride,W/stride], rounded up."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int,
        groups: int,
        activation: type[nn.Module] = nn.ReLU6,
        norm: NormSetting = NormSetting(),
    ) -> None:
        super().__init__(
            nn.Conv2d(
                in_channels,
                out_channels,
                kernel,
                stride,
                padding=kernel // 2,
                groups=groups,
                bias=False,
            ),
            norm.build(out_channels),
            activation(),
        )


class SqueezeExcitation(nn.Module):
    """Channels scaled by what two 1x1 convolutions make of their means. Maps [N,C,H,W] to the same.

    Hu et al., CVPR 2018; with a hard sigmoid as in MobileNetV3, section 5.3.
    """

    def __init__(self, channels: int, squeezed_channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed_channels, 1)
        self.activation = nn.ReLU()
        self.fc2 = nn.Conv2d(squeezed_channels, channels, 1)
        self.scale_activation = nn.Hardsigmoid()

    def scale(self, x: Tensor) -> Tensor:
        """[N,C,H,W] -> [N,C,1,1]."""
        means = torch.mean(x, dim=(2, 3), keepdim=True)
        scale: Tensor = self.scale_activation(self.fc2(self.activation(self.fc1(means))))
        return scale

    def forward(self, x: Tensor) -> Tensor:
        return self.scale(x) * x


class InvertedResidual(nn.Module):
    """`body`, kept under the name that its state-dict keys start with, and the input added to it
    where shapes allow. Maps [N,C,H,W] to [N,C',H/stride,W/stride], rounded up.
    """

    def __init__(self, name: str, body: nn.Sequential, residual: bool) -> None:
        super().__init__()
        self.name = name
        self.residual = residual
        self.add_module(name, body)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.get_submodule(self.name)(x)
        return x + y if self.residual else y


def mobilenetv2_block(row: Block, norm: NormSetting = NormSetting()) -> InvertedResidual:
    """The block with MobileNetV2's keys, which has no squeeze-excite."""
    if row.squeezed_channels is not None:
        raise ValueError("MobileNetV2's keys have no place for squeeze-excite")
    layers = [
        *_inner_layers(row, norm),
        nn.Conv2d(row.hidden_channels, row.out_channels, 1, bias=False),
        norm.build(row.out_channels),
    ]
    return InvertedResidual("conv", nn.Sequential(*layers), row.residual)


def mobilenetv3_block(row: Block, norm: NormSetting) -> InvertedResidual:
    """The block with MobileNetV3's keys."""
    layers = _inner_layers(row, norm)
    if row.squeezed_channels is not None:
        layers.append(SqueezeExcitation(row.hidden_channels, row.squeezed_channels))
    project = nn.Conv2d(row.hidden_channels, row.out_channels, 1, bias=False)
    layers.append(nn.Sequential(project, norm.build(row.out_channels)))
    return InvertedResidual("block", nn.Sequential(*layers), row.residual)


def _inner_layers(row: Block, norm: NormSetting) -> list[nn.Module]:
    """Expand, if there is anything to expand, and depthwise."""
    hidden = row.hidden_channels
    depthwise = ConvNormActivation(
        hidden, hidden, row.kernel, row.stride, hidden, row.activation, norm
    )
    if not row.expands:
        return [depthwise]
    return [ConvNormActivation(row.in_channels, hidden, 1, 1, 1, row.activation, norm), depthwise]


class IrbNetwork(nn.Module):
    """Stem, inverted residual blocks, head, global average, classifier. [N,3,H,W] to logits [N,K].

    `features` holds stem, blocks and head in one row, as torchvision does. Any modules will do as
    blocks: what is trained in them and how is decided by the types of the layers inside. `title`
    is what messages call the network. Raises UnsupportedModel for a classifier that does not end
    in a linear layer: boards replace that one by their own.
    """

    def __init__(
        self,
        title: str,
        stem: Sequence[nn.Module],
        blocks: Sequence[nn.Module],
        head: Sequence[nn.Module],
        classifier: nn.Sequential,
    ) -> None:
        super().__init__()
        if not len(classifier) or not isinstance(classifier[-1], nn.Linear):
            raise UnsupportedModel(f"the classifier of {title} does not end in a linear layer")
        self.title = title
        self.block_count = len(blocks)
        self.head_count = len(head)
        self.features = nn.Sequential(*stem, *blocks, *head)
        self.classifier = classifier
        self._initialise()

    @property
    def classes_layer(self) -> str:
        """The name of the linear layer that gives the logits."""
        return f"classifier.{len(self.classifier) - 1}"

    def _initialise(self) -> None:
        """He's fan-out rule for convolutions, N(0, 0.01) for linear layers (torchvision's)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0.0, 0.01)
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        pooled = torch.mean(self.features(images), dim=(2, 3))
        logits: Tensor = self.classifier(pooled)
        return logits
