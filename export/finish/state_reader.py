"""Reads, on the host, a state that a board wrote, and makes sure that it fits the bundle.

A state is a safetensors file with three texts in its metadata: `format`, `info` (JSON: which
bundle, which classes) and `sha256`, over `info` and then, in the order of their names, a JSON list
of name and shape and the bytes of each tensor.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from mobiletl.core.errors import BadState
from mobiletl.export.finish.bundle_reader import HostBundle

FORMAT = "mobiletl-state"
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class State:
    """Tensors by name, and the classes in the order of the logits."""

    tensors: dict[str, Array]
    class_names: tuple[str, ...]


def read_state(path: Path, bundle: HostBundle) -> State:
    """Raises BadState for a file that is missing, damaged, another bundle's, or of other shapes."""
    if not path.is_file():
        raise BadState(f"{path}: no such file; name state.safetensors of a training run")
    try:
        with safe_open(str(path), framework="np") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise BadState(f"{path} is damaged ({error}); name another state file") from error
    if metadata.get("format") != FORMAT:
        raise BadState(f"{path} is not a state of mobiletl; name state.safetensors of a run")
    if _digest(metadata.get("info", ""), tensors) != metadata.get("sha256"):
        raise BadState(
            f"{path} is damaged (its content has another SHA-256 than it states); "
            f"try {path.stem}.previous{path.suffix}"
        )
    names = _class_names(path, metadata["info"], bundle)
    _require_shapes(path, tensors, bundle.manifest["state"], len(names))
    return State(tensors, names)


def _digest(info: str, tensors: Mapping[str, Array]) -> str:
    digest = hashlib.sha256(info.encode("utf-8"))
    for name in sorted(tensors):
        digest.update(json.dumps([name, list(tensors[name].shape)]).encode("utf-8"))
        digest.update(np.ascontiguousarray(tensors[name]).data)
    return digest.hexdigest()


def _class_names(path: Path, content: str, bundle: HostBundle) -> tuple[str, ...]:
    try:
        info = json.loads(content)
        owner, names = info["bundle_id"], tuple(info["class_names"])
    except (ValueError, TypeError, KeyError) as error:
        raise BadState(
            f"{path} is damaged (its info does not name a bundle and classes)"
        ) from error
    if owner != bundle.id:
        raise BadState(
            f"{path} belongs to the bundle {str(owner)[:12]}..., not to {bundle.id[:12]}... "
            f"({bundle.path}); name the bundle it was trained with"
        )
    if len(names) < 2 or not all(isinstance(name, str) for name in names):
        raise BadState(f"{path} is damaged (its classes are {names}, expected two or more texts)")
    return names


def _require_shapes(
    path: Path, tensors: Mapping[str, Array], entries: Sequence[Mapping[str, Any]], classes: int
) -> None:
    wanted = {e["name"]: tuple(classes if s == "K" else s for s in e["shape"]) for e in entries}
    found = {name: tensor.shape for name, tensor in tensors.items()}
    differing = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
    differing += [name for name, tensor in tensors.items() if tensor.dtype != np.float32]
    if differing:
        name = differing[0]
        raise BadState(
            f"{path} does not fit its bundle: {name} is {_shown(found.get(name))}, expected "
            f"{_shown(wanted.get(name))} of float32 ({len(differing)} such entries)"
        )
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise BadState(f"{path}: {name} holds NaN or infinity; name a state from before that")


def _shown(shape: Sequence[int] | None) -> str:
    return "missing" if shape is None else str(list(shape))
