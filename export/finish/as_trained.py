"""A network whose method has put layers into it that the backbone's own code does not know: its
frozen layers and its top stay two parts, as they were exported. Letters: N pictures, K classes,
R the resolution.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mobiletl.core.backbones.inverted_residual import IrbNetwork
from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.transfer import Transfer, TransferTop
from mobiletl.export.finish.bundle_reader import HostBundle
from mobiletl.export.finish.frozen import prefix_constants
from mobiletl.export.own_file import is_own


def adds_layers(top: TransferTop, backbone: IrbNetwork) -> bool:
    """Whether `top` has parameters under names that are not the backbone's, or layers of classes
    that are neither the backbone's nor ours, which a method of somebody's own may have put there.
    """
    known = dict(backbone.named_modules())
    if any(name.rpartition(".")[0] not in known for name, _ in top.named_parameters()):
        return True
    pairs = [(layer, known[name]) for name, layer in top.named_modules() if name in known]
    return any(_is_foreign(layer, original) for layer, original in pairs)


def as_trained(bundle: HostBundle, transfer: Transfer, values: Mapping[str, Tensor]) -> nn.Module:
    """Images [N,3,R,R] to logits [N,K]: `transfer` with its top's tensors from `values` and its
    frozen layers from the bundle. Raises UnsupportedModel where these do not fit.
    """
    with torch.no_grad():
        for layer, constants in prefix_constants(bundle, transfer.prefix):
            for name, value in constants.items():
                layer.get_parameter(name).copy_(value)
        _fill(bundle, transfer.top, values)
    return nn.Sequential(transfer.prefix, transfer.top).eval().requires_grad_(False)


def _is_foreign(layer: nn.Module, original: nn.Module) -> bool:
    """A frozen norm leaves an identity behind; the top keeps its layers in dictionaries."""
    if _class_name(layer) == _class_name(original) or isinstance(layer, nn.ModuleDict):
        return False
    if isinstance(layer, nn.Identity):
        return not isinstance(original, nn.BatchNorm2d)
    return not type(layer).__module__.startswith("mobiletl.")


def _class_name(layer: nn.Module) -> str:
    """Two networks have classes of one name, not the same ones, where a function makes them."""
    return f"{type(layer).__module__}.{type(layer).__qualname__}"


def _fill(bundle: HostBundle, top: TransferTop, values: Mapping[str, Tensor]) -> None:
    """What the graph doesn't read need not be there."""
    needed = {
        name
        for name, parameter in top.named_parameters()
        if parameter.requires_grad or not is_own(bundle.method.name)
    }
    for name, tensor in [*top.named_parameters(), *top.named_buffers()]:
        value = values.get(name)
        if value is None and name in needed:
            raise UnsupportedModel(
                f"{name} of {bundle.method.name} is neither in the state nor in the graphs of "
                f"{bundle.path}; {bundle.remedy}"
            )
        if value is not None and value.shape != tensor.shape:
            raise UnsupportedModel(
                f"{name} of {bundle.method.name} is {list(tensor.shape)}, but {list(value.shape)} "
                f"in {bundle.path}; {bundle.remedy}"
            )
        if value is not None:
            tensor.copy_(value)
