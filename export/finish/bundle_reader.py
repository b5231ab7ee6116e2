"""Reads, on the host, as much of a bundle as finishing needs (docs/bundle.md)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx

from mobiletl.core.backbones import Backbone
from mobiletl.core.errors import UsageError
from mobiletl.device.bundle.bundle import read_manifest
from mobiletl.device.bundle.digest import file_digest
from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.errors import BadBundle
from mobiletl.export.own_network import find_network, is_own

# The runtime whose graphs hold the frozen tensors in a form that can be read back.
RUNTIME = "onnxruntime"


@dataclass(frozen=True)
class HostBundle:
    """A checked manifest, the network it is of, and the two graphs that hold its tensors."""

    path: Path
    manifest: Manifest
    backbone: Backbone
    features: onnx.ModelProto
    predict: onnx.ModelProto

    @property
    def id(self) -> str:
        """What a state of this bundle names."""
        return self.manifest.id

    @property
    def remedy(self) -> str:
        """What to try where network and graphs are not of a kind."""
        if is_own(self.backbone.name):
            return f"use {self.backbone.name} as it was at the export"
        return f"use the release it was made by ({self.manifest.created_by})"


def read_bundle(path: Path, model: str | None = None) -> HostBundle:
    """`model` is `FILE.py:FUNCTION` for a network of somebody's own, whose code no bundle holds.

    Raises BadBundle for a folder that is no bundle, is changed, or serves no onnxruntime,
    UsageError for a `model` that is missing or another one, and what `find_network` raises.
    """
    manifest = read_manifest(path)
    backbone = _backbone(path, manifest.model.name, model)
    runtimes = manifest.runtimes
    if RUNTIME not in runtimes:
        raise BadBundle(
            f"{path} has files for {', '.join(runtimes) or 'no runtime'}, not for {RUNTIME}, whose "
            "graphs the frozen layers are read from; export it again with --runtimes onnxruntime"
        )
    files = runtimes[RUNTIME].files
    graphs = {role: _graph(path, manifest, files[role]) for role in ("features", "predict")}
    return HostBundle(path, manifest, backbone, **graphs)


def _backbone(path: Path, name: str, model: str | None) -> Backbone:
    if model is None and is_own(name):
        raise UsageError(
            f"{path} is of {name}, a network of somebody's own, whose code it does not hold; name "
            f"the file: --model path/to/{name}"
        )
    backbone = find_network(name if model is None else model)
    if backbone.name != name:
        raise UsageError(
            f"--model {model}: {path} is of {name}; "
            + (f"expected path/to/{name}" if is_own(name) else "leave --model out")
        )
    return backbone


def _graph(path: Path, manifest: Manifest, name: str) -> onnx.ModelProto:
    file = path / name
    try:
        if file_digest(file) != manifest.files[name].sha256:
            raise BadBundle(
                f"{file} has another SHA-256 than the manifest's; copy the bundle again"
            )
        return onnx.load_from_string(file.read_bytes())
    except OSError as error:
        raise BadBundle(
            f"{file} cannot be read ({error.strerror}); copy the bundle again"
        ) from error
