"""The training loop: steps, evaluation after each epoch, saves, and stopping anywhere.

Everything a step depends on follows from the seed, the epoch and the step (`schedule`, `augment`)
or is in the state, so a run resumed from any save ends with the bytes of the uninterrupted one.
"""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass, replace
from typing import Sequence

import numpy as np

from mobiletl.device.bundle.arrays import Floats
from mobiletl.device.bundle.state_file import BEST, LAST
from mobiletl.device.errors import Diverged, MobileTLError, PicturesAway
from mobiletl.device.features.parts import Pictures
from mobiletl.device.memory.measured import peak_bytes, resident_bytes
from mobiletl.device.neighbour.courtesy import Courtesy
from mobiletl.device.run.anchor import Anchor
from mobiletl.device.run.checkpoints import Best, Checkpoints, Position
from mobiletl.device.run.evaluation import Score, evaluate
from mobiletl.device.run.events import Epoch, EpochMetrics, Expected, Note, Part, Step
from mobiletl.device.run.expected import Work, check_time, time_batch
from mobiletl.device.run.listener import Listener
from mobiletl.device.run.pace import Pace
from mobiletl.device.run.righting import (
    MOST_CUTS,
    clearly_below,
    cut_rate,
    fall,
    far_below,
    go_back,
)
from mobiletl.device.run.saves import Saves
from mobiletl.device.run.schedule import Schedule
from mobiletl.device.run.stop import StopFlag, StopRequested
from mobiletl.device.sessions.session import Session, StepResult

# A longer pause is no part of a step's duration, of which the time left is reckoned.
LONG_PAUSE_S = 10.0


@dataclass(frozen=True)
class Job:
    """What a trainer works with; `buffer` f32[N,C,h,w] is the only batch in memory."""

    session: Session
    train: Pictures
    val: Pictures
    schedule: Schedule
    classes: int
    buffer: Floats
    checkpoints: Checkpoints
    save_every: int
    """Steps between saves inside an epoch, where the budget allows one."""
    passes: int
    """How many maps are computed in the whole run."""
    max_seconds: float | None = None
    """A fresh run that is expected to take longer is refused."""
    save_budget: float | None = None
    """Bytes of saves in an hour (saves.py); None for a save whenever there is something to save."""
    courtesy: Courtesy | None = None
    """Pauses between steps; None for a run that never pauses."""
    anchor: Anchor | None = None
    """What pulls each step back to where the run began, if anything does."""


class Trainer:
    """Takes a job from `position` to the end of its schedule."""

    def __init__(
        self,
        job: Job,
        position: Position,
        listener: Listener,
        stop: StopFlag,
        missing: Sequence[str] = (),
    ) -> None:
        """`position` is where the session's state stands: Position() for a fresh one.

        `missing` are states that are to be saved as they stand, before anything is trained.
        """
        self.position = position
        self._missing = missing
        self._job = job
        self._listener = listener
        self._stop = stop
        self._pace = Pace(job.schedule)
        self._ahead_s = 0.0
        self._saves = Saves(job.checkpoints, job.session, listener, job.save_budget)

    def run(self) -> Position:
        """Train to the end and return the final position.

        Raises StopRequested and PicturesAway after saving the place to resume from, NoSpace, and
        Diverged once cuts of the rate have not helped.
        """
        try:
            saves = {BEST: self._saves.best, LAST: self._saves.last}
            for kind in self._missing:
                saves[kind](self.position, must=True)
            if self.position.before is None:
                self._score_before()
            if self.position.epoch < self._job.schedule.epochs:
                self._expect()
            while self.position.epoch < self._job.schedule.epochs:
                try:
                    self._train_epoch(self.position.epoch + 1)
                    self._close_epoch(self.position.epoch + 1)
                except Diverged as error:
                    self._go_back(str(error))
        except (StopRequested, PicturesAway):
            # Numbers that have just left the range stay in memory; the steps that led there since
            # the last save are taken again.
            with contextlib.suppress(Diverged):
                self._saves.last(self.position, must=True)
            raise
        except MobileTLError:
            with contextlib.suppress(MobileTLError):
                self._saves.settle()
            raise
        finally:
            self._saves.close()
        return self.position

    def _score_before(self) -> None:
        """Score the state nothing was trained on yet: the first row of the metrics, and the first
        candidate for the best state, so that a run never ends below where it began.

        A place to resume from is on the disk before the best state is.
        """
        started = self._working_time()
        score = self._score()
        if not math.isfinite(score.loss):
            raise Diverged(
                f"the validation loss is {score.loss} before anything is trained; "
                "start from another state"
            )
        self._saves.last(self.position, must=True)
        self.position = replace(
            self.position, before=score, latest=score, best=Best(0, score, score.accuracy)
        )
        self._saves.best(self.position, must=True)
        self._report(0, score, self._working_time() - started)

    def _expect(self) -> None:
        """Tell how long what is left will take; raises TooLong if that is more than allowed."""
        job, position = self._job, self.position
        timing = time_batch(job.session, job.train, job.schedule, job.buffer)
        with job.checkpoints.open(LAST) as stored:
            job.session.load(stored)
        done = job.train.source.computed + job.val.source.computed
        work = Work(job.schedule, max(job.passes - done, 0), len(job.val.labels))
        left = 1 - position.step / job.schedule.steps
        self._listener.hear(Expected(left * timing.seconds(work)))
        if job.max_seconds is not None and not position.step:
            check_time(job.max_seconds, timing, work)

    def _go_back(self, fact: str) -> None:
        """Go on from the best state at a lower rate; raises Diverged after enough cuts."""
        job = self._job
        self._saves.settle()
        self.position, note = go_back(
            fact, self.position, job.session, job.checkpoints, job.schedule.lr
        )
        self._saves.last(self.position, must=True)
        self._listener.hear(note)

    def _train_epoch(self, epoch: int) -> None:
        """Take the steps of `epoch` that are left."""
        schedule = self._job.schedule
        first = self.position.step - self.position.epoch * schedule.steps_per_epoch
        for rows in schedule.rows(epoch)[first:]:
            self._step(epoch, rows)
            self._tell_step(epoch)
            self._rest()
            if self._stop:
                raise StopRequested
            if self.position.step % self._job.save_every == 0:
                self._saves.last(self.position, must=self._saves.due())

    def _step(self, epoch: int, rows: list[int]) -> None:
        """Take one step, or none where unreadable files left less than a batch of two."""
        started = self._working_time()
        job, position = self._job, self.position
        written = self._fill(rows, epoch)
        if len(written) >= min(2, job.schedule.batch):
            result = self._update(written)
            if not math.isfinite(result.loss):
                step = position.step + 1
                raise Diverged(f"the loss is {result.loss} at step {step} of epoch {epoch}")
            position = replace(
                position,
                loss_sum=position.loss_sum + result.loss * len(written),
                correct=position.correct + result.correct,
                seen=position.seen + len(written),
            )
        seconds = position.seconds + self._working_time() - started
        self.position = replace(position, step=position.step + 1, seconds=seconds)

    def _fill(self, rows: list[int], epoch: int) -> list[int]:
        """Put the maps of `rows` into the buffer; return the rows that could be read."""
        job, started = self._job, self._working_time()
        before = job.train.source.computed
        written = job.train.source.fill(rows, epoch, job.buffer)
        ahead = job.train.source.computed - before > len(rows)
        self._ahead_s = self._working_time() - started if ahead else 0.0
        return written

    def _tell_step(self, epoch: int) -> None:
        self._pace.step(self._ahead_s)
        position, schedule = self.position, self._job.schedule
        seen = max(position.seen, 1)
        self._listener.hear(
            Step(
                epoch=epoch,
                step=position.step,
                step_of_epoch=position.step - (epoch - 1) * schedule.steps_per_epoch,
                loss=position.loss_sum / seen,
                accuracy=position.correct / seen,
                pictures_per_s=position.seen / max(position.seconds, 1e-9),
                seconds_left=self._pace.seconds_left(epoch, position.step),
            )
        )

    def _update(self, written: list[int]) -> StepResult:
        """Train on the pictures `written`, whose maps come first in the buffer.

        Where a step takes one number of pictures only, they are repeated to make it up: means over
        the batch stay the same when it divides, and nearly so when it doesn't.
        """
        job = self._job
        size = job.session.batch or len(written)
        repeated = np.arange(size) % len(written)
        if size > len(written):
            job.buffer[len(written) : size] = job.buffer[repeated[len(written) :]]
        rate = self._rate(self.position.step)
        result = job.session.train_step(
            job.buffer[:size], job.train.labels[written][repeated], rate
        )
        if job.anchor is not None:
            job.anchor.pull(job.session, rate)
        return replace(result, correct=round(result.correct * len(written) / size))

    def _close_epoch(self, epoch: int) -> None:
        """Score the epoch, keep it if it is the best, save, and start the sums afresh.

        In this order: whatever a crash cuts off here is done again, with the same result. A run
        that goes back to its best state is saved once it has: in between there is nothing to save.
        """
        started = self._working_time()
        must = epoch == self._job.schedule.epochs or self._saves.due()
        score = self._score()
        if not math.isfinite(score.loss):
            raise Diverged(f"the validation loss is {score.loss} after epoch {epoch}")
        ended = replace(
            self.position, epoch=epoch, latest=score, loss_sum=0.0, correct=0, seen=0, seconds=0.0
        )
        best = ended.best
        top = score.accuracy if best is None else max(best.top, score.accuracy)
        if not clearly_below(score, top):
            ended = replace(ended, best=Best(epoch, score, top))
            self._saves.best(ended, must)
        self._report(epoch, score, self._working_time() - started)
        self.position = ended
        fallen = best if best is not None and far_below(score, best.score) else None
        ending = epoch == self._job.schedule.epochs or ended.cuts == MOST_CUTS
        if fallen is not None and not ending:
            self._go_back(fall(score, epoch, fallen))
            return
        self._saves.last(self.position, must)
        if fallen is not None:
            fact = fall(score, epoch, fallen)
            self._listener.hear(Note(f"{fact}; the best state is the one that is kept"))

    def _score(self) -> Score:
        job = self._job
        return evaluate(
            job.session, job.val.source, job.val.labels, job.classes, job.buffer, self._evaluating
        )

    def _rest(self) -> None:
        """Let the machine cool down, or others work."""
        courtesy = self._job.courtesy
        if courtesy is not None and courtesy.rest(self._stop.__bool__) > LONG_PAUSE_S:
            self._pace.interrupted()

    def _working_time(self) -> float:
        """Return the monotonic clock's seconds without those of pauses."""
        courtesy = self._job.courtesy
        return time.monotonic() - (0.0 if courtesy is None else courtesy.waited_s)

    def _evaluating(self, done: int, total: int) -> None:
        self._rest()
        if self._stop:
            raise StopRequested
        self._pace.interrupted()
        self._listener.hear(Part("evaluating", done, total))

    def _rate(self, step: int) -> float:
        return cut_rate(self._job.schedule.rate(step), self.position.cuts)

    def _report(self, epoch: int, score: Score, score_seconds: float) -> None:
        """Tell the figures of an epoch; `position` still holds its sums."""
        position = self.position
        seen = position.seen
        row = EpochMetrics(
            epoch=epoch,
            step=position.step,
            train_loss=position.loss_sum / seen if seen else None,
            train_accuracy=position.correct / seen if seen else None,
            val_loss=score.loss,
            val_accuracy=score.accuracy,
            lr=self._rate(position.step - 1) if position.step else None,
            pictures_per_s=seen / max(position.seconds, 1e-9) if seen else None,
            rss_bytes=resident_bytes(),
            peak_bytes=peak_bytes(),
            seconds=position.seconds + score_seconds,
        )
        self._pace.scored(score_seconds)
        self._listener.hear(Epoch(row, score_seconds))
