"""The plan of a TorchScript program, on functions small enough to be counted by hand.

`test_measured_memory.py` holds it against what PyTorch really allocates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mobiletl.core.step import Entry
from mobiletl.export.lowering.torchscript.plan import plan_program
from mobiletl.export.tracing.functions import NEXT
from mobiletl.export.tracing.trace import Input, trace

FLOATS = 4


def peak(
    function: Callable[..., Sequence[Tensor]],
    *inputs: Input,
    batch: int = 8,
    classes: int = 3,
    entries: Sequence[Entry] = (),
    outputs: Sequence[str] = ("y",),
) -> int:
    moments = plan_program(trace(function, inputs, outputs), entries)
    return max(moment.at(batch, classes) for moment in moments)


X = Input("x", ("N", 6))


def test_a_chain_holds_an_operand_and_a_result() -> None:
    def chain(x: Tensor) -> Sequence[Tensor]:
        return (((x + 1).exp() * 2).sqrt(),)

    # The input is the caller's.
    assert peak(chain, X) == 2 * 8 * 6 * FLOATS
    assert peak(chain, X, batch=100) == 2 * 100 * 6 * FLOATS


def test_what_is_read_later_stays() -> None:
    def later(x: Tensor) -> Sequence[Tensor]:
        kept = x.exp()
        return ((kept * 2).sqrt() + kept,)

    assert peak(later, X) == 3 * 8 * 6 * FLOATS


def test_a_view_takes_nothing_and_keeps_its_source() -> None:
    def viewed(x: Tensor) -> Sequence[Tensor]:
        turned = x.exp().t()
        return (turned * 2,)

    assert peak(viewed, X) == 2 * 8 * 6 * FLOATS


def test_sizes_grow_with_n_and_k() -> None:
    def product(x: Tensor, w: Tensor) -> Sequence[Tensor]:
        return (x @ w.t(),)

    inputs = (X, Input("w", ("K", 6)))
    for batch, classes in ((1, 2), (8, 3), (5, 50)):
        found = peak(product, *inputs, batch=batch, classes=classes)
        assert found == batch * classes * FLOATS


def test_a_convolution_works_on_copies() -> None:
    weight = torch.ones(4, 2, 1, 1)

    def convolved(x: Tensor) -> Sequence[Tensor]:
        return (torch.nn.functional.conv2d(x, weight),)

    image = Input("x", ("N", 2, 5, 5))
    x, kernel, y = 8 * 2 * 25 * FLOATS, 4 * 2 * FLOATS, 8 * 4 * 25 * FLOATS
    assert peak(convolved, image) == y + max(x + kernel, y)


def test_a_new_state_is_written_over_the_old_one() -> None:
    def updated(w: Tensor, x: Tensor, lr: Tensor) -> Sequence[Tensor]:
        return (x.sum(), w - lr * x.sum(0))

    entry = Entry("w", "parameter", torch.zeros(6))
    found = peak(
        updated,
        Input("w", (6,)),
        X,
        Input("lr", ()),
        entries=[entry],
        outputs=("y", "w" + NEXT),
    )
    # The result, the sum over the batch, its product with the rate and the difference.
    assert found <= (1 + 3 * 6) * FLOATS


def test_a_function_of_nothing_takes_nothing() -> None:
    """Below a method that reaches the whole network there is no frozen layer."""
    assert peak(lambda x: (x,), X) == 0
