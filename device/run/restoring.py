"""How a stopped run finds its place again, whatever has become of its files.

The newest sound generation of `last` is the place. Where none is left, it is the best state, from
which the same steps are taken again. The best state is verified, too: a run must not end with the
name of a file that is gone. What is unreadable is written anew from what is not.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Mapping

from mobiletl.device.bundle.arrays import Tensors
from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.bundle.replacing import replacing
from mobiletl.device.bundle.state_file import (
    BEST,
    LAST,
    ForeignState,
    StateInfo,
    is_usable,
    open_state,
)
from mobiletl.device.errors import BadState
from mobiletl.device.printable import printable
from mobiletl.device.refusals import cannot_write
from mobiletl.device.run.checkpoints import (
    FLAGS,
    UNSAID,
    Best,
    Position,
    RunFolder,
    Settings,
    not_kept,
    of_role,
    of_run,
)
from mobiletl.device.run.evaluation import Score


@dataclass(frozen=True)
class Checkpoint:
    """A place to resume from."""

    tensors: Tensors
    class_names: tuple[str, ...]
    settings: Settings
    position: Position
    missing: tuple[str, ...] = ()
    """Which states (BEST, LAST) are to be saved, as they are here, before the run goes on."""
    notes: tuple[str, ...] = ()
    """What a person should know of the files."""

    def differences(self, settings: Mapping[str, Any], class_names: tuple[str, ...]) -> list[str]:
        """Say which of `settings` (field name to value) and names the saved run has otherwise."""
        saved = asdict(self.settings)
        if not self.settings.threads:
            del saved["threads"]
        found = [
            FLAGS[name]
            if name in UNSAID
            else f"{FLAGS[name]} ({saved[name]} then, {settings[name]} now)"
            for name in FLAGS
            if name in saved and name in settings and saved[name] != settings[name]
        ]
        return found + (["the class names"] if class_names != self.class_names else [])


def load_checkpoint(folder: RunFolder, manifest: Manifest) -> Checkpoint:
    """Read the place to resume from, and put files that are damaged right.

    The caller has the run to itself (claim.py). Raises BadState, NoSpace.
    """
    try:
        found = _read(folder.last, LAST, manifest)
    except ForeignState:
        raise
    except BadState as lost:
        found = _from_best(folder, manifest, lost)
    return _with_best(folder, manifest, found)


def _read(path: Path, role: str, manifest: Manifest) -> Checkpoint:
    right_role = of_role(role)
    stored, info = open_state(path, manifest, lambda one: right_role(one) or not_kept(one))
    with stored:
        tensors = dict(stored)
    checkpoint = _place(path, tensors, info)
    if stored.path != path:
        _copy(stored.path, path)
        note = f"{path.name} was lost or damaged; the run goes on from {stored.path.name}"
        checkpoint = replace(checkpoint, notes=(note,))
    return checkpoint


def _from_best(folder: RunFolder, manifest: Manifest, lost: BadState) -> Checkpoint:
    """Return the best state as the place: it was saved at the end of an epoch."""
    try:
        found = _read(folder.best, BEST, manifest)
    except BadState as error:
        raise BadState(f"{lost}. The best state does not help: {error}") from error
    position = replace(found.position, loss_sum=0.0, correct=0, seen=0, seconds=0.0)
    note = (
        f"the last state is lost or damaged; the run goes on from the best one, of epoch "
        f"{position.epoch}"
    )
    return replace(found, position=position, missing=(LAST,), notes=(*found.notes, note))


def _place(path: Path, tensors: Tensors, info: StateInfo) -> Checkpoint:
    try:
        settings = Settings(**info.settings["run"])
        position = _position(info.settings["position"])
    except (KeyError, TypeError) as error:
        raise BadState(
            f"{printable(str(path))} has no place to resume from ({error}); start afresh"
        ) from error
    return Checkpoint(tensors, info.class_names, settings, position)


def _with_best(folder: RunFolder, manifest: Manifest, found: Checkpoint) -> Checkpoint:
    """Verify the best state that the place knows of; where it is lost, the last takes its place."""
    best = found.position.best
    if best is None:
        return found
    settings, names = asdict(found.settings), found.class_names
    try:
        stored, _ = open_state(folder.best, manifest, of_run(BEST, settings, names, best.epoch))
    except BadState:
        return _without_best(found, best)
    stored.close()
    if stored.path == folder.best:
        return found
    # A newer one may be sound, but of an epoch that the place does not know yet: it is trained
    # again. Were it left, the save after that would push out the one that the place does know.
    newer = is_usable(folder.best, of_run(BEST, settings, names))
    _copy(stored.path, folder.best)
    if not newer:
        note = f"{folder.best.name} was lost or damaged; {stored.path.name} takes its place"
        return replace(found, notes=(*found.notes, note))
    return found


def _without_best(found: Checkpoint, best: Best) -> Checkpoint:
    position, lost = found.position, f"the best state, of epoch {best.epoch}, is lost or damaged"
    if position.seen or position.latest is None:
        note = f"{lost}; the next epoch takes its place"
        position = replace(position, best=None)
        return replace(found, position=position, notes=(*found.notes, note))
    note = f"{lost}; the last one, of epoch {position.epoch}, takes its place"
    if position.epoch != best.epoch:
        latest = position.latest
        position = replace(position, best=Best(position.epoch, latest, latest.accuracy))
    missing = (*found.missing, BEST)
    return replace(found, position=position, missing=missing, notes=(*found.notes, note))


def _copy(source: Path, path: Path) -> None:
    """Let `path` be a copy of `source`, piece by piece: the memory is planned for one state."""
    try:
        with source.open("rb") as content, replacing(path) as stream:
            shutil.copyfileobj(content, stream)
    except OSError as error:
        raise cannot_write("the state", path, error) from error


def _position(values: Mapping[str, Any]) -> Position:
    fields: dict[str, Any] = dict(values)
    best = fields["best"]
    fields["best"] = best and Best(best["epoch"], _score(best["score"]), best["top"])
    fields["before"] = fields["before"] and _score(fields["before"])
    fields["latest"] = fields["latest"] and _score(fields["latest"])
    return Position(**fields)


def _score(values: Mapping[str, Any]) -> Score:
    return Score(values["loss"], tuple(values["class_correct"]), tuple(values["class_seen"]))
