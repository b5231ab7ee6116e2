"""What a run says of itself: its first and its last event, what its caller gets, its reports."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import asdict, dataclass

from mobiletl.device.bundle.answers import Answers
from mobiletl.device.bundle.bundle import Bundle
from mobiletl.device.bundle.wear import Wear, wear
from mobiletl.device.errors import Interrupted, MobileTLError, NoSpace
from mobiletl.device.memory.measured import peak_bytes
from mobiletl.device.memory.plan import SOLVING, MemoryPlan, plan
from mobiletl.device.neighbour.courtesy import Courtesy
from mobiletl.device.pictures.skipped import SkippedFiles
from mobiletl.device.run.checkpoints import Position, Settings
from mobiletl.device.run.events import FAILED, STOPPED, Ended, Started
from mobiletl.device.run.listener import Listener
from mobiletl.device.run.metrics import MetricsFile
from mobiletl.device.run.opening import Opened
from mobiletl.device.run.options import Options, Outcome
from mobiletl.device.run.schedule import Schedule
from mobiletl.device.run.settling import Kept, is_judged
from mobiletl.device.sessions.freed import returns_code

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Told:
    """A run, as far as it has to be told of."""

    options: Options
    bundle: Bundle
    opened: Opened
    skipped: SkippedFiles
    started_at: float
    """On the monotonic clock."""
    wear_before: Wear
    """What the thread had written by then."""
    courtesy: Courtesy

    @property
    def settings(self) -> Settings:
        return self.opened.settings

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.opened.dataset.class_names

    def schedule(self) -> Schedule:
        """Return the order and the rates of the steps."""
        settings = self.settings
        pictures = len(self.opened.dataset.train) + len(self.opened.replayed.train)
        return Schedule(pictures, settings.batch, settings.epochs, settings.lr, settings.seed)

    def plan(self, batch: int | None = None) -> MemoryPlan:
        """Return what the run takes, with this batch or its own."""
        settings = self.settings
        planned = plan(
            self.bundle.manifest,
            batch or settings.batch,
            len(self.class_names),
            settings.micro_batch,
            settings.runtime,
            self.opened.dataset.decoding_bytes,
            self.opened.dataset.pictures,
        )
        # A run that keeps its best epoch as it is solves for no classifier in the end. What it asks
        # of 256 pictures' embeddings takes as much, but not more than code that is given back.
        judged = is_judged(self.bundle, settings, self.opened.folder)
        return planned if judged or not returns_code() else planned.without(SOLVING)

    def started(self, position: Position, origin: str) -> Started:
        """Return the first event."""
        schedule = self.schedule()
        return Started(
            run=str(self.opened.folder.path),
            bundle=str(self.bundle.path),
            bundle_id=self.bundle.manifest.id,
            origin=origin,
            dataset=self.opened.dataset,
            settings=asdict(self.settings),
            epochs=schedule.epochs,
            steps_per_epoch=schedule.steps_per_epoch,
            position=position,
            plan=self.plan(),
        )

    def ended(
        self,
        outcome: str,
        message: str,
        exit_code: int,
        position: Position,
        answers: Answers | None = None,
        kept: Kept | None = None,
    ) -> Ended:
        """Return the last event."""
        seconds = time.monotonic() - self.started_at
        skipped = self.skipped.entries()
        peak = peak_bytes()
        written = wear().since(self.wear_before)
        return Ended(
            outcome,
            message,
            exit_code,
            seconds,
            peak,
            position,
            skipped,
            answers,
            written,
            self.courtesy.finish(),
            None if kept is None else kept.document(),
        )

    def outcome(self, position: Position) -> Outcome:
        """Return what the caller gets of a run that has finished."""
        return Outcome(
            self.bundle,
            self.opened.folder,
            self.opened.dataset,
            self.settings,
            position,
            self.plan(),
            self.skipped,
            time.monotonic() - self.started_at,
            wear().since(self.wear_before),
        )

    def tell_end(self, error: Exception, position: Position, voice: Listener) -> None:
        """Tell how the run ended; a disk that is full by now must not hide why."""
        how = (STOPPED, "", Interrupted.exit_code)
        if isinstance(error, MobileTLError):
            how = (FAILED, str(error), error.exit_code)
        # The end of a pause is told as well.
        with contextlib.suppress(NoSpace):
            voice.hear(self.ended(*how, position))

    def try_to_leave_reports(self) -> None:
        """Write what a person looks at after a stop or an error, which it must not hide."""
        try:
            self.leave_reports()
        except (MobileTLError, OSError) as error:
            logger.warning("%s", error)

    def leave_reports(self) -> None:
        """Write what a person looks at."""
        folder = self.opened.folder
        self.skipped.write(folder.skipped)
        rows = MetricsFile(folder.metrics).rows()
        if rows:
            # Late: fonts and drawing are no part of what training needs in memory.
            from mobiletl.device.run.plot import draw_plot

            model, method = self.bundle.manifest.model, self.bundle.manifest.method
            title = f"{model.name}, {method.name} {method.blocks}: {folder.path.name}"
            draw_plot(folder.plot, rows, title)
