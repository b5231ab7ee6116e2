"""The trained network as PyTorch knows it: the backbone's own layers and state-dict keys.

Where a norm was folded at export its statistics are gone. Its place is taken by a norm that does
nothing but add (mean 0, variance 1 - eps, scale 1, shift the folded bias), which is exact in
inference mode. Letters: N pictures, R the resolution, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn

from mobiletl.core.backbones.inverted_residual import IrbNetwork
from mobiletl.core.errors import BadWeights, UnsupportedModel, UsageError
from mobiletl.core.transfer import Transfer, split
from mobiletl.export.finish.as_trained import adds_layers, as_trained
from mobiletl.export.finish.bundle_reader import HostBundle
from mobiletl.export.finish.finished import Finished
from mobiletl.export.finish.frozen import named_constants, prefix_constants
from mobiletl.export.finish.state_reader import State
from mobiletl.export.weights.loading import weights_of

Tensors = dict[str, Tensor]
# Folding the original layers again repeats the same float32 operations on another PyTorch.
_SAME_FOLD = 1e-5


def finished_network(
    bundle: HostBundle, state: State, source: str | None, ema: bool = False
) -> Finished:
    """The network for the state's classes; the frozen layers get their norms back from the weights
    `source`, where that is named, or with `ema` from the moving average in it. Raises
    UnsupportedModel, BadWeights or UsageError.
    """
    classes = len(state.class_names)
    backbone, transfer = bundle.backbone.build(classes), _prepared(bundle, classes)
    if adds_layers(transfer.top, backbone):
        if source is not None:
            raise UsageError(
                f"--weights {source}: {bundle.method.name} has put layers beside the blocks, and "
                "such a network keeps its norms folded; leave --weights out"
            )
        network = as_trained(bundle, transfer, _top_tensors(bundle, state))
        return Finished(network, {}, True, state.class_names, bundle.manifest, state.answers)
    tensors = finished_tensors(bundle, state)
    if source is not None:
        tensors = unfolded(tensors, bundle, state, source, ema)
    network = _inference_network(backbone, tensors)
    return Finished(network, tensors, False, state.class_names, bundle.manifest, state.answers)


def finished_tensors(bundle: HostBundle, state: State) -> Tensors:
    """Every tensor of the backbone for the state's classes, under the backbone's keys. Raises
    UnsupportedModel for a bundle that another release, or another network of one's own, made.
    """
    model = bundle.backbone.build(len(state.class_names))
    norms = _norms(model)
    top = _top_tensors(bundle, state)
    found = {key: top[key] for key in model.state_dict() if key in top}
    found.update(_prefix_tensors(bundle, norms))
    try:
        for conv, (name, norm) in norms.items():
            if f"{name}.running_mean" not in found:
                found.update(_constant_norm(name, norm, *_affine(top, conv, name)))
            found[f"{name}.num_batches_tracked"] = torch.zeros((), dtype=torch.int64)
        finished = {key: found[key] for key in model.state_dict()}
    except KeyError as missing:
        raise UnsupportedModel(
            f"{missing} of {bundle.backbone.name} is neither in the state nor in the graphs of "
            f"{bundle.path}; {bundle.remedy}"
        ) from missing
    for key, tensor in model.state_dict().items():
        if finished[key].shape != tensor.shape:
            raise UnsupportedModel(
                f"{key} of {bundle.backbone.name} is {list(tensor.shape)}, but "
                f"{list(finished[key].shape)} in {bundle.path}; {bundle.remedy}"
            )
    return finished


def unfolded(
    tensors: Tensors, bundle: HostBundle, state: State, source: str, ema: bool = False
) -> Tensors:
    """`tensors` with the frozen layers as they were before export, from the weights `source`.

    Raises BadWeights if those do not fold to what the bundle holds.
    """
    weights = weights_of(bundle.backbone, source, ema)
    if weights is None:
        raise BadWeights("--weights none names nothing to take the frozen layers from")
    norms = _norms(bundle.backbone.build(2))
    trained = {entry.name for entry in bundle.manifest.state}
    result = dict(tensors)
    for conv, (norm_name, norm) in norms.items():
        keys = [f"{norm_name}.{leaf}" for leaf in ("weight", "running_mean", "running_var")]
        if keys[1] in trained:
            continue
        if f"{conv}.weight" in trained and (tensors[f"{norm_name}.weight"] == 1).all():
            continue  # the scale is in a kernel that has been trained since: no weights have it
        if f"{conv}.weight" not in trained:
            keys += [f"{conv}.weight", f"{norm_name}.bias"]
        original = {**result, **{key: weights[key] for key in keys}}
        if f"{norm_name}.bias" in trained:
            original[f"{norm_name}.bias"] = torch.from_numpy(state.tensors[f"{norm_name}.bias"])
        before, after = (_folded(t, conv, norm_name, norm) for t in (tensors, original))
        if not all(_close(b, a) for b, a in zip(before, after, strict=True)):
            raise BadWeights(
                f"{source}: {conv} does not fold to what {bundle.path} holds; name the weights "
                f"the bundle was exported from ({bundle.manifest.model.weights})"
            )
        result = original
    return result


def _inference_network(backbone: IrbNetwork, tensors: Tensors) -> nn.Module:
    """Images [N,3,R,R] to logits [N,K], every norm of the backbone folded into the convolution
    before it.
    """
    backbone.load_state_dict(tensors)
    transfer = split(backbone, None)
    linear = transfer.top.get_submodule(transfer.top.classes_layer)
    return nn.Sequential(transfer.prefix, nn.Flatten(), linear).eval().requires_grad_(False)


def _prepared(bundle: HostBundle, classes: int) -> Transfer:
    """The network as it was cut and rewritten for the export, with other numbers in it."""
    manifest = bundle.manifest
    blocks = None if bundle.method.default_blocks is None else manifest.method.blocks
    model = bundle.backbone.build(classes)
    return bundle.method.prepare(model, blocks, resolution=manifest.input.resolution)


def _top_tensors(bundle: HostBundle, state: State) -> Tensors:
    """What is trained, from the state, and what is frozen in the top, from the graph."""
    trained = {key: torch.from_numpy(value) for key, value in state.tensors.items()}
    return {**named_constants(bundle.predict.graph), **trained}


def _affine(top: Tensors, conv: str, norm: str) -> tuple[Tensor, Tensor]:
    """(scale, shift) of a norm without statistics of its own. Where they aren't frozen beside a
    trained kernel, the scale is in the kernel already, and a shift that isn't trained is the
    convolution's bias.
    """
    if f"{norm}.bias" in top:
        offset = top[f"{norm}.offset"]
        return top.get(f"{norm}.scale", torch.ones_like(offset)), top[f"{norm}.bias"] - offset
    shift = top[f"{conv}.bias"]
    return torch.ones_like(shift), shift


def _norms(model: IrbNetwork) -> dict[str, tuple[str, nn.BatchNorm2d]]:
    """Each convolution that a norm follows: its name to the norm's name and the norm."""
    pairs = {}
    for name, sequence in model.named_modules():
        if not isinstance(sequence, nn.Sequential):
            continue
        for (place, conv), (norm_place, norm) in pairwise(list(sequence.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                pairs[f"{name}.{place}"] = (f"{name}.{norm_place}", norm)
    return pairs


def _prefix_tensors(bundle: HostBundle, norms: Mapping[str, tuple[str, nn.BatchNorm2d]]) -> Tensors:
    """The frozen layers, a norm of its own behind each convolution that had one."""
    names = _backbone_names(bundle.backbone.build(2))
    prefix = _prepared(bundle, classes=2).prefix
    found: Tensors = {}
    places = {layer: name for name, layer in prefix.named_modules()}
    for layer, values in prefix_constants(bundle, prefix):
        key = names[places[layer]]
        found[f"{key}.weight"] = values["weight"]
        if key not in norms:
            found[f"{key}.bias"] = values["bias"]
            continue
        norm_name, norm = norms[key]
        ones = torch.ones_like(values["bias"])
        found.update(_constant_norm(norm_name, norm, ones, values["bias"]))
    return found


def _backbone_names(model: IrbNetwork) -> dict[str, str]:
    """Names inside a prefix to names inside the backbone: the prefix numbers its layers anew, first
    those of `features`, then (where all of them are frozen) average, flattening and classifier.
    """
    features = dict(model.features.named_modules())
    names = {name: f"features.{name}" for name in features if name}
    behind = len(model.features) + 2
    hidden = [
        n for n, layer in model.classifier.named_children() if not isinstance(layer, nn.Dropout)
    ]
    names.update({str(behind + i): f"classifier.{name}" for i, name in enumerate(hidden)})
    return names


def _constant_norm(name: str, norm: nn.BatchNorm2d, scale: Tensor, shift: Tensor) -> Tensors:
    """A batch norm that maps x to x * scale + shift in inference mode."""
    return {
        f"{name}.weight": scale,
        f"{name}.bias": shift,
        f"{name}.running_mean": torch.zeros_like(scale),
        f"{name}.running_var": torch.full_like(scale, 1.0 - norm.eps),
    }


def _folded(tensors: Tensors, conv: str, name: str, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """(kernel, bias) of the convolution with its norm multiplied in."""
    scale = tensors[f"{name}.weight"] * torch.rsqrt(tensors[f"{name}.running_var"] + norm.eps)
    kernel = tensors[f"{conv}.weight"] * scale.view(-1, 1, 1, 1)
    return kernel, tensors[f"{name}.bias"] - tensors[f"{name}.running_mean"] * scale


def _close(found: Tensor, wanted: Tensor) -> bool:
    return bool((found - wanted).norm() <= _SAME_FOLD * wanted.norm().clamp_min(1e-12))
