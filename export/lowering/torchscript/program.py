"""From a traced graph to a TorchScript program, N and K dynamic, loadable by PyTorch 1.13.

The program is written as source text, one line per operator, and compiled by `torch.jit`. Its state
is one list of tensors, in the manifest's order; a training step writes the new state over it.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sympy
import torch
from torch import Tensor, fx

from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.step import Entry
from mobiletl.export.lowering.origin import origin
from mobiletl.export.lowering.torchscript.rules import FUNCTIONS, OVERWRITING, RULES, is_getitem
from mobiletl.export.memory.in_place_order import Store, in_place_order, is_own_copy
from mobiletl.export.operators import FRESH, PASSED_ON, VIEWS
from mobiletl.export.tracing.functions import NEXT
from mobiletl.export.tracing.trace import Traced

INDENT = "    "
# The newest PyTorch calls all of torch.jit deprecated; what old ones load is written with it.
_DEPRECATED = r"`torch\.jit\.\w+` is (deprecated|not supported)"


def lower_to_torchscript(
    traced: Traced, entries: Sequence[Entry] = (), extra: Mapping[str, str] | None = None
) -> bytes:
    """A file for `torch.jit.load`; the first inputs, `entries`, come as one list, `state`. `extra`
    are texts that travel in the file, by name.

    Raises UnsupportedModel for an operator without a rule.
    """
    program = _Program(traced, entries)
    source = program.source()
    module = _compiled(source, program.constants)
    content = io.BytesIO()
    with _quiet():
        torch.jit.save(module, content, _extra_files=dict(extra or {}))
    return content.getvalue()


@dataclass(frozen=True)
class Line:
    """One step of a program in the order it runs. `shares` is the node in whose memory its result
    is: it is a view of it, or written over it; None where it gets memory of its own.
    """

    step: fx.Node | Store
    shares: fx.Node | None


def program_lines(traced: Traced, entries: Sequence[Entry] = ()) -> list[Line]:
    """The steps that `lower_to_torchscript` writes, for whoever plans their memory."""
    program = _Program(traced, entries)
    program.source()
    return program.lines


class _Program:
    """The source text of one function, and the tensors that it reads as attributes."""

    def __init__(self, traced: Traced, entries: Sequence[Entry]) -> None:
        self._traced = traced
        self._entries = len(entries)
        self._slots = {entry.name for entry in entries if entry.role == "slot"}
        self._graph = traced.graph.graph
        self._placeholders = list(self._graph.find_nodes(op="placeholder"))
        (output,) = self._graph.find_nodes(op="output")
        self._results = dict(zip(traced.outputs, output.args[0], strict=True))
        self._text: dict[fx.Node, str] = {}
        self._place: dict[fx.Node | Store, int] = {}
        self.constants: dict[str, Tensor] = {}
        self.lines: list[Line] = []

    def source(self) -> str:
        """All functions of the module."""
        lines = [*self._inputs(), *self._body()]
        plain = [name for name in self._traced.outputs if not name.endswith(NEXT)]
        values = [self._text[self._results[name]] for name in plain]
        if len(plain) < len(self._results):
            values.append("state")
        lines.append(f"return {', '.join(values)}")
        body = "".join(f"{INDENT}{line}\n" for line in lines)
        return f"{FUNCTIONS}\n{self._signature()}\n{body}"

    def _signature(self) -> str:
        declared = [f"{i.name}: Tensor" for i in self._traced.inputs[self._entries :]]
        if self._entries:
            declared.insert(0, "state: List[Tensor]")
        updates = any(name.endswith(NEXT) for name in self._results)
        kinds = ["Tensor" for name in self._results if not name.endswith(NEXT)]
        kinds += ["List[Tensor]"] if updates else []
        result = kinds[0] if len(kinds) == 1 else f"Tuple[{', '.join(kinds)}]"
        return f"def forward(self, {', '.join(declared)}) -> {result}:"

    def _inputs(self) -> list[str]:
        """Names for the list's members, and for the sizes that are dynamic."""
        lines = []
        sizes: dict[str, str] = {}
        for index, (declared, node) in enumerate(
            zip(self._traced.inputs, self._placeholders, strict=True)
        ):
            in_state = index < self._entries
            self._text[node] = f"state_{index}" if in_state else declared.name
            if in_state:
                lines.append(f"state_{index} = state[{index}]  # {declared.name}")
            for axis, size in enumerate(declared.shape):
                if isinstance(size, str):
                    sizes.setdefault(size, f"{size} = {self._text[node]}.size({axis})")
        return [*lines, *sizes.values()]

    def _body(self) -> list[str]:
        new_values = {
            node: self._results[declared.name + NEXT]
            for declared, node in zip(self._traced.inputs, self._placeholders, strict=True)
            if declared.name + NEXT in self._results
        }
        named = zip(self._traced.inputs, self._placeholders, strict=True)
        for_updates = {node for i, node in named if i.name == "lr" or i.name in self._slots}
        lines = []
        order = list(in_place_order(self._graph, new_values, for_updates))
        self._place = {step: place for place, step in enumerate(order)}
        for step in order:
            if isinstance(step, Store):
                lines.append(f"{self._text[step.entry]}.copy_({self._text[step.value]})")
                self.lines.append(Line(step, None))
            elif step.op == "get_attr":
                self._constant(step)
            elif is_own_copy(step, new_values) or step.target in PASSED_ON:
                self._text[step] = self._value(step.args[0])
                self.lines.append(Line(step, _node(step.args[0])))
            elif is_getitem(step):
                self.lines.append(Line(step, _node(step.args[0])))
            elif not isinstance(step.meta.get("val"), torch.SymInt):
                lines.append(self._line(step))
        return lines

    def _constant(self, node: fx.Node) -> None:
        name = f"constant_{len(self.constants)}"
        self.constants[name] = getattr(self._traced.graph, str(node.target)).detach()
        self._text[node] = f"self.{name}"

    def _line(self, node: fx.Node) -> str:
        rule = RULES.get(node.target)
        position, overwriting = OVERWRITING.get(node.target, (0, None))
        shares = _node(node.args[0]) if node.target in VIEWS else None
        if overwriting is not None and self._is_last_reader(node, node.args[position]):
            rule = overwriting
            shares = _node(node.args[position])
        self.lines.append(Line(node, shares))
        if rule is None:
            raise UnsupportedModel(
                f"the operator {node.target} of {origin(node, self._traced)} has no TorchScript "
                "translation; leave torchscript out of --runtimes, or add a rule to "
                "export/lowering/torchscript/rules.py"
            )
        expression = rule(node, [self._value(argument) for argument in node.args])
        values = node.meta["val"]
        if not isinstance(values, (tuple, list)):
            self._text[node] = node.name
            return f"{node.name} = {expression}"
        names = [f"{node.name}_result{index}" for index in range(len(values))]
        for reader in node.users:
            self._text[reader] = names[int(reader.args[1])]  # type: ignore[arg-type]
        return f"{', '.join(names)} = {expression}"

    def _is_last_reader(self, node: fx.Node, argument: Any) -> bool:
        """Whether `argument` has memory of its own that nobody reads after `node`."""
        source = argument.args[0] if is_getitem(argument) else argument
        if source.target not in FRESH:
            return False
        return all(
            reader.target not in VIEWS
            and reader.op != "output"
            and self._place[reader] <= self._place[node]
            for reader in argument.users
        )

    def _value(self, argument: Any) -> str:
        if isinstance(argument, fx.Node):
            value = argument.meta.get("val")
            return self._size(value) if isinstance(value, torch.SymInt) else self._text[argument]
        if isinstance(argument, (tuple, list)):
            return f"[{', '.join(self._value(member) for member in argument)}]"
        return self._size(argument) if isinstance(argument, torch.SymInt) else repr(argument)

    def _size(self, value: torch.SymInt) -> str:
        """A size as arithmetic on N and K."""
        expression = value.node.expr
        names = self._traced.symbol_names()
        named = expression.subs({s: sympy.Symbol(names[str(s)]) for s in expression.free_symbols})
        if not all(
            part.is_Symbol or part.is_Integer or part.func in (sympy.Add, sympy.Mul)
            for part in sympy.preorder_traversal(named)
        ):
            raise UnsupportedModel(
                f"the size {named} has no TorchScript form, expected sums and products"
            )
        return str(named)


def _node(argument: Any) -> fx.Node:
    assert isinstance(argument, fx.Node)
    return argument


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", _DEPRECATED, DeprecationWarning)
        yield


def _compiled(source: str, constants: Mapping[str, Tensor]) -> torch.jit.ScriptModule:
    # A class of its own: torch.jit keeps one compiled type per Python class.
    holder = type("Program", (torch.nn.Module,), {})()
    for name, value in constants.items():
        holder.register_buffer(name, value.contiguous())
    with _quiet():
        module: torch.jit.ScriptModule = torch.jit.script(holder)
        module.define(source)
    return module
