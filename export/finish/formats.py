"""The formats a trained network can be written in, as a table.

A row's module has `render(finished)`: contents by suffix, the main file's first.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mobiletl.core.errors import MissingDependency, UsageError
from mobiletl.export.finish.finished import Finished

Render = Callable[[Finished], Mapping[str, bytes]]


@dataclass(frozen=True)
class Format:
    """One row. `package` is what has to be importable, `install` what brings it."""

    name: str
    suffix: str
    module: str
    summary: str
    package: str = ""
    install: str = ""
    has_int8: bool = False


FORMATS = (
    Format(
        "onnx",
        ".onnx",
        "mobiletl.export.finish.to_onnx",
        "for onnxruntime and whatever else reads ONNX, any N",
        has_int8=True,
    ),
    Format(
        "executorch",
        ".pte",
        "mobiletl.export.finish.to_executorch",
        "for phones and C++ programs, with XNNPACK, one picture at a time",
        "executorch",
        "pip install 'mobiletl[executorch]'",
    ),
    Format(
        "torchscript",
        ".ts",
        "mobiletl.export.finish.to_torchscript",
        "for torch.jit.load in PyTorch 1.13 and newer, any N",
    ),
    Format(
        "torchvision",
        ".safetensors",
        "mobiletl.export.finish.to_torchvision",
        "weights under torchvision's keys (your own network's), for PyTorch",
    ),
)


def find_format(name: str, int8: bool) -> Format:
    """Raises UsageError for an unknown name or int8 where there is none, MissingDependency for a
    package that the host lacks.
    """
    known = {row.name: row for row in FORMATS}
    if name not in known:
        raise UsageError(f"--to {name}: no such format, expected one of {', '.join(known)}")
    row = known[name]
    if int8 and not row.has_int8:
        able = ", ".join(r.name for r in FORMATS if r.has_int8)
        raise UsageError(f"--int8 does not go with --to {name}, only with {able}; leave it out")
    if row.package and importlib.util.find_spec(row.package) is None:
        raise MissingDependency(
            f"--to {name} needs the package {row.package}, which is not installed; {row.install}"
        )
    return row


def render(row: Format, finished: Finished) -> Mapping[str, bytes]:
    """What to write; the format's module is imported here, not before."""
    function: Render = importlib.import_module(row.module).render
    return function(finished)
