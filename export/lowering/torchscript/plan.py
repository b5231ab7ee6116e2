"""What a TorchScript program holds while it runs, as formulas in N and K.

Letters: N pictures in a batch, K classes. Bytes throughout. TorchScript runs the lines of a program
in their order and frees a tensor after the line that reads it last, so that the sum of live tensors
is known at every line. Inputs, the state and constants are not counted: they have rows of their own
in the memory plan.

Convolutions take more than their results. PyTorch hands them to oneDNN, which works on copies in a
layout of its own (PyTorch 2.13, x86-64, counted by an allocator in place of malloc; to 3 %):

| operator | copies that live at once, the larger |
|---|---|
| convolution | its input and its kernel; or its result |
| gradient of the input | the incoming gradient and the kernel; or its result |
| gradient of the kernel | the incoming gradient and the input; or its result |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from mobiletl.core.step import Entry
from mobiletl.export.lowering.torchscript.program import Line, program_lines
from mobiletl.export.memory.in_place_order import Store
from mobiletl.export.memory.plan import Bytes, formula, pareto
from mobiletl.export.tracing.trace import Traced

aten = torch.ops.aten
# A piece of memory: the node that allocates it and which of its results it is.
Piece = tuple[fx.Node, int]
NOTHING = Bytes()


def plan_program(traced: Traced, entries: Sequence[Entry] = ()) -> tuple[Bytes, ...]:
    """The sums of live bytes that can be the peak for some N and K.

    `entries` are the first inputs of a training step, as for `lower_to_torchscript`.
    """
    lines = program_lines(traced, entries)
    memory = _Memory(traced, lines)
    return pareto(memory.moments())


class _Memory:
    """Which piece of memory each node's results are in, and when each piece is used last."""

    def __init__(self, traced: Traced, lines: Sequence[Line]) -> None:
        self._symbols = traced.symbol_names()
        self._lines = lines
        self._pieces: dict[fx.Node, list[Piece | None]] = {}
        self._sizes: dict[Piece, Bytes] = {}
        self._born: dict[Piece, int] = {}
        self._last: dict[Piece, int] = {}
        for place, line in enumerate(lines):
            self._run(place, line)
        (output,) = traced.graph.graph.find_nodes(op="output")
        for result in output.all_input_nodes:
            self._use(result, len(lines))

    def moments(self) -> Iterator[Bytes]:
        """The sum of live tensors during every line, with what the line itself needs."""
        ends: dict[int, list[Piece]] = {}
        for piece, place in self._last.items():
            ends.setdefault(place, []).append(piece)
        births: dict[int, list[Piece]] = {}
        for piece, place in self._born.items():
            births.setdefault(place, []).append(piece)
        live = NOTHING
        yield live  # a function may have no line at all
        for place, line in enumerate(self._lines):
            for piece in births.get(place, ()):
                live = live.plus(self._sizes[piece])
            for workspace in self._workspaces(line):
                yield live.plus(workspace)
            for piece in ends.get(place, ()):
                live = live.plus(self._sizes[piece].negative())

    def _run(self, place: int, line: Line) -> None:
        step = line.step
        if isinstance(step, Store):
            self._use(step.value, place)
            return
        for source in step.all_input_nodes:
            self._use(source, place)
        if line.shares is not None:
            self._pieces[step] = self._shared(step, line.shares)
        else:
            self._pieces[step] = [
                self._allocate((step, index), value, place)
                for index, value in enumerate(_results(step))
            ]
        self._use(step, place)

    def _shared(self, step: fx.Node, source: fx.Node) -> list[Piece | None]:
        pieces = self._pieces.get(source, [])
        if line_takes_one(step, source):
            _, index = step.args
            assert isinstance(index, int)
            return pieces[index : index + 1]
        return pieces[:1]

    def _allocate(self, piece: Piece, value: Any, place: int) -> Piece | None:
        if not isinstance(value, Tensor):
            return None
        self._sizes[piece] = self._bytes(value)
        self._born[piece] = place
        return piece

    def _use(self, node: fx.Node, place: int) -> None:
        for piece in self._pieces.get(node, ()):
            if piece is not None:
                self._last[piece] = max(place, self._last.get(piece, place))

    def _workspaces(self, line: Line) -> Iterator[Bytes]:
        """What the line takes beside its operands and results; each may be the largest."""
        step = line.step
        if isinstance(step, fx.Node) and step.target is aten.convolution.default:
            x, weight = (self._value(argument) for argument in step.args[:2])
            yield x.plus(weight)
            yield self._bytes(step.meta["val"])
        elif isinstance(step, fx.Node) and step.target is aten.convolution_backward.default:
            gradient, x, weight = (self._value(argument) for argument in step.args[:3])
            wanted = step.args[-1]
            assert isinstance(wanted, (tuple, list))
            wants_input, wants_kernel, _ = wanted
            if wants_kernel:
                # The input's gradient comes first, where the kernel's is not allocated yet: it
                # takes less than this.
                yield gradient.plus(x)
                yield weight
            elif wants_input:
                yield gradient.plus(weight)
                yield x
        elif isinstance(step, fx.Node) and step.target is torch.ops.mobiletl.pack_bytes.default:
            yield self._value(step.args[0])  # the quotients, before they are bytes
        else:
            yield NOTHING

    def _value(self, argument: Any) -> Bytes:
        assert isinstance(argument, fx.Node)
        return self._bytes(argument.meta["val"])

    def _bytes(self, value: Tensor) -> Bytes:
        return formula(lambda n, k: _size(value, self._symbols, {"N": n, "K": k}))


def line_takes_one(step: fx.Node, source: fx.Node) -> bool:
    """Whether `step` is one of several results of `source`."""
    return isinstance(source.meta.get("val"), (tuple, list)) and step.args[0] is source


def _results(step: fx.Node) -> Sequence[Any]:
    value = step.meta.get("val")
    return value if isinstance(value, (tuple, list)) else (value,)


def _size(value: Tensor, symbols: Mapping[str, str], sizes: Mapping[str, int]) -> int:
    """Bytes of a traced tensor for one N and K."""
    elements = 1
    for side in value.shape:
        symbolic: Any = getattr(side, "node", None)
        if symbolic is None:
            elements *= int(side)
        else:
            named = {s: sizes[symbols[str(s)]] for s in symbolic.expr.free_symbols}
            elements *= int(symbolic.expr.subs(named))
    return elements * value.dtype.itemsize
