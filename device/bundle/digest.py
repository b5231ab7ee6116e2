"""The hashes that the format rests on (docs/bundle.md): of files, manifests and states.

Boards and hosts both use these functions, so that the two can't come to differ. NumPy is not
imported: the doctor plans memory where it is missing.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Iterable, Mapping, Sequence

if TYPE_CHECKING:
    from mobiletl.device.bundle.arrays import Floats

READ_BYTES = 1 << 20


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file in hex digits; raises OSError."""
    with path.open("rb") as stream:
        return stream_digest(stream)


def stream_digest(stream: IO[bytes]) -> str:
    """Return the SHA-256 of the rest of an open file; raises OSError."""
    digest = hashlib.sha256()
    for chunk in iter(lambda: stream.read(READ_BYTES), b""):
        digest.update(chunk)
    return digest.hexdigest()


def manifest_id(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 that a manifest's `id` must hold: of all but itself and what was measured.

    The same export made twice is then the same bundle.
    """
    memory = {**document["memory"], "runtime": 0, "runtime_release": ""}
    return _hashed({**document, "id": "", "memory": memory})


def fit_id(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of what decides whether a state fits: the network, how it is cut and what
    is frozen, the state's layout, and how pictures are prepared.

    Who wrote the bundle, with which release, runner, graphs and names of files, is no part of it.
    Nor is the size of the embedding, which the state's layout has already, as a side of the
    classifier's weight: so states of bundles before version 5 go on fitting.
    """
    model, method = document["model"], document["method"]
    decisive = {
        "model": [model["name"], model["width"]],
        "method": [method["name"], method["blocks"]],
        "input": document["input"],
        "feature": document["feature"],
        "frozen": document["frozen"],
        "optimizer": document["optimizer"]["name"],
        "state": [[e["name"], e["role"], e["shape"], e["dtype"]] for e in document["state"]],
    }
    return _hashed(decisive)


def _hashed(document: Any) -> str:
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()


def state_digest(info: str, tensors: Mapping[str, Floats]) -> str:
    """Return the SHA-256 that a state file's `sha256` must hold.

    Names are hashed with the bytes, so that swapped entries are noticed, too. The arrays must be
    C-contiguous.
    """
    arrays = ((name, tensors[name]) for name in sorted(tensors))
    return tensors_digest(info, ((name, array.shape, [array.data]) for name, array in arrays))


def tensors_digest(info: str, tensors: Iterable[tuple[str, Sequence[int], Iterable[Any]]]) -> str:
    """Return the same of names in their order, shapes, and bytes in pieces."""
    digest = hashlib.sha256(info.encode("utf-8"))
    for name, shape, pieces in tensors:
        digest.update(json.dumps([name, list(shape)]).encode("utf-8"))
        for piece in pieces:
            digest.update(piece)
    return digest.hexdigest()
