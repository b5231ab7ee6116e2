"""What a run is, before anything is loaded: its folder, its settings, its pictures and classes.

Start-up has four cases, by what the folder holds:

    nothing, or a run that has saved nothing   the run begins, by the same command or by --resume
    a run, and --resume                        it goes on with what it was begun with
    a run that this very command began         it goes on: the result is the one of beginning anew
    another run                                the command is refused
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Sequence

import numpy as np

from mobiletl.device.bundle.bundle import Bundle
from mobiletl.device.bundle.digest import state_digest
from mobiletl.device.errors import BadState, UsageError
from mobiletl.device.features.parts import find_kept, worth_keeping
from mobiletl.device.features.replay import KeptParts, memory_path
from mobiletl.device.pictures.dataset import Dataset
from mobiletl.device.printable import printable
from mobiletl.device.run.begun import begun_settings
from mobiletl.device.run.checkpoints import RunFolder, Settings
from mobiletl.device.run.finding import find_pictures, opened_dataset, within_limit
from mobiletl.device.run.former import FormerRun, open_former
from mobiletl.device.run.level import picked_level, settled_level
from mobiletl.device.run.limits import check_batch
from mobiletl.device.run.options import DEFAULTS, VIEWS, Options, default_epochs
from mobiletl.device.run.picture_record import PictureRecord
from mobiletl.device.run.restoring import Checkpoint, load_checkpoint
from mobiletl.device.run.schedule import steps_per_epoch
from mobiletl.device.run.start import BUNDLE, Start
from mobiletl.device.sessions.runtimes import choose_runtime, static_batch, usable_cores


@dataclass(frozen=True)
class Opened:
    """A run that is settled: `checkpoint` where it goes on, `former` where it follows another.

    `bundle` is at the level that is trained. `dataset` has all classes of the run, also those of
    which only feature maps are left; `kept` are the pictures that only maps are left of. `notes`
    are for a person to read.
    """

    folder: RunFolder
    bundle: Bundle
    settings: Settings
    dataset: Dataset
    checkpoint: Checkpoint | None
    former: FormerRun | None
    kept: KeptParts
    record: PictureRecord
    notes: tuple[str, ...] = ()

    @property
    def replayed(self) -> KeptParts:
        """The same, repeated as training wants it."""
        return self.kept.balanced(self.dataset)


def open_run(
    options: Options, bundle: Bundle, start: Start | None = None, may_go_on: bool = True
) -> Opened:
    """Settle what is to be trained: named settings, else saved, else default.

    A run is begun from `start`, if that is given. Unless it `may_go_on`, a folder that holds a run
    is refused. Raises UsageError for a folder that holds another run and for a changed run,
    BadState, BadPictures.
    """
    folder = RunFolder(options.run)
    bundle, is_settled = settled_level(options, bundle, start)
    checkpoint, saved, notes = _found(options, folder, bundle, may_go_on)
    former = None if options.former is None else open_former(options.former, bundle)
    begins = _begins(former, start)
    names = checkpoint.class_names if checkpoint else former.class_names if former else ()
    settled = _settle(options, bundle, saved, names, may_pick=not is_settled)
    bundle, values, dataset = settled.bundle, settled.values, settled.dataset
    if former is not None:
        _check_classes(former, dataset)
    if checkpoint is not None:
        # What it began from is in its state, and what was kept of pictures in a memory of its own.
        former = None
    kept = KeptParts()
    if former is not None or checkpoint is not None:
        kept = _kept(bundle, folder, dataset, former, values["val_split"])
    pictures = len(dataset.train) + len(kept.balanced(dataset).train)
    values.setdefault("epochs", default_epochs(steps_per_epoch(pictures, values["batch"])))
    if checkpoint is not None:
        begins = checkpoint.settings.begins if options.resume else begins
        values["threads"] = options.threads or checkpoint.settings.threads or usable_cores()
        _refuse_changed(options, checkpoint, {**values, "begins": begins}, dataset)
    record = PictureRecord(folder.pictures)
    if checkpoint is not None:
        _refuse_others(folder, record.changed(dataset))
    settings = Settings(**values, begins=begins)
    return Opened(folder, bundle, settings, dataset, checkpoint, former, kept, record, notes)


def _begins(former: FormerRun | None, start: Start | None) -> str:
    """Return what the state that a run begins from is known by, empty for the bundle's."""
    begin = former.start if former is not None else start
    if begin is None or begin.origin == BUNDLE:
        return ""
    tensors = {name: np.ascontiguousarray(array) for name, array in begin.tensors.items()}
    return state_digest(json.dumps(begin.class_names), tensors)


def _kept(
    bundle: Bundle,
    folder: RunFolder,
    dataset: Dataset,
    former: FormerRun | None,
    val_split: float,
) -> KeptParts:
    """Return what is left of pictures that are gone: in the former run's memory, or in the run's
    own, which it began with a copy of.
    """
    path = memory_path(folder.path, bundle.manifest) if former is None else former.memory
    if path is None or not path.is_file():
        return KeptParts()
    renamed = {} if former is None else former.renamed
    return find_kept(path, bundle.manifest, dataset, renamed, val_split)


def _found(
    options: Options, folder: RunFolder, bundle: Bundle, may_go_on: bool
) -> tuple[Checkpoint | None, dict[str, Any], tuple[str, ...]]:
    """Return the place to go on from, the settings that are known, and what to say of it."""
    shown = printable(str(folder.path))
    if not folder.resumable():
        if not options.resume:
            return None, {}, ()
        if not folder.begun():
            raise BadState(
                f"{shown} holds no run to resume; name the folder of one, or start afresh"
            )
        note = f"the run in {shown} has saved nothing that can be read, so it begins anew"
        return None, begun_settings(folder), (note,)
    if options.resume:
        checkpoint = load_checkpoint(folder, bundle.manifest)
        return checkpoint, asdict(checkpoint.settings), checkpoint.notes
    if not may_go_on:
        raise UsageError(_holds_run(shown))
    checkpoint = load_checkpoint(folder, bundle.manifest)
    step = checkpoint.position.step
    note = f"the same run was begun in {shown} before, so it goes on from its step {step}"
    return checkpoint, {}, (note, *checkpoint.notes)


def _holds_run(shown: str, otherwise: str = "") -> str:
    return (
        f"{shown} holds a run already{otherwise}; go on with it by --resume {shown}, "
        "or choose another folder with --out"
    )


def _refuse_changed(
    options: Options, checkpoint: Checkpoint, values: dict[str, Any], dataset: Dataset
) -> None:
    """Refuse to go on with a run that was started otherwise."""
    differences = checkpoint.differences(values, dataset.class_names)
    shown, listed = printable(str(options.run)), ", ".join(differences)
    if differences and options.resume:
        raise UsageError(
            f"{shown} was started otherwise: {listed}; "
            "resume it as it was, or start afresh with --out"
        )
    if differences:
        raise UsageError(_holds_run(shown, f", which was started otherwise: {listed}"))


def _refuse_others(folder: RunFolder, changed: Sequence[str]) -> None:
    """Refuse to go on with other pictures than those that the run has read under these names."""
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        shown = printable(str(folder.path))
        raise UsageError(
            f"{printable(changed[0])}{more} now has another content than when the run in {shown} "
            "read it; put the pictures back and go on, or start afresh with --out"
        )


def _check_classes(former: FormerRun, dataset: Dataset) -> None:
    """Refuse a folder whose class is left out or has another name now, and a single class."""
    filled = {dataset.class_names[picture.label] for picture in (*dataset.train, *dataset.val)}
    for old, new in former.renamed.items():
        if old in filled and old not in former.class_names:
            what = "left out by --drop" if new is None else f"called '{printable(new)}' by --rename"
            todo = "move it away" if new is None else f"rename it to '{printable(new)}'"
            raise UsageError(
                f"class '{printable(old)}' is {what}, but {printable(str(dataset.root))} still has "
                f"a folder of that name; {todo}"
            )
    if len(dataset.class_names) < 2:
        raise UsageError(
            f"class '{printable(dataset.class_names[0])}' alone would be left; "
            "keep two or more classes"
        )


@dataclass(frozen=True)
class _Settled:
    """The level, the settings, perhaps without epochs, and the pictures."""

    bundle: Bundle
    values: dict[str, Any]
    dataset: Dataset


def _settle(
    options: Options,
    bundle: Bundle,
    saved: dict[str, Any],
    names: tuple[str, ...],
    may_pick: bool,
) -> _Settled:
    """Settle what a run is made of; the pictures' classes are `names` and those that are new.

    A limit of memory picks the level where it `may_pick`, and the run did not have one before.
    """
    begun, limit = saved.get("blocks", -1), options.max_memory
    if may_pick and begun in bundle.levels:
        bundle = bundle.at(begun)
    elif may_pick and limit is not None:
        values = _values(options, bundle, saved)
        dataset = opened_dataset(options, bundle.manifest.input, values, names)
        bundle, line = picked_level(bundle, limit, values, dataset)
        values = _values(options, bundle, saved)
        dataset = within_limit(options, bundle, values, names, dataset)
        dataset = replace(dataset, notes=(*dataset.notes, *([line] if line else [])))
        return _settled(bundle, values, dataset)
    values = _values(options, bundle, saved)
    return _settled(bundle, values, find_pictures(options, bundle, values, names))


def _settled(bundle: Bundle, values: dict[str, Any], dataset: Dataset) -> _Settled:
    values["pictures"] = dataset.fingerprint()
    return _Settled(bundle, values, dataset)


def _values(options: Options, bundle: Bundle, saved: dict[str, Any]) -> dict[str, Any]:
    """Return the settings at the level of `bundle`, perhaps without epochs."""
    saved = {name: value for name, value in saved.items() if name != "begins"}
    runtime = choose_runtime(bundle, options.given.get("runtime", saved.get("runtime")))
    batch = static_batch(bundle, runtime)
    values = {
        **DEFAULTS,
        "lr": bundle.manifest.optimizer.default_lr,
        "views": VIEWS if worth_keeping(bundle.manifest) else 0,
        **({} if batch is None else {"batch": batch}),
        **saved,
        **options.given,
        "blocks": bundle.manifest.method.blocks,
        "runtime": runtime.name,
        "threads": options.threads or saved.get("threads") or usable_cores(),
    }
    if batch not in (None, values["batch"]):
        raise UsageError(
            f"{options.bundle} was exported for batches of {batch} on {runtime.name}, not "
            f"{values['batch']}; export it again with --batch {values['batch']}, or choose another "
            "--runtime"
        )
    check_batch(bundle.manifest, values["batch"])
    if not values["augment"]:
        values["views"] = 1
    return values
