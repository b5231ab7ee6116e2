"""The calls of the executorch package that the exporter makes, without its warnings and log lines.

The package announces every release that its interfaces are experimental, and its imports log what
optional parts they don't find. Both are about the package, not about a model.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def quiet() -> Iterator[None]:
    """Hide warnings, and log lines below an error, from the imports and calls inside."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        logging.disable(before)


def exported(module: nn.Module, examples: tuple[Tensor, ...]) -> Any:
    """The module as `torch.export` sees it, for the shapes of `examples`."""
    with quiet():
        return torch.export.export(module, examples, strict=False)


def _edge_options() -> Any:
    from executorch.exir import EdgeCompileConfig

    # The check knows neither delegates nor in-place updates. Without dimension orders a cast or a
    # copy is one loop over memory; with them it looks up an index per element, 20 times as slow.
    return EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True)


def edge_program(module: nn.Module, examples: tuple[Tensor, ...]) -> Any:
    """The module in the dialect that backends read."""
    with quiet():
        from executorch.exir import to_edge

        edge = to_edge(exported(module, examples), compile_config=_edge_options())
        return edge.exported_program()


def xnnpack_program(edge: Any) -> Any:
    """The whole of an edge program as one call of XNNPACK."""
    with quiet():
        from executorch.backends.xnnpack.xnnpack_preprocess import XnnpackBackend
        from executorch.exir.backend.backend_api import to_backend

        return to_backend(XnnpackBackend.__name__, edge, [])


def executorch_program(
    programs: Mapping[str, Any], partitioned: set[str], plans: Mapping[str, Any]
) -> Any:
    """One file's worth of methods from what `exported` gave.

    XNNPACK takes all that it can of the methods in `partitioned`. `plans` has the memory planning
    pass of each method.
    """
    with quiet():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import ExecutorchBackendConfig, to_edge_transform_and_lower

        edge = to_edge_transform_and_lower(
            dict(programs),
            partitioner={name: [XnnpackPartitioner()] for name in partitioned},
            compile_config=_edge_options(),
        )
        return edge.to_executorch(ExecutorchBackendConfig(memory_planning_pass=dict(plans)))
