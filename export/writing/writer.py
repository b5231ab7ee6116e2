"""Writes a bundle folder (docs/bundle.md): whole, or not at all."""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from mobiletl.core.errors import NoSpace, UsageError
from mobiletl.device.bundle.digest import file_digest, manifest_id
from mobiletl.device.bundle.manifest_files import level_file
from mobiletl.device.bundle.manifest_schema import FORMAT, MANIFEST_FILE, STATE_FILE, VERSION
from mobiletl.device.bundle.records import OWN, remember

# Of the runner, what wants packages that a copied folder cannot bring.
_INSTALLED_ONLY = ("_decode.py", "fleet", "studio", "studio_server.py")
_REQUIREMENTS_HEAD = "# What device/train_on_board.py needs: pip install -r requirements.txt\n"


def created_by() -> str:
    """The program and its version."""
    return f"mobiletl {version('mobiletl')}"


def write_bundle(
    out: Path,
    manifest: Mapping[str, Any],
    graphs: Mapping[str, bytes],
    state: Mapping[str, npt.NDArray[np.float32]],
    force: bool = False,
    levels: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write `graphs` (path in the bundle to bytes), the initial state, the runner and the manifest.

    `manifest` lacks `format`, `version`, `id`, `created_by` and `files`, and so do those of further
    `levels`, whose files are among `graphs`. An older bundle at `out`
    is replaced with `force` alone, once the new one is complete. Raises UsageError if `out` holds
    one, or anything else; NoSpace if the disk is full or read-only.
    """
    require_free(out, force)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
            folder = Path(scratch) / out.name
            _fill(folder, graphs, state)
            ids = _seal(folder, manifest, levels)
            put_in_place(folder, out, Path(scratch))
        for one in ids:
            remember(OWN, one)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM):
            raise NoSpace(
                f"can't write the bundle to {out}: {error.strerror}; free some space or choose "
                "another folder with --out"
            ) from error
        raise


def put_in_place(folder: Path, out: Path, scratch: Path) -> None:
    """Make the bundle in `folder` the one at `out`; what was there goes into `scratch`.

    All three lie in one file system. Raises OSError, with `out` as it was.
    """
    replaced = scratch / "replaced"
    if out.exists():
        out.rename(replaced)
    try:
        folder.rename(out)
    except OSError:
        if replaced.exists():
            replaced.rename(out)
        raise


def require_free(out: Path, force: bool) -> None:
    """Raise UsageError unless `out` is free, an empty folder or, with `force`, a bundle."""
    for place in (out, *out.parents):
        if place.is_file():
            raise UsageError(f"--out {out}: {place} is a file, expected a folder for the bundle")
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST_FILE).is_file():
        raise UsageError(
            f"--out {out} holds something that is no bundle; choose a new folder or a bundle"
        )
    if (out / MANIFEST_FILE).is_file() and not force:
        raise UsageError(
            f"--out {out} holds a bundle already, which states may have been trained with; "
            "choose another folder, or replace it with --force"
        )


def _fill(
    folder: Path, graphs: Mapping[str, bytes], state: Mapping[str, npt.NDArray[np.float32]]
) -> None:
    for path, content in graphs.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    # Written here, because a full disk has to be an OSError: safetensors raises its own.
    (folder / STATE_FILE).write_bytes(save(dict(state)))
    runner = Path(__file__).parents[2] / "device"
    shutil.copytree(
        runner, folder / "device", ignore=shutil.ignore_patterns("__pycache__", *_INSTALLED_ONLY)
    )
    (folder / "requirements.txt").write_text(_REQUIREMENTS_HEAD + _requirements(), "utf-8")


def _requirements() -> str:
    """The base install of this very version, without the host's extras."""
    return "".join(f"{line}\n" for line in requires("mobiletl") or () if "extra ==" not in line)


def _seal(
    folder: Path, manifest: Mapping[str, Any], levels: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Write the manifests and return their ids."""
    files = {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": file_digest(path),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    ids = {}
    for level in levels:
        needed = {
            STATE_FILE,
            *(p for one in level["runtimes"].values() for p in one["files"].values()),
        }
        blocks = level["method"]["blocks"]
        own = {path: record for path, record in files.items() if path in needed}
        ids[str(blocks)] = _write_manifest(folder / level_file(blocks), level, own)
    # A further level's manifest is no file of the list: what it measures is no part of the id.
    whole = {**manifest, "levels": ids} if ids else manifest
    return [_write_manifest(folder / MANIFEST_FILE, whole, files), *ids.values()]


def _write_manifest(
    path: Path, manifest: Mapping[str, Any], files: Mapping[str, Mapping[str, Any]]
) -> str:
    document = {
        "format": FORMAT,
        "version": VERSION,
        "id": "",
        "created_by": created_by(),
        **manifest,
        "files": files,
    }
    document["id"] = manifest_id(document)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return str(document["id"])
