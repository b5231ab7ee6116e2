"""The runtimes a bundle can serve, as a table; each module builds the files of one.

A module has `build(parts, graphs) -> Artifact`; it may raise UnsupportedModel or UsageError
(core/errors.py).
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mobiletl.core.errors import MissingDependency, UsageError
from mobiletl.export.parts import Parts
from mobiletl.export.runtimes.artifact import Artifact
from mobiletl.export.stock_graphs import StockGraphs

__all__ = ["DEFAULT_RUNTIMES", "RUNTIMES", "build_artifact", "find_runtimes"]

Build = Callable[[Parts, StockGraphs], Artifact]


@dataclass(frozen=True)
class Runtime:
    """One row. `package` is what has to be importable on the host, `install` what brings it."""

    name: str
    module: str
    rules: str
    """The module whose `RULES` translate operators: the two of core/layers/masks.py, too."""
    package: str = ""
    install: str = ""


RUNTIMES: tuple[Runtime, ...] = (
    Runtime(
        "onnxruntime",
        "mobiletl.export.runtimes.onnxruntime",
        "mobiletl.export.lowering.onnx.rules",
    ),
    Runtime(
        "onnxruntime-training",
        "mobiletl.export.runtimes.onnxruntime_training",
        "mobiletl.export.lowering.onnx.rules",
    ),
    Runtime(
        "executorch",
        "mobiletl.export.runtimes.executorch",
        "mobiletl.export.lowering.executorch.rules",
        "executorch",
        "pip install 'mobiletl[executorch]'",
    ),
    Runtime(
        "torchscript",
        "mobiletl.export.runtimes.torchscript",
        "mobiletl.export.lowering.torchscript.rules",
    ),
)
DEFAULT_RUNTIMES = (RUNTIMES[0].name,)  # the only one with wheels for every board


def find_runtimes(names: Sequence[str]) -> tuple[Runtime, ...]:
    """The rows called `names`, in the table's order.

    Raises UsageError for an unknown name or none, MissingDependency for a package that the host
    lacks.
    """
    known = {row.name: row for row in RUNTIMES}
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise UsageError(
            f"--runtimes names {', '.join(map(repr, unknown)) or 'nothing'}, expected one or more "
            f"of {', '.join(known)}, with commas between them"
        )
    chosen = tuple(row for row in RUNTIMES if row.name in names)
    for row in chosen:
        if row.package and importlib.util.find_spec(row.package) is None:
            raise MissingDependency(
                f"to export for {row.name} the package {row.package} is needed and not installed; "
                f"{row.install}, or leave {row.name} out of --runtimes"
            )
    return chosen


def build_artifact(row: Runtime, parts: Parts, graphs: StockGraphs) -> Artifact:
    """What `row` adds to the bundle; its module is imported here, not before."""
    build: Build = importlib.import_module(row.module).build
    return build(parts, graphs)
