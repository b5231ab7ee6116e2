"""One training run from options to result: opens everything, trains, leaves the folder tidy."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import Callable, Sequence

import numpy as np

from mobiletl.device.bundle.answers import Answers
from mobiletl.device.bundle.arrays import Tensors
from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.wear import wear
from mobiletl.device.errors import MobileTLError
from mobiletl.device.features.parts import Parts, SourcePlan, open_parts, worth_keeping
from mobiletl.device.features.replay import memory_path
from mobiletl.device.features.views import judged as judged_views
from mobiletl.device.features.views import views
from mobiletl.device.memory.limit import check_limit
from mobiletl.device.neighbour.courtesy import Courtesy
from mobiletl.device.pictures.balanced import balanced_rows
from mobiletl.device.pictures.skipped import SkippedFiles
from mobiletl.device.run import maps
from mobiletl.device.run.anchor import Anchor
from mobiletl.device.run.beginning import Beginning, first_state
from mobiletl.device.run.checkpoints import Checkpoints, Position, RunFolder
from mobiletl.device.run.claim import Claim
from mobiletl.device.run.events import FINISHED, Note, Part
from mobiletl.device.run.events_file import EventsFile
from mobiletl.device.run.expected import TooLong
from mobiletl.device.run.level import named_level
from mobiletl.device.run.limits import RANDOM, check_given
from mobiletl.device.run.listener import Listener, Listeners
from mobiletl.device.run.metrics import MetricsFile
from mobiletl.device.run.notes import notes
from mobiletl.device.run.opening import open_run
from mobiletl.device.run.options import Options, Outcome
from mobiletl.device.run.settling import JudgedPictures, Kept, Settling, is_judged
from mobiletl.device.run.start import Start
from mobiletl.device.run.stop import StopFlag, StopRequested
from mobiletl.device.run.telling import Told
from mobiletl.device.run.trainer import Job, Trainer
from mobiletl.device.sessions.runtimes import open_session
from mobiletl.device.sessions.session import Session
from mobiletl.device.solving.closed_form import MOST_PICTURES, load_head

RESUMED = "resume"

logger = logging.getLogger(__name__)


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
    check_given(options.given, options.resume, start is not None or options.former is not None)
    with Claim(RunFolder(options.run)) as claim:
        return _train(options, claim, listeners, stop, start)


def _train(
    options: Options,
    claim: Claim,
    listeners: Sequence[Listener],
    stop: StopFlag | None,
    start: Start | None,
) -> Outcome:
    started, before = time.monotonic(), wear()
    courtesy = Courtesy(options.limits, options.system_root)
    bundle = open_bundle(options.bundle, options.trust, options.key)
    opened = open_run(options, bundle, start)
    record, bundle = opened.record, opened.bundle
    earlier = {} if opened.checkpoint is None else record.reasons
    skipped = SkippedFiles(opened.dataset, earlier, record.skip)
    run = _Run(options, bundle, opened, skipped, started, before, courtesy)
    run.check_memory()
    position = opened.checkpoint.position if opened.checkpoint else Position()
    beginning = run.beginning(start)
    claim.take()
    # The line that says what the run is begun with comes first: a resumed run may have no more.
    files = [EventsFile(opened.folder.events), MetricsFile(opened.folder.metrics)]
    voice = Listeners([*files, *listeners])
    courtesy.tell, courtesy.remark = voice.hear, lambda text: voice.hear(Note(text))
    voice.hear(run.started(position, beginning.origin))
    for text in notes(opened):
        voice.hear(Note(text))
    try:
        record.begin(fresh=opened.checkpoint is None)
        maps.take_over(run.opened, bundle.manifest)
        run.keep_beginning(beginning)
        # The session has its own copy; what is still held here would come on top of the plan.
        run = run.without_states()
        session = run.open_session(beginning.tensors)
    except MobileTLError as error:
        run.tell_end(error, position, voice)
        raise
    needs_head = beginning.needs_head
    del beginning, opened
    with session:
        flag = StopFlag() if stop is None else stop
        position, kept, answers = run.train(session, position, needs_head, voice, flag)
    run.leave_reports()
    maps.leave(options, run.opened, bundle.manifest)
    voice.hear(run.ended(FINISHED, "", 0, position, answers, kept))
    return run.outcome(position)


@dataclass(frozen=True)
class _Run(Told):
    """The parts of a run that are settled before its session opens."""

    missing: tuple[str, ...] = ()
    """Which states are to be saved again before the run goes on (restoring.py)."""

    def without_states(self) -> _Run:
        """The same, with nothing of a state held any more."""
        missing = () if self.opened.checkpoint is None else self.opened.checkpoint.missing
        opened = replace(self.opened, checkpoint=None, former=None)
        return replace(self, opened=opened, missing=missing)

    def beginning(self, start: Start | None) -> Beginning:
        """Return the state to go on or to begin from."""
        if self.opened.checkpoint is not None:
            return Beginning(self.opened.checkpoint.tensors, RESUMED)
        begin = first_state(self.bundle, self.opened, start)
        if start is None and self.settings.start == RANDOM and self.opened.former is None:
            return replace(begin, needs_head=False)
        return begin

    def keep_beginning(self, beginning: Beginning) -> None:
        """Save what the run is to be compared with in the end, unless the bundle has it."""
        if self.opened.checkpoint is None:
            former = self.opened.former is not None
            keep = former and beginning.needs_head
            self._checkpoints().keep_began(beginning.tensors if keep else None)

    def check_memory(self) -> None:
        """Refuse a run that is planned with more than the person allows."""
        limit, settings = self.options.max_memory, self.settings
        if limit is not None:
            files = self.bundle.manifest.runtimes.get(settings.runtime)
            any_batch = files is None or files.batch is None
            check_limit(limit, settings.batch, self.plan, any_batch, named_level(self.bundle))

    def open_session(self, state: Tensors) -> Session:
        """Open the runtime with a copy of `state`."""
        threads, runtime = self.settings.threads, self.settings.runtime or None
        room = self.plan().activations
        return open_session(self.bundle, len(self.class_names), state, threads, runtime, room)

    def train(
        self,
        session: Session,
        position: Position,
        needs_head: bool,
        voice: Listener,
        stop: StopFlag,
    ) -> tuple[Position, Kept | None, Answers | None]:
        """Train to the end; a stop or an error is told and leaves the reports behind, too."""
        trainer: Trainer | None = None
        try:
            sources = self._sources(session, stop)
            with open_parts(sources, self.opened.dataset, self.skipped) as parts:
                job = self._job(session, parts)
                if needs_head:
                    self._solve(job, voice, stop)
                trainer = Trainer(job, position, voice, stop, self.missing)
                position = trainer.run()
                if not self.options.answers:
                    return position, None, None
                return (position, *self._settle(job, position, voice, stop))
        except (StopRequested, MobileTLError) as error:
            self.tell_end(error, trainer.position if trainer else position, voice)
            if isinstance(error, TooLong):
                self.opened.folder.discard()
            else:
                self.try_to_leave_reports()
            raise

    def _sources(self, session: Session, stop: StopFlag) -> SourcePlan:
        settings, manifest = self.settings, self.bundle.manifest

        def ahead() -> bool:
            """Between two maps a run may rest, and stops when it is asked to."""
            self.courtesy.rest(stop.__bool__)
            return not stop

        memory = memory_path(self.opened.folder.path, manifest)
        cache = maps.cache_folder(self.options, self.opened)
        return SourcePlan(
            session=session,
            manifest=manifest,
            views=views(settings.views),
            micro_batch=settings.micro_batch,
            cache=cache if self.options.use_cache else None,
            memory=memory if memory.is_file() else None,
            kept=self.opened.replayed,
            known=self.opened.record.identities,
            note=self.opened.record.note,
            epochs=settings.epochs,
            ahead=ahead,
        )

    def _checkpoints(self) -> Checkpoints:
        dataset, manifest = self.opened.dataset, self.bundle.manifest
        return Checkpoints(
            self.opened.folder, manifest, dataset.class_names, self.settings, dataset.view
        )

    def _job(self, session: Session, parts: Parts) -> Job:
        manifest, dataset = self.bundle.manifest, self.opened.dataset
        mu = self.options.proximal
        return Job(
            session=session,
            train=parts.train,
            val=parts.val,
            schedule=self.schedule(),
            classes=len(dataset.class_names),
            buffer=np.empty((self.settings.batch, *manifest.feature.shape), np.float32),
            checkpoints=self._checkpoints(),
            save_every=self.options.save_every,
            save_budget=self.options.save_budget,
            courtesy=self.courtesy,
            passes=self._passes(),
            max_seconds=self.options.max_seconds,
            anchor=Anchor(manifest, session.state(), mu) if mu else None,
        )

    def _settle(
        self, job: Job, position: Position, voice: Listener, stop: StopFlag
    ) -> tuple[Kept | None, Answers | None]:
        """Settle what is kept of the run, and how sure its answers may be."""

        def show(name: str, done: int, total: int) -> None:
            self._progress(name, voice, stop)(done, total)

        drawn, seed = self.opened.dataset.drawn, self.settings.seed
        pictures = JudgedPictures(self._rows(), self._views_seen(), seed, drawn)
        return Settling(job, self.bundle, pictures, show).settle(position, self._is_judged())

    def _views_seen(self) -> int:
        """Return how many views of a validation picture training is judged by."""
        return len(judged_views(views(self.settings.views)).numbers)

    def _is_judged(self) -> bool:
        """Whether training has to prove itself: it began from a classifier that was solved for."""
        return is_judged(self.bundle, self.settings, self.opened.folder)

    def _passes(self) -> int:
        """How many maps have to be computed, if none is there yet."""
        settings = self.settings
        kept = self.options.use_cache and worth_keeping(self.bundle.manifest) and settings.views
        rounds = min(settings.views, settings.epochs) if kept else settings.epochs
        judges = self._views_seen() if self._is_judged() else 1
        return rounds * len(self.opened.dataset.train) + judges * len(self.opened.dataset.val)

    def _solve(self, job: Job, voice: Listener, stop: StopFlag) -> None:
        """Begin from a classifier in closed form."""
        show = self._progress("embedding", voice, stop)
        manifest, seed = self.bundle.manifest, self.settings.seed
        chosen = balanced_rows(job.train.labels, self._rows(), seed, MOST_PICTURES)
        fit = load_head(job.session, manifest, job.train, chosen, job.classes, job.buffer, show)
        if fit is None:
            text = "the classifier has no bias, so it is drawn at random and not solved for"
            voice.hear(Note(text))

    def _rows(self) -> list[int]:
        """Return the rows of the training part, of a picture that comes repeatedly the first."""
        there = len(self.opened.dataset.train)
        return [*range(there), *self.opened.replayed.once(there)]

    def _progress(self, name: str, voice: Listener, stop: StopFlag) -> Callable[[int, int], None]:
        """Tell how far a part of the work is, and stop there once that is asked for."""

        def show(done: int, total: int) -> None:
            self.courtesy.rest(stop.__bool__)
            stop.raise_if_requested()
            voice.hear(Part(name, done, total))

        return show
