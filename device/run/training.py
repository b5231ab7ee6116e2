"""One training run from options to result: opens everything, trains, leaves the folder tidy."""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np

from mobiletl.device.bundle.arrays import Tensors
from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.errors import BadState, Interrupted, MobileTLError, NoSpace, UsageError
from mobiletl.device.features.parts import SourcePlan, open_parts
from mobiletl.device.memory.limit import check_limit
from mobiletl.device.memory.measured import peak_bytes
from mobiletl.device.memory.plan import MemoryPlan, plan
from mobiletl.device.pictures.dataset import Dataset, open_dataset
from mobiletl.device.pictures.skipped import SkippedFiles
from mobiletl.device.printable import printable
from mobiletl.device.run.checkpoints import (
    Checkpoint,
    Checkpoints,
    Position,
    RunFolder,
    Settings,
    load_checkpoint,
)
from mobiletl.device.run.events import FAILED, FINISHED, STOPPED, Ended, Note, Part, Started
from mobiletl.device.run.events_file import EventsFile
from mobiletl.device.run.limits import check_given
from mobiletl.device.run.listener import Listener, Listeners
from mobiletl.device.run.metrics import MetricsFile
from mobiletl.device.run.schedule import Schedule
from mobiletl.device.run.start import Start, bundle_start
from mobiletl.device.run.stop import StopFlag, StopRequested
from mobiletl.device.run.trainer import Job, Trainer
from mobiletl.device.sessions.runtimes import choose_runtime, open_session, static_batch
from mobiletl.device.sessions.session import Session

RESUMED = "resume"

# What a run does that is told nothing; the learning rate is the bundle's.
DEFAULTS: Mapping[str, Any] = {
    "epochs": 10,
    "batch": 8,
    "seed": 0,
    "augment": True,
    "val_split": 0.2,
    "micro_batch": 1,
}


@dataclass(frozen=True)
class Options:
    """What to train; `given` are the settings (checkpoints.Settings) a person has named."""

    bundle: Path
    data: Path
    run: Path
    resume: bool
    given: Mapping[str, Any]
    use_cache: bool = True
    cache: Path | None = None
    """Folder of the feature cache; None is the run's own, emptied at the end."""
    threads: int = 0
    save_every: int = 200
    max_memory: int | None = None
    """Bytes; a run that is planned with more is refused."""


@dataclass(frozen=True)
class Outcome:
    """A finished run."""

    bundle: Bundle
    folder: RunFolder
    dataset: Dataset
    settings: Settings
    position: Position
    plan: MemoryPlan
    skipped: SkippedFiles
    seconds: float


def train(
    options: Options,
    listeners: Sequence[Listener] = (),
    stop: StopFlag | None = None,
    start: Start | None = None,
) -> Outcome:
    """Train as `options` say, from `start` or else from the bundle's initial state.

    `listeners` hear what happens (events.py), after the files in the run's folder have. Raises
    MobileTLError, and StopRequested once `stop` is set and the state is saved.
    """
    started = time.monotonic()
    check_given(options.given, options.resume, start is not None)
    bundle = open_bundle(options.bundle)
    folder = RunFolder(options.run)
    checkpoint = _open_run(options, folder, bundle)
    settings, dataset = _settle(options, bundle, checkpoint)
    run = _Run(options, bundle, folder, settings, dataset, SkippedFiles(dataset), started)
    run.check_memory()
    position = checkpoint.position if checkpoint else Position()
    state, origin = run.first_state(checkpoint, start)
    notes = run.notes(checkpoint)
    _make_folder(folder.path)
    voice = Listeners([MetricsFile(folder.metrics), EventsFile(folder.events), *listeners])
    voice.hear(run.started(position, origin))
    for note in notes:
        voice.hear(note)
    # The session has its own copy; what is still held here would come on top of the plan.
    checkpoint = None
    try:
        session = run.open_session(state)
    except MobileTLError as error:
        run.tell_end(error, position, voice)
        raise
    del state
    with session:
        position = run.train(session, position, voice, StopFlag() if stop is None else stop)
    run.leave_reports()
    if options.cache is None:
        _remove_cache(folder)
    voice.hear(run.ended(FINISHED, "", 0, position))
    seconds = time.monotonic() - started
    return Outcome(bundle, folder, dataset, settings, position, run.plan(), run.skipped, seconds)


@dataclass(frozen=True)
class _Run:
    """The parts of a run that are settled before its session opens."""

    options: Options
    bundle: Bundle
    folder: RunFolder
    settings: Settings
    dataset: Dataset
    skipped: SkippedFiles
    started_at: float
    """On the monotonic clock."""

    def first_state(
        self, checkpoint: Checkpoint | None, start: Start | None
    ) -> tuple[Tensors, str]:
        """Return the state to go on or to begin from, and what to call its origin."""
        if checkpoint is not None:
            return checkpoint.tensors, RESUMED
        names = self.dataset.class_names
        begin = start or bundle_start(self.bundle, names, self.settings.seed)
        return begin.for_classes(self.bundle.manifest, names), begin.origin

    def notes(self, checkpoint: Checkpoint | None) -> list[Note]:
        """Return what a person should know of how this run goes on."""
        here = self.settings.runtime
        if checkpoint is None or checkpoint.settings.runtime == here:
            return []
        before = checkpoint.settings.runtime
        text = f"this run goes on on {here}, where it was on {before}: the numbers round otherwise"
        return [Note(text)]

    def schedule(self) -> Schedule:
        settings = self.settings
        return Schedule(
            len(self.dataset.train), settings.batch, settings.epochs, settings.lr, settings.seed
        )

    def check_memory(self) -> None:
        """Refuse a run that is planned with more than the person allows."""
        limit, settings = self.options.max_memory, self.settings
        if limit is not None:
            files = self.bundle.manifest.runtimes.get(settings.runtime)
            any_batch = files is None or files.batch is None
            check_limit(limit, settings.batch, self.plan, any_batch)

    def plan(self, batch: int | None = None) -> MemoryPlan:
        settings = self.settings
        return plan(
            self.bundle.manifest,
            batch or settings.batch,
            len(self.dataset.class_names),
            settings.micro_batch,
            settings.runtime,
        )

    def started(self, position: Position, origin: str) -> Started:
        schedule = self.schedule()
        return Started(
            run=str(self.folder.path),
            bundle=str(self.bundle.path),
            bundle_id=self.bundle.manifest.id,
            origin=origin,
            dataset=self.dataset,
            settings=asdict(self.settings),
            epochs=schedule.epochs,
            steps_per_epoch=schedule.steps_per_epoch,
            position=position,
            plan=self.plan(),
        )

    def ended(self, outcome: str, message: str, exit_code: int, position: Position) -> Ended:
        seconds = time.monotonic() - self.started_at
        skipped = self.skipped.entries()
        return Ended(outcome, message, exit_code, seconds, peak_bytes(), position, skipped)

    def open_session(self, state: Tensors) -> Session:
        return open_session(
            self.bundle,
            len(self.dataset.class_names),
            state,
            self.options.threads,
            self.settings.runtime or None,
        )

    def train(
        self, session: Session, position: Position, voice: Listener, stop: StopFlag
    ) -> Position:
        """Train to the end; a stop or an error is told and leaves the reports behind, too."""
        manifest, options = self.bundle.manifest, self.options

        def show(name: str, done: int, total: int) -> None:
            stop.raise_if_requested()
            voice.hear(Part(name, done, total))

        trainer: Trainer | None = None
        cache = (options.cache or self.folder.path) if options.use_cache else None
        settings = self.settings
        sources = SourcePlan(
            session=session,
            manifest=manifest,
            augment_seed=settings.seed if settings.augment else None,
            micro_batch=settings.micro_batch,
            runtime=settings.runtime,
            cache=cache,
            on_progress=show,
        )
        try:
            with open_parts(sources, self.dataset, self.skipped) as (training, validation):
                job = Job(
                    session=session,
                    train=training,
                    val=validation,
                    schedule=self.schedule(),
                    classes=len(self.dataset.class_names),
                    buffer=np.empty((self.settings.batch, *manifest.feature.shape), np.float32),
                    checkpoints=Checkpoints(
                        self.folder, manifest, self.dataset.class_names, self.settings
                    ),
                    save_every=options.save_every,
                )
                trainer = Trainer(job, position, voice, stop)
                return trainer.run()
        except (StopRequested, MobileTLError) as error:
            self.tell_end(error, trainer.position if trainer else position, voice)
            self.leave_reports()
            raise

    def tell_end(self, error: Exception, position: Position, voice: Listener) -> None:
        """Tell how the run ended; a disk that is full by now must not hide why."""
        if isinstance(error, MobileTLError):
            ended = self.ended(FAILED, str(error), error.exit_code, position)
        else:
            ended = self.ended(STOPPED, "", Interrupted.exit_code, position)
        with contextlib.suppress(NoSpace):
            voice.hear(ended)

    def leave_reports(self) -> None:
        """Write what a person looks at, also after a stop or an error."""
        self.skipped.write(self.folder.skipped)
        rows = MetricsFile(self.folder.metrics).rows()
        if rows:
            # Late: fonts and drawing are no part of what training needs in memory.
            from mobiletl.device.run.plot import draw_plot

            model, method = self.bundle.manifest.model, self.bundle.manifest.method
            title = f"{model.name}, {method.name} {method.blocks}: {self.folder.path.name}"
            draw_plot(self.folder.plot, rows, title)


def _open_run(options: Options, folder: RunFolder, bundle: Bundle) -> Checkpoint | None:
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


def _settle(
    options: Options, bundle: Bundle, checkpoint: Checkpoint | None
) -> tuple[Settings, Dataset]:
    """Return settings (named, else saved, else default) and the pictures; refuse a changed run."""
    saved = {} if checkpoint is None else asdict(checkpoint.settings)
    runtime = choose_runtime(bundle, options.given.get("runtime", saved.get("runtime")))
    batch = static_batch(bundle, runtime)
    values = {
        **DEFAULTS,
        "lr": bundle.manifest.optimizer.default_lr,
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
    dataset = open_dataset(options.data, values["val_split"], values["seed"])
    values["pictures"] = dataset.fingerprint()
    if checkpoint is not None:
        differences = checkpoint.differences(values, dataset.class_names)
        if differences:
            raise UsageError(
                f"{printable(str(options.run))} was started otherwise: {', '.join(differences)}; "
                "resume it as it was, or start afresh with --out"
            )
    return Settings(**values), dataset


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NoSpace(
            f"folder {printable(str(path))} cannot be made ({error.strerror or error}); "
            "choose another with --out"
        ) from error


def _remove_cache(folder: RunFolder) -> None:
    """Free the disk: nothing reads a finished run's own cache any more."""
    for file in folder.path.glob("features-*.cache"):
        with contextlib.suppress(OSError):
            file.unlink()
