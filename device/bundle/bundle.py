"""Open a bundle: every file is checked against the manifest before anything is loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Mapping, Sequence

import numpy as np

from mobiletl.device.bundle import signature
from mobiletl.device.bundle.arrays import Floats, Tensors
from mobiletl.device.bundle.digest import stream_digest
from mobiletl.device.bundle.graph_rules import RULES
from mobiletl.device.bundle.graph_scan import graph_problem
from mobiletl.device.bundle.manifest import FileRecord, Manifest, StateEntry, parse_manifest
from mobiletl.device.bundle.manifest_files import manifest_text, read_levels, read_manifest
from mobiletl.device.bundle.manifest_schema import MANIFEST_FILE, STATE_FILE
from mobiletl.device.bundle.outside_file import OddFile, inside_problem, open_outside
from mobiletl.device.bundle.records import SCANNED, remember, remembered
from mobiletl.device.bundle.schema import joined, shown
from mobiletl.device.bundle.stored_state import StoredState
from mobiletl.device.bundle.tensors_header import MOST_FILE_BYTES
from mobiletl.device.errors import BadBundle, UsageError

# Runtimes whose files are ONNX, but for the role that is a FlatBuffer.
ONNX_RUNTIMES = ("onnxruntime", "onnxruntime-training")
CHECKPOINT = "checkpoint"


@dataclass(frozen=True)
class Bundle:
    """A folder whose files are those the manifest describes.

    `trusted` is what a person has said: that its programs may be run (sessions/trust.py).
    """

    path: Path
    manifest: Manifest
    trusted: bool = False
    levels: Mapping[int, Manifest] = field(default_factory=dict)
    """All that it may be opened at, by blocks, the deepest first; empty where there is but one."""

    def at(self, blocks: int) -> Bundle:
        """Return the bundle at the level of so many blocks; raises UsageError if it has none."""
        known = self.levels or {self.manifest.method.blocks: self.manifest}
        if blocks not in known:
            raise UsageError(
                f"{self.path} can't be trained at --blocks {blocks}, it has levels of "
                f"{', '.join(map(str, sorted(known)))}; name one of these, or export it with "
                f"--blocks {','.join(map(str, sorted({*known, blocks})))}"
            )
        return self.with_manifest(known[blocks])

    def with_manifest(self, manifest: Manifest) -> Bundle:
        """Return the bundle at the level that `manifest` is of."""
        return self if manifest is self.manifest else replace(self, manifest=manifest)

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
        if all(entry.init != "file" for entry in self.manifest.state):
            return {}
        with self.open_state() as stored:
            return dict(stored)

    def open_state(self) -> StoredState:
        """Open the tensors of the initial state that are in a file, to be read one by one; the
        caller closes it. Raises BadBundle.
        """
        wanted = {entry.name: entry.shape for entry in self.manifest.state if entry.init == "file"}
        file = self.file(STATE_FILE)
        try:
            stored = StoredState(file)
        except (OSError, ValueError) as error:
            raise BadBundle(f"{file} cannot be read ({error}); copy the bundle again") from error
        if self.levels:
            # The file has what deeper levels have besides.
            stored.leave_out(set(stored) - set(wanted))
        found = {name: tensor.shape for name, tensor in stored.forms().items()}
        if found != wanted:
            stored.close()
            differing = sorted(
                name for name in {**found, **wanted} if found.get(name) != wanted.get(name)
            )
            raise BadBundle(
                f"{file} does not hold the state the manifest describes (differing entries "
                f"{shown(differing)}); export the bundle again"
            )
        return stored


def open_bundle(
    path: str | Path, trust_bundle: bool = False, require_signature: str | Path | None = None
) -> Bundle:
    """Check a bundle and return it; raises BadBundle naming every missing or changed file.

    TorchScript and ExecuTorch files are programs. They are run if this user has exported the bundle
    on this machine, or where `trust_bundle` says that whoever made it is trusted.
    `require_signature` is a public key of minisign: Untrusted is raised for a bundle that nobody
    has signed with it, and its owner is trusted.
    """
    folder = Path(path)
    content = manifest_text(folder)
    if require_signature is not None:
        signature.require_signature(folder / MANIFEST_FILE, content, Path(require_signature))
    manifest = parse_manifest(content)
    levels = read_levels(folder, manifest)
    if require_signature is not None:
        levels = {blocks: _as_signed(level, manifest) for blocks, level in levels.items()}
    problems: list[str] = []
    for relative, record in manifest.files.items():
        problem = _file_problem(folder, relative, record)
        if problem:
            problems.append(f"{relative} {problem}")
    if problems:
        raise BadBundle(
            f"{folder} is not the bundle that was exported: {joined(problems)}. "
            "Copy it to this board again"
        )
    # An id covers every file, so that graphs that were looked through once are known by it.
    scanned = f"{manifest.id}-{RULES}"
    if not remembered(SCANNED, scanned):
        _refuse_graphs(folder, [manifest, *levels.values()])
        remember(SCANNED, scanned)
    return Bundle(folder, manifest, trust_bundle or require_signature is not None, levels)


def unchecked_bundle(folder: Path) -> Bundle:
    """Return a bundle of which the manifests alone are checked; raises BadBundle."""
    manifest = read_manifest(folder)
    return Bundle(folder, manifest, levels=read_levels(folder, manifest))


def _as_signed(level: Manifest, manifest: Manifest) -> Manifest:
    """Return `level` without what no signature covers: its measurement, which its id leaves out.

    That of `manifest`, which is signed, is of the deepest level, and so it is not less.
    """
    runtime, release = manifest.memory.runtime, manifest.memory.runtime_release
    return replace(level, memory=replace(level.memory, runtime=runtime, runtime_release=release))


def _refuse_graphs(folder: Path, manifests: Sequence[Manifest]) -> None:
    """Look through every graph before a runtime does, whose readers trust what they are given."""
    for relative in sorted({path for manifest in manifests for path in _graphs(manifest)}):
        try:
            problem = graph_problem(folder / relative)
        except OSError as error:
            problem = f"cannot be read ({error.strerror or error})"
        if problem:
            raise BadBundle(
                f"{folder / relative} {problem}; its checksum is right, so it was made so: take no "
                "bundle from whoever made it, or export it again"
            )


def _file_problem(folder: Path, relative: str, record: FileRecord) -> str:
    """Return what is wrong with a file, or an empty text."""
    try:
        problem = inside_problem(folder, relative)
        if problem:
            return problem
        with open_outside(folder / relative, MOST_FILE_BYTES, follow=False) as stream:
            size = os.fstat(stream.fileno()).st_size
            if size != record.bytes:
                return f"has {size} bytes, not {record.bytes}"
            same = stream_digest(stream) == record.sha256
        return "" if same else "has another SHA-256 than the manifest's"
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"
    except OddFile as error:
        return str(error)
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"


def _graphs(manifest: Manifest) -> set[str]:
    """Return the files that a runtime would read as ONNX, whatever their names."""
    named = [path for path in manifest.files if path.lower().endswith(".onnx")]
    for name, runtime in manifest.runtimes.items():
        if name in ONNX_RUNTIMES:
            named += [path for role, path in runtime.files.items() if role != CHECKPOINT]
    return set(named)


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
