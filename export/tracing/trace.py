"""From a Python function over tensors to a flat graph of aten operators.

`make_fx` over a function that calls `torch.autograd.grad` gives forward, backward and update as one
graph, and keeps the backward of a custom `autograd.Function` (torch.export drops it and brings the
exact one back). Shapes are symbolic where a dimension is named, static elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import (
    DimDynamic,
    ShapeEnv,
    StatelessSymbolicContext,
)

from mobiletl.export.tracing.separable import ResizesAsProducts

# Sizes used while tracing stand for "any"; 0 and 1 would be taken as constants.
EXAMPLE_SIZE = {"N": 6, "K": 5}


@dataclass(frozen=True)
class Input:
    """One argument of a traced function. A string in `shape` names a dynamic dimension."""

    name: str
    shape: tuple[int | str, ...]
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True)
class Traced:
    """A graph with its interface. `symbols` maps the tracer's names to ours (`s0` to `N`)."""

    graph: fx.GraphModule
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    mode: FakeTensorMode
    arguments: tuple[Tensor, ...]

    def with_graph(self, graph: fx.GraphModule) -> Traced:
        """The same interface over another graph."""
        return Traced(graph, self.inputs, self.outputs, self.mode, self.arguments)

    def symbol_names(self) -> dict[str, str]:
        """Our name of each of the tracer's symbols."""
        names: dict[str, str] = {}
        for declared, value in zip(self.inputs, self.arguments, strict=True):
            for dim, size in zip(declared.shape, value.shape, strict=True):
                if isinstance(dim, str):
                    names[str(size)] = dim
        return names


def trace(
    function: Callable[..., Sequence[Tensor]],
    inputs: Sequence[Input],
    outputs: Sequence[str],
) -> Traced:
    """Trace `function(*inputs)`; it returns one tensor per name in `outputs`."""
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    arguments = tuple(_fake(mode, declared) for declared in inputs)
    graph = retrace(function, mode, arguments)
    return Traced(graph, tuple(inputs), tuple(outputs), mode, arguments)


def retrace(
    function: Callable[..., Sequence[Tensor]], mode: FakeTensorMode, arguments: Sequence[Tensor]
) -> fx.GraphModule:
    """Trace over fake arguments; what nobody reads is removed."""
    with mode, enable_python_dispatcher(), ResizesAsProducts():
        graph = make_fx(lambda *flat: tuple(function(*flat)))(*arguments)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def _fake(mode: FakeTensorMode, declared: Input) -> Tensor:
    sizes = [EXAMPLE_SIZE[d] if isinstance(d, str) else d for d in declared.shape]
    kinds = [
        DimDynamic.DYNAMIC if isinstance(d, str) else DimDynamic.STATIC for d in declared.shape
    ]
    context: StatelessSymbolicContext[Any, Any] = StatelessSymbolicContext(dynamic_sizes=kinds)
    real = torch.zeros(sizes, dtype=declared.dtype)
    return mode.from_tensor(real, symbolic_context=context)
