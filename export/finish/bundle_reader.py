"""Reads, on the host, as much of a bundle as finishing needs (docs/bundle.md)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import onnx

from mobiletl.core.backbones import Backbone
from mobiletl.core.errors import UsageError
from mobiletl.core.methods import Method
from mobiletl.core.table import Named
from mobiletl.device.bundle.graph_scan import graph_bytes_problem
from mobiletl.device.bundle.levels import level_of_state
from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.bundle.manifest_files import read_levels, read_manifest
from mobiletl.device.bundle.outside_file import OddFile, inside_problem, read_outside
from mobiletl.device.errors import BadBundle
from mobiletl.device.finishing.joined import chained
from mobiletl.export.own_file import is_own
from mobiletl.export.own_method import method_named
from mobiletl.export.own_network import find_network

# The runtime whose graphs hold the frozen tensors in a form that can be read back.
RUNTIME = "onnxruntime"

Row = TypeVar("Row", bound=Named)


@dataclass(frozen=True)
class HostBundle:
    """A checked manifest, the network it is of, and the two graphs that hold its tensors."""

    path: Path
    manifest: Manifest
    backbone: Backbone
    method: Method
    features: onnx.ModelProto
    predict: onnx.ModelProto

    @property
    def id(self) -> str:
        """What a state of this bundle names."""
        return self.manifest.id

    @property
    def own(self) -> tuple[str, ...]:
        """Network and method, where they are somebody's own."""
        return tuple(n for n in (self.backbone.name, self.method.name) if is_own(n))

    @property
    def remedy(self) -> str:
        """What to try where network and graphs are not of a kind."""
        if self.own:
            return f"use {' and '.join(self.own)} as it was at the export"
        return f"use the release it was made by ({self.manifest.created_by})"


def read_bundle(
    path: Path, model: str | None = None, method: str | None = None, state: Path | None = None
) -> HostBundle:
    """The bundle at the level that the state file `state` fits.

    `model` is `FILE.py:FUNCTION` for a network of somebody's own, whose code no bundle holds, and
    `method` is `FILE.py:NAME` for such a method.

    Raises BadBundle for a folder that is no bundle, is changed, or serves no onnxruntime,
    UsageError for a `model` or `method` that is missing or another one, and what `find_network` and
    `method_named` raise.
    """
    manifest = read_manifest(path)
    if state is not None:
        manifest = level_of_state(read_levels(path, manifest), state) or manifest
    backbone = _chosen(path, "model", "network", manifest.model.name, model, find_network)
    way = _chosen(path, "method", "method", manifest.method.name, method, method_named)
    runtimes = manifest.runtimes
    if RUNTIME not in runtimes:
        raise BadBundle(
            f"{path} has files for {', '.join(runtimes) or 'no runtime'}, not for {RUNTIME}, whose "
            "graphs the frozen layers are read from; export it again with --runtimes onnxruntime"
        )
    files, chain = runtimes[RUNTIME].files, runtimes[RUNTIME].chain
    missing = [role for role in ("features", "predict") if role not in files]
    if missing:
        raise BadBundle(f"{path} names no {' and no '.join(missing)}; export the bundle again")
    features = chained([_graph(path, manifest, files[role]) for role in chain])
    predict = _graph(path, manifest, files["predict"])
    return HostBundle(path, manifest, backbone, way, features, predict)


def _chosen(
    path: Path, flag: str, noun: str, name: str, typed: str | None, find: Callable[[str], Row]
) -> Row:
    """What the manifest calls `name`; the file of somebody's own is the one that was `typed`."""
    if typed is None and is_own(name):
        raise UsageError(
            f"{path} is of {name}, a {noun} of somebody's own, whose code it does not hold; name "
            f"the file: --{flag} path/to/{name}"
        )
    found = find(name if typed is None else typed)
    if found.name != name:
        raise UsageError(
            f"--{flag} {typed}: {path} is of {name}; "
            + (f"expected path/to/{name}" if is_own(name) else f"leave --{flag} out")
        )
    return found


def _graph(path: Path, manifest: Manifest, name: str) -> onnx.ModelProto:
    file = path / name
    try:
        content = read_outside(file, manifest.files[name].bytes, follow=False)
    except OddFile as error:
        raise BadBundle(f"{file} {error}; copy the bundle again") from error
    except OSError as error:
        raise BadBundle(
            f"{file} cannot be read ({error.strerror}); copy the bundle again"
        ) from error
    if hashlib.sha256(content).hexdigest() != manifest.files[name].sha256:
        raise BadBundle(f"{file} has another SHA-256 than the manifest's; copy the bundle again")
    problem = inside_problem(path, name) or graph_bytes_problem(content)
    if problem:
        raise BadBundle(f"{file} {problem}; export the bundle again")
    return onnx.load_from_string(content)
