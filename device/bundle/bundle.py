"""Open a bundle: every file is checked against the manifest before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from mobiletl.device.bundle.arrays import Floats, Tensors
from mobiletl.device.bundle.digest import file_digest
from mobiletl.device.bundle.manifest import FileRecord, Manifest, StateEntry, parse_manifest
from mobiletl.device.bundle.manifest_schema import MANIFEST_FILE, STATE_FILE
from mobiletl.device.errors import BadBundle, UsageError

# A manifest of a few hundred state entries has about 100 kB; more is an accident or an attack.
MANIFEST_LIMIT_BYTES = 16_000_000


@dataclass(frozen=True)
class Bundle:
    """A folder whose files are those the manifest describes."""

    path: Path
    manifest: Manifest

    def file(self, relative: str) -> Path:
        """Return the place of a file that the manifest lists."""
        return self.path / relative

    def initial_state(self, classes: int, seed: int) -> Tensors:
        """Return the state training starts from, in the manifest's order.

        Entries with `init` "file" come from the bundle; "normal:STD" ones are drawn in the
        manifest's order from one generator, so that a seed names one state.
        """
        if classes < 2:
            raise UsageError(f"{classes} class(es) given; a classifier needs at least 2")
        stored = self._stored_state()
        generator = np.random.default_rng(seed)
        return {
            entry.name: _initial(entry, classes, stored, generator) for entry in self.manifest.state
        }

    def _stored_state(self) -> Tensors:
        wanted = {entry.name: entry.shape for entry in self.manifest.state if entry.init == "file"}
        if not wanted:
            return {}
        try:
            with safe_open(str(self.file(STATE_FILE)), framework="np") as file:
                stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise BadBundle(
                f"{self.file(STATE_FILE)} cannot be read ({error}); copy the bundle again"
            ) from error
        found = {name: tensor.shape for name, tensor in stored.items()}
        kinds = {str(tensor.dtype) for tensor in stored.values()}
        if found != wanted or kinds != {"float32"}:
            differing = sorted(
                name for name in {**found, **wanted} if found.get(name) != wanted.get(name)
            )
            raise BadBundle(
                f"{self.file(STATE_FILE)} does not hold the state the manifest describes "
                f"(types {sorted(kinds)}; differing entries {differing}); export the bundle again"
            )
        return stored


def open_bundle(path: str | Path) -> Bundle:
    """Check a bundle and return it; raises BadBundle naming every missing or changed file."""
    folder = Path(path)
    manifest = read_manifest(folder)
    problems: list[str] = []
    for relative, record in manifest.files.items():
        problem = _file_problem(folder, relative, record)
        if problem:
            problems.append(f"{relative} {problem}")
    if problems:
        raise BadBundle(
            f"{folder} is not the bundle that was exported: {'; '.join(problems)}. "
            "Copy it to this board again"
        )
    return Bundle(folder, manifest)


def read_manifest(folder: Path) -> Manifest:
    """Check and return the manifest of a bundle, whose other files are not looked at."""
    return parse_manifest(_manifest_text(folder))


def _manifest_text(folder: Path) -> str:
    file = folder / MANIFEST_FILE
    if not file.is_file():
        raise BadBundle(
            f"{folder} is not a bundle: {file} not found. "
            "A bundle is the folder that `mobiletl export` writes"
        )
    try:
        size = file.stat().st_size
        if size > MANIFEST_LIMIT_BYTES:
            raise BadBundle(f"{file} has {size} bytes; a manifest has at most 16 MB")
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadBundle(f"{file} cannot be read ({error}); copy the bundle again") from error


def _file_problem(folder: Path, relative: str, record: FileRecord) -> str:
    """Return what is wrong with a file, or an empty text."""
    file = folder / relative
    try:
        # The schema refuses `..`; a symbolic link can still point anywhere.
        if folder.resolve() not in file.resolve().parents:
            return "leaves the folder"
        if not file.is_file():
            return "is missing"
        size = file.stat().st_size
        if size != record.bytes:
            return f"has {size} bytes, not {record.bytes}"
        same = file_digest(file) == record.sha256
        return "" if same else "has another SHA-256 than the manifest's"
    except OSError as error:
        return f"cannot be read ({error})"


def _initial(
    entry: StateEntry, classes: int, stored: Tensors, generator: np.random.Generator
) -> Floats:
    shape = entry.shape_for(classes)
    if entry.init == "file":
        return stored[entry.name]
    if entry.init == "zeros":
        return np.zeros(shape, np.float32)
    deviation = float(entry.init.split(":", 1)[1])
    return generator.normal(0.0, deviation, shape).astype(np.float32)
