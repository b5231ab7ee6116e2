"""What the tests of the methods with a frozen backbone share: networks, and what backward reads."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from mobiletl.core.backbones import find_backbone
from mobiletl.core.backbones.inverted_residual import IrbNetwork
from mobiletl.core.methods import find_method
from mobiletl.core.transfer import Transfer, TransferTop

# Every backbone of the table, narrow where there are widths.
BACKBONES = ("mbv2-0.35", "mbv3-small-0.35", "mbv3-large-0.35", "proxyless-0.35", "mcunet-5fps")
# Those whose activations all have a one-bit form, and which have no squeeze-excite.
RELU6_BACKBONES = ("mbv2-0.35", "proxyless-0.35", "mcunet-5fps")
CLASSES = 3
RESOLUTION = 64
PICTURES = torch.randn(4, 3, RESOLUTION, RESOLUTION, generator=torch.Generator().manual_seed(5))
LABELS = torch.arange(4) % CLASSES
# Norms multiplied into kernels round once more, in up to 20 layers of float32.
FOLDED = {"rtol": 1e-3, "atol": 1e-4}
# A few steps at this rate move every tensor that is trained, and leave all of them finite.
LR = 0.01


@cache
def _pretrained(backbone: str) -> IrbNetwork:
    torch.manual_seed(0)
    network = find_backbone(backbone).build(CLASSES)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    with torch.no_grad():
        for norm in norms:
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.uniform_(-0.5, 0.5)
            norm.momentum = 1.0
        for module in network.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight)
        network.train()(PICTURES)
    return network.eval()


def pretrained(backbone: str) -> IrbNetwork:
    """The network with norms that know the statistics of their inputs."""
    return copy.deepcopy(_pretrained(backbone))


@cache
def _prepared(method: str, backbone: str) -> Transfer:
    return find_method(method).prepare(pretrained(backbone), None, resolution=RESOLUTION)


def prepared(method: str, backbone: str) -> Transfer:
    return copy.deepcopy(_prepared(method, backbone))


def moved(top: TransferTop) -> TransferTop:
    """`top` some way from its start: what was added to the backbone no longer adds zeros."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in top.named_parameters():
            if name.endswith(("last_norm.weight", "adaptor.expand.weight")):
                parameter.normal_(0.0, 0.3, generator=generator)
    return top


def trained_names(top: TransferTop) -> set[str]:
    return {name for name, parameter in top.named_parameters() if parameter.requires_grad}


def backbone_biases(backbone: str) -> set[str]:
    """Biases and shifts of the plain network, by its own names."""
    return {name for name, _ in pretrained(backbone).named_parameters() if name.endswith(".bias")}


def last_layer(top: TransferTop) -> set[str]:
    return {f"{top.classes_layer}.weight", f"{top.classes_layer}.bias"}


def gradients(top: TransferTop) -> dict[str, Tensor]:
    """By name, after one backward pass in training mode; only those autograd has filled in."""
    top.zero_grad()
    loss = functional.cross_entropy(top.train()(PICTURES), LABELS)
    loss.backward()  # type: ignore[no-untyped-call]
    return {n: p.grad.clone() for n, p in top.named_parameters() if p.grad is not None}


def steps(top: TransferTop, count: int = 3) -> None:
    """Plain gradient steps in place."""
    optimizer = torch.optim.SGD([p for p in top.parameters() if p.requires_grad], LR)
    for _ in range(count):
        gradients(top)
        optimizer.step()


def gradients_without_maps(
    top: TransferTop, is_trained_layer: Callable[[nn.Module], bool]
) -> tuple[dict[str, Tensor], int]:
    """The gradients with every float map that autograd saves replaced by NaN, and how many it were.

    Maps are tensors [N,C,H,W] of more than a pixel that are no parameters; those saved inside
    modules that `is_trained_layer` names stay. (That autograd saves a tensor does not mean that it
    reads it: a convolution always saves its input, and for the gradient of that input reads its
    shape alone.) So gradients that are the same as ever need no map.
    """
    kept = {parameter.untyped_storage().data_ptr() for parameter in top.parameters()}
    inside: list[nn.Module] = []
    replaced = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal replaced
        is_map = tensor.dim() == 4 and tensor.shape[2:].numel() > 1 and tensor.is_floating_point()
        if inside or not is_map or tensor.untyped_storage().data_ptr() in kept:
            return tensor
        replaced += 1
        return torch.full_like(tensor, torch.nan)

    with (
        _watching(top, is_trained_layer, inside),
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
    ):
        found = gradients(top)
    return found, replaced


@contextmanager
def _watching(
    top: nn.Module, wanted: Callable[[nn.Module], bool], inside: list[nn.Module]
) -> Iterator[None]:
    """Keep the wanted modules that are running in `inside`."""

    def enter(module: nn.Module, _inputs: tuple[Tensor, ...]) -> None:
        inside.append(module)

    def leave(_module: nn.Module, _inputs: tuple[Tensor, ...], _y: Tensor) -> None:
        inside.pop()

    hooks: list[RemovableHandle] = []
    for module in filter(wanted, top.modules()):
        hooks += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    yield
    for hook in hooks:
        hook.remove()


def trains_itself(module: nn.Module) -> bool:
    """Whether a module has trained tensors of its own, or is an activation beside such."""
    own = any(p.requires_grad for p in module.parameters(recurse=False))
    return (own and not hasattr(module, "offset")) or isinstance(module, nn.ReLU)
