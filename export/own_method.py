"""Methods by name: those of `core/methods/`, and a person's own, `path/to/file.py:NAME`.

NAME is a `Method` (docs/own-method.md); own_file.py opens and runs its file. Whoever prepares a
network with it gets the checks below along: a method may do to the top what it likes, as long as
boards can train what is left. Letters: N pictures, K classes, R the resolution.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import FunctionType

import torch
from torch import Tensor, nn

from mobiletl.core.errors import UnsupportedModel, UsageError
from mobiletl.core.methods import Method, Reach, find_method
from mobiletl.core.methods.side_branch import fixed_seed
from mobiletl.core.saved import Saved
from mobiletl.core.step import cross_entropy
from mobiletl.core.transfer import Transfer, TransferTop, count_no_batches, trained_norms
from mobiletl.export.own_file import OwnFile, Wanted, is_own, open_own, refuse, title_of, where

FORM = "FILE.py:NAME"
_METHOD = Wanted("--method", "Method", FORM, "NAME", lambda value, _module: type(value) is Method)
_PAGE = "docs/own-method.md"
_PICTURES = 2
_STATISTICS = ("running_mean", "running_var")


def method_named(name: str) -> Method:
    """The method of that name; a person's own is called `depthwise.py:NAME` from here on.

    Raises UsageError for a file or a name in it that is not there, UnsupportedModel for an unknown
    name or for what is no method.
    """
    if not is_own(name):
        return _known(name)
    file, value = open_own(name, _METHOD)
    title = title_of(name)
    row = _require_method(value, name.rpartition(":")[2], title)
    refuse(title, _row_problems(row), _PAGE)
    return replace(row, name=title, apply=_Checked(file, title, row.apply))


def _known(name: str) -> Method:
    try:
        return find_method(name)
    except UnsupportedModel as error:
        raise UnsupportedModel(f"{error}, or {FORM} for one of your own ({_PAGE})") from error


def _require_method(row: object, name: str, title: str) -> Method:
    """Raise UsageError for what is no method; for a function, how it becomes one."""
    if isinstance(row, Method):
        return row
    hint = ""
    if isinstance(row, FunctionType):
        hint = f"; try row = Method({name!r}, 'what it trains', {name}, Reach.BLOCKS)"
    raise UsageError(
        f"--method {title} is a {type(row).__name__}, expected a Method of mobiletl.core.methods"
        f"{hint} ({_PAGE})"
    )


def _row_problems(row: Method) -> Iterator[str]:
    """Fields of other types than they should be: nothing has checked a person's own."""
    fields: dict[str, object] = vars(row)
    known = ", ".join(f"Reach.{reach.name}" for reach in Reach)
    if not callable(fields["apply"]):
        yield f"its apply is {fields['apply']!r}, expected a function that takes a Transfer"
    if not isinstance(fields["reach"], Reach):
        yield f"its reach is {fields['reach']!r}, expected one of {known}"
    if not isinstance(fields["saved"], Saved):
        known = "FLOAT32, ONE_BIT or EIGHT_BIT (core/saved)"
        yield f"its saved is {fields['saved']!r}, expected {known}"


@dataclass(frozen=True)
class _Checked:
    """A person's `apply`, and the checks of what it has made of a network."""

    file: OwnFile
    title: str
    apply: Callable[[Transfer], object]

    def __call__(self, transfer: Transfer) -> None:
        top, frozen = transfer.top, _Frozen(transfer.prefix)
        last_name = top.classes_layer
        last = top.get_submodule(last_name)
        top.train()  # as every step begins; a norm in another mode was put there by the method
        with fixed_seed():
            returned = self.file.call(self.title, self.apply, transfer)
        if returned is not None:
            raise UnsupportedModel(
                f"{self.title} returned {type(returned).__name__}, expected None: a method changes "
                f"transfer.top in place ({_PAGE})"
            )
        problems = [*frozen.problems(), *_last_layer_problems(top, last_name, last)]
        problems += [*_norm_problems(top), *_tensor_problems(top)]
        count_no_batches(top)
        refuse(self.title, problems or self._step_problems(transfer), _PAGE)

    def _step_problems(self, transfer: Transfer) -> Iterator[str]:
        """One step is taken, on a copy: in training mode norms change as they run."""
        side = transfer.resolution
        pictures = torch.randn(_PICTURES, 3, side, side, generator=torch.Generator().manual_seed(0))
        try:
            with torch.device("cpu"), fixed_seed():
                top = copy.deepcopy(transfer.top).train()
                with torch.no_grad():
                    h = transfer.prefix(pictures)
                yield from _gradient_problems(top, h)
        except Exception as error:  # noqa: BLE001 - a person's own code may raise anything
            found = where(error, self.file.path)
            yield f"a picture of {side} px does not pass forward and backward: {found}"


class _Frozen:
    """The frozen layers as they were: boards run them once per picture, and keep what comes out."""

    def __init__(self, prefix: nn.Sequential) -> None:
        self._prefix = prefix
        self._layers = str(prefix)
        self._tensors = {key: value.clone() for key, value in prefix.state_dict().items()}

    def problems(self) -> Iterator[str]:
        """How they differ from that now."""
        found = self._prefix.state_dict()
        changed = [
            k for k, v in self._tensors.items() if k in found and not torch.equal(v, found[k])
        ]
        trained = [name for name, p in self._prefix.named_parameters() if p.requires_grad]
        if str(self._prefix) != self._layers or found.keys() != self._tensors.keys():
            yield "it changes layers of the frozen prefix, expected changes of transfer.top only"
        elif changed or trained:
            yield (
                f"it {'changes' if changed else 'trains'} {(changed or trained)[0]} of the frozen "
                "prefix, expected changes of transfer.top only; Reach.NETWORK puts all layers there"
            )


def _last_layer_problems(top: TransferTop, name: str, last: nn.Module) -> Iterator[str]:
    """Boards make the layer that gives the logits anew, for the classes that they find."""
    trained = [key for key, parameter in top.named_parameters() if parameter.requires_grad]
    layers = dict(top.named_modules())
    keys = {key for key, _ in last.named_parameters()}
    if not trained:
        yield f"it trains nothing, expected the last layer ({name}) at least"
    elif layers.get(name) is not last or list(top.classifier)[-1:] != [name.rpartition(".")[2]]:
        yield (
            f"the last layer, {name}, has gone or has another behind it, expected it where it was: "
            "boards make it anew for their classes"
        )
    elif not keys <= {"weight", "bias"} or not {f"{name}.{key}" for key in keys} <= set(trained):
        yield (
            f"the last layer, {name}, is not trained as a whole, but boards make it anew for their "
            "classes; try transfer.top.get_submodule(transfer.top.classes_layer)"
            ".requires_grad_(True)"
        )


def _norm_problems(top: TransferTop) -> Iterator[str]:
    """A step puts the top into training mode: a mode that a method has chosen would be lost."""
    for name, norm in trained_norms(top):
        if not norm.training:
            yield (
                f"the norm {name} is in eval mode, but a step computes the statistics of every "
                "BatchNorm2d in the top; try fold_norms(transfer.top.features.eval()) of "
                "mobiletl.core.transfer, which freezes norms"
            )


def _tensor_problems(top: TransferTop) -> Iterator[str]:
    for name, tensor in [*top.named_parameters(), *top.named_buffers()]:
        if not tensor.is_floating_point():
            continue
        if tensor.dtype != torch.float32:
            yield f"{name} is {tensor.dtype}, expected torch.float32"
        elif not tensor.isfinite().all():
            yield f"it leaves NaN or infinity in {name}"


def _gradient_problems(top: TransferTop, h: Tensor) -> Iterator[str]:
    """What is wrong with one step of `top`, which is used up."""
    statistics = {f"{name}.{key}" for name, _ in trained_norms(top) for key in _STATISTICS}
    before = {k: v.clone() for k, v in top.named_buffers() if k not in statistics}
    logits = top(h)
    expected = (len(h), top.get_parameter(f"{top.classes_layer}.weight").shape[0])
    if logits.shape != expected:
        yield f"{len(h)} pictures give {list(logits.shape)}, expected [N,K] = {list(expected)}"
        return
    trained = {name: p for name, p in top.named_parameters() if p.requires_grad}
    loss = cross_entropy(logits, torch.zeros(len(h), dtype=torch.int64))
    gradients: Sequence[Tensor | None] = torch.autograd.grad(
        loss, list(trained.values()), allow_unused=True
    )
    found = dict(zip(trained, gradients, strict=True))
    unused = [name for name, gradient in found.items() if gradient is None]
    if unused:
        more = f" and {len(unused) - 1} more" if len(unused) > 1 else ""
        yield f"it trains {unused[0]}{more}, on which the loss does not depend; freeze the unused"
    for name, gradient in found.items():
        if gradient is not None and not gradient.isfinite().all():
            yield f"the gradient of {name} is NaN or infinity"
    for name, value in top.named_buffers():
        if name in before and not torch.equal(before[name], value):
            yield f"{name} changes as it runs, but only parameters and statistics are kept"
