"""Reads, on the host, as much of a bundle as finishing needs (docs/bundle.md)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from mobiletl.core.backbones import Backbone
from mobiletl.core.errors import BadBundle, UsageError
from mobiletl.export.own_network import find_network, is_own
from mobiletl.export.writing.writer import FORMAT, MANIFEST, VERSION, manifest_id

# The runtime whose graphs hold the frozen tensors in a form that can be read back.
RUNTIME = "onnxruntime"
# Sections that are used here; a manifest whose id is right has whatever the exporter wrote.
_NEEDED = ("model", "method", "input", "feature", "state", "runtimes", "memory", "files")


@dataclass(frozen=True)
class HostBundle:
    """A checked manifest, the network it is of, and the two graphs that hold its tensors."""

    path: Path
    manifest: dict[str, Any]
    backbone: Backbone
    features: onnx.ModelProto
    predict: onnx.ModelProto

    @property
    def id(self) -> str:
        """What a state of this bundle names."""
        return str(self.manifest["id"])

    @property
    def remedy(self) -> str:
        """What to try where network and graphs are not of a kind."""
        if is_own(self.backbone.name):
            return f"use {self.backbone.name} as it was at the export"
        return f"use the release it was made by ({self.manifest['created_by']})"


def read_bundle(path: Path, model: str | None = None) -> HostBundle:
    """`model` is `FILE.py:FUNCTION` for a network of somebody's own, whose code no bundle holds.

    Raises BadBundle for a folder that is no bundle, is changed, or serves no onnxruntime,
    UsageError for a `model` that is missing or another one, and what `find_network` raises.
    """
    manifest = _manifest(path)
    backbone = _backbone(path, manifest["model"]["name"], model)
    runtimes = manifest["runtimes"]
    if RUNTIME not in runtimes:
        raise BadBundle(
            f"{path} has files for {', '.join(runtimes) or 'no runtime'}, not for {RUNTIME}, whose "
            "graphs the frozen layers are read from; export it again with --runtimes onnxruntime"
        )
    files = runtimes[RUNTIME]["files"]
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


def _manifest(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    try:
        document = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise BadBundle(
            f"{path} is not a bundle: {file} not found; name the folder `mobiletl export` wrote"
        ) from error
    except (OSError, ValueError) as error:
        raise BadBundle(f"{file} cannot be read ({error}); export the bundle again") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise BadBundle(f"{file} is not the manifest of a bundle, expected format {FORMAT!r}")
    if document.get("version") != VERSION:
        raise BadBundle(
            f"{path} has version {document.get('version')} and was made by "
            f"{document.get('created_by')}, expected version {VERSION}; use that release"
        )
    missing = [name for name in _NEEDED if name not in document]
    if missing or document.get("id") != manifest_id(document):
        raise BadBundle(f"{file} was changed after the export; copy or export the bundle again")
    return document


def _graph(path: Path, manifest: dict[str, Any], name: str) -> onnx.ModelProto:
    file = path / name
    try:
        content = file.read_bytes()
    except OSError as error:
        raise BadBundle(
            f"{file} cannot be read ({error.strerror}); copy the bundle again"
        ) from error
    if hashlib.sha256(content).hexdigest() != manifest["files"][name]["sha256"]:
        raise BadBundle(f"{file} has another SHA-256 than the manifest's; copy the bundle again")
    return onnx.load_from_string(content)
