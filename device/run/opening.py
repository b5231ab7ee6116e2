"""What a run is, before anything is loaded: its folder, its settings, its pictures and classes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mobiletl.device.bundle.bundle import Bundle
from mobiletl.device.errors import BadState, NoSpace, UsageError
from mobiletl.device.features.parts import find_kept, worth_keeping
from mobiletl.device.features.replay import KeptParts, memory_path
from mobiletl.device.pictures.dataset import Dataset
from mobiletl.device.printable import printable
from mobiletl.device.run.checkpoints import Checkpoint, RunFolder, Settings, load_checkpoint
from mobiletl.device.run.finding import find_pictures
from mobiletl.device.run.former import FormerRun, open_former
from mobiletl.device.run.limits import check_batch
from mobiletl.device.run.options import DEFAULTS, VIEWS, Options, default_epochs
from mobiletl.device.run.schedule import steps_per_epoch
from mobiletl.device.sessions.runtimes import choose_runtime, static_batch


@dataclass(frozen=True)
class Opened:
    """A run that is settled: `checkpoint` where it is resumed, `former` where it follows another.

    `dataset` has all classes of the run, also those of which only feature maps are left; `kept` are
    the pictures that only maps are left of.
    """

    folder: RunFolder
    settings: Settings
    dataset: Dataset
    checkpoint: Checkpoint | None
    former: FormerRun | None
    kept: KeptParts

    @property
    def replayed(self) -> KeptParts:
        """The same, repeated as training wants it."""
        return self.kept.balanced(self.dataset)


def open_run(options: Options, bundle: Bundle) -> Opened:
    """Settle what is to be trained: named settings, else saved, else default.

    Raises UsageError for a folder that holds another run and for a changed run, BadState,
    BadPictures.
    """
    folder = RunFolder(options.run)
    checkpoint = _checkpoint(options, folder, bundle)
    former = None if options.former is None else open_former(options.former, bundle)
    values, dataset = _settle(options, bundle, checkpoint, former)
    kept = KeptParts()
    if former is not None or checkpoint is not None:
        kept = _kept(bundle, folder, dataset, former, values["val_split"])
    pictures = len(dataset.train) + len(kept.balanced(dataset).train)
    values.setdefault("epochs", default_epochs(steps_per_epoch(pictures, values["batch"])))
    return Opened(folder, Settings(**values), dataset, checkpoint, former, kept)


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


def make_folder(folder: RunFolder) -> None:
    """Make the run's folder; raises NoSpace."""
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NoSpace(
            f"folder {printable(str(folder.path))} cannot be made ({error.strerror or error}); "
            "choose another with --out"
        ) from error


def _checkpoint(options: Options, folder: RunFolder, bundle: Bundle) -> Checkpoint | None:
    """Return the place to resume from; refuse to write over another run."""
    shown = printable(str(folder.path))
    if options.resume:
        if not folder.resumable():
            raise BadState(
                f"{shown} holds no run to resume; name the folder of one, or start afresh"
            )
        return load_checkpoint(folder, bundle.manifest)
    if folder.holds_run():
        raise UsageError(
            f"{shown} holds a run already; go on with it by --resume {shown}, "
            "or choose another folder with --out"
        )
    return None


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


def _settle(
    options: Options, bundle: Bundle, checkpoint: Checkpoint | None, former: FormerRun | None
) -> tuple[dict[str, Any], Dataset]:
    """Return the settings, perhaps without epochs, and the pictures; refuse a run that was started
    otherwise.
    """
    saved = {} if checkpoint is None else asdict(checkpoint.settings)
    runtime = choose_runtime(bundle, options.given.get("runtime", saved.get("runtime")))
    batch = static_batch(bundle, runtime)
    values = {
        **DEFAULTS,
        "lr": bundle.manifest.optimizer.default_lr,
        "views": VIEWS if worth_keeping(bundle.manifest) else 0,
        **({} if batch is None else {"batch": batch}),
        **saved,
        **options.given,
        "runtime": runtime.name,
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
    known = checkpoint.class_names if checkpoint is not None else ()
    if former is not None:
        known = former.class_names
    dataset = find_pictures(options, bundle, values, known)
    if former is not None:
        _check_classes(former, dataset)
    values["pictures"] = dataset.fingerprint()
    if checkpoint is not None:
        differences = checkpoint.differences(values, dataset.class_names)
        if differences:
            raise UsageError(
                f"{printable(str(options.run))} was started otherwise: {', '.join(differences)}; "
                "resume it as it was, or start afresh with --out"
            )
    return values, dataset
