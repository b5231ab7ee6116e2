"""Training runs in a process of its own, so that the memory it states is the memory it uses.

The process is `mobiletl train` on the project's pictures. It belongs to no server: one that is
started again finds it by what `studio.json` says, and reads its events file. A training is stopped
with a signal, after which it saves, and goes on with --resume.
"""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from mobiletl.device.bundle.bundle import Bundle
from mobiletl.device.bundle.closing import Closing
from mobiletl.device.errors import MobileTLError
from mobiletl.device.memory.available import available_bytes
from mobiletl.device.memory.plan import plan
from mobiletl.device.printable import printable
from mobiletl.device.run.checkpoints import RunFolder
from mobiletl.device.run.options import DEFAULTS
from mobiletl.device.sessions.runtimes import choose_runtime, static_batch
from mobiletl.device.studio import processes
from mobiletl.device.studio.album import Album
from mobiletl.device.studio.begun_with import Beginnings, lack_of
from mobiletl.device.studio.endings import ending_of
from mobiletl.device.studio.feed import Feed
from mobiletl.device.studio.live import Live
from mobiletl.device.studio.progress import Follower, Progress
from mobiletl.device.studio.project import Child, Project
from mobiletl.device.studio.refused import Refused
from mobiletl.device.studio.versions import TRAINED, Versions

STARTING, RUNNING, STOPPING = "starting", "training", "stopping"
STOPPED, FINISHED, FAILED = "stopped", "finished", "failed"
LOG = "train.log"
SCRIPT = Path(__file__).resolve().parents[1] / "train_on_board.py"
# Seconds between looks at the events file.
INTERVAL = 0.4
# What is left of a board's memory beside a plan.
HEADROOM = 1.1
# Epochs whose figures a page gets; a curve has no more points than that.
MOST_SHOWN = 200
# While a training runs beside it: seconds between two answers, and between two frames.
ANSWER_PAUSE, FRAME_PAUSE = 0.5, 0.1
ALONE = "paused while the board trains: its memory does not suffice for both"
logger = logging.getLogger(__name__)
_FITTING = re.compile(r"--epochs (\d+) would take")
_CLOSING = 5.0


class Training(Closing):
    """One training at a time; everything may be called from any thread."""

    def __init__(
        self,
        project: Project,
        versions: Versions,
        album: Album,
        bundle: Bundle,
        runtime: str | None,
    ) -> None:
        """Follow nothing yet."""
        self._project, self._versions = project, versions
        self._album, self._bundle, self._runtime = album, bundle, runtime
        self._live: Live | None = None
        self._feed: Feed | None = None
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._follower: Follower | None = None
        self._state = FINISHED
        self._stopping, self._starts_before = False, 0
        self._minutes: float | None = None
        self._beginnings = Beginnings(album)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="training", daemon=True)

    def start(self, live: Live, feed: Feed) -> None:
        """Find a training again that an earlier server has begun; make room with these two."""
        self._live, self._feed = live, feed
        child = self._project.kept.training
        if child is not None:
            self._follower = Follower(self._events(child.version))
            self._follower.read()
            self._state = RUNNING if processes.runs(child) else STOPPED
            if self._state == RUNNING:
                self._share(child.alone)
            else:
                self._end(child)
        self._thread.start()

    @property
    def runs(self) -> bool:
        """Whether a training is under way."""
        return self._state in (STARTING, RUNNING, STOPPING)

    @property
    def version(self) -> str | None:
        """The version that the training makes or has made, if there is one."""
        child = self._project.kept.training
        return None if child is None else child.version

    def begin(self, epochs: int | None, minutes: float | None) -> None:
        """Start a training; raises Refused, MobileTLError."""
        with self._lock:
            self._check_idle()
            lack = lack_of(self._album.counts())
            if lack:
                raise Refused(409, lack)
            words = [] if epochs is None else ["--epochs", str(epochs)]
            words += [] if minutes is None else ["--max-time", f"{minutes * 60:.2f}s"]
            version = self._versions.new_id(TRAINED)
            self._minutes = minutes
            try:
                self._spawn(version, ["--out"], words)
            except BaseException:
                self._versions.discard(version)
                raise

    def stop(self) -> None:
        """Have the training save and stop; raises Refused."""
        with self._lock:
            child = self._project.kept.training
            if child is None or not self.runs:
                raise Refused(409, "no training runs")
            self._stopping = True
            self._state = STOPPING
            processes.ask_to_stop(child)

    def go_on(self) -> None:
        """Go on with the training that was stopped; raises Refused, MobileTLError."""
        with self._lock:
            self._check_idle()
            child = self._project.kept.training
            if child is None or not RunFolder(self._versions.folder / child.version).resumable():
                raise Refused(409, "there is no training to go on with; start one")
            if self._state == FINISHED:
                raise Refused(409, "the training has finished; start another one")
            blocked = self._beginnings.why_blocked(self._versions.folder / child.version)
            if blocked:
                raise Refused(409, blocked)
            self._minutes = None
            self._spawn(child.version, ["--resume"], [])

    def forget(self, version: str) -> None:
        """Leave a training alone whose version is deleted; raises Refused while it runs."""
        with self._lock:
            if version == self.version:
                self._check_idle()
                self._project.keep(training=None)
                self._follower = None

    def document(self) -> dict[str, Any] | None:
        """Return what the page shows of the newest training."""
        with self._lock:
            child, follower = self._project.kept.training, self._follower
            if child is None or follower is None:
                return None
            progress = follower.progress
            run = self._versions.folder / child.version
            stopped = self._state == STOPPED
            peak = (processes.peak_bytes(child) if self.runs else None) or progress.measured_bytes
            return {
                "version": child.version,
                "state": self._state,
                "epoch": progress.epoch,
                "epochs": progress.epochs,
                "step": progress.step,
                "steps": progress.steps,
                "loss": progress.loss,
                "accuracy": progress.accuracy,
                "seconds_left": progress.seconds_left if self.runs else None,
                "history": _thinned(progress),
                "planned_mb": _megabytes(progress.planned_bytes),
                "measured_mb": _megabytes(peak),
                "message": progress.message,
                "cannot_go_on": self._beginnings.why_blocked(run) if stopped else "",
            }

    def close(self) -> None:
        """Follow no more; the training itself goes on."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join(_CLOSING)
        if self._process is not None and self._process.poll() is None:
            # Python warns of a process that nobody waits for; this one is meant to go on.
            self._process.returncode = 0

    def _run(self) -> None:
        while not self._closed.wait(INTERVAL):
            try:
                with self._lock:
                    self._look()
            # The next look may find it in order: a disk that was full, a network that was busy.
            except Exception:
                logger.exception("the training could not be followed")

    def _look(self) -> None:
        child, follower = self._project.kept.training, self._follower
        if child is None or follower is None or not self.runs:
            return
        if self._process is not None:
            self._process.poll()  # or it would stay as a zombie
        alive = processes.runs(child)
        progress = follower.read()
        if alive:
            begun = progress.started > self._starts_before
            if begun:
                self._beginnings.seen(self._versions.folder / child.version)
            self._state = STOPPING if self._stopping else RUNNING if begun else STARTING
        else:
            self._end(child)

    def _end(self, child: Child) -> None:
        """The process is gone; say how it ended, and keep what it made."""
        assert self._follower is not None
        code = None if self._process is None else self._process.poll()
        asked, self._stopping = self._stopping, False
        self._process = None
        progress = self._follower.read()
        begun = progress.started > self._starts_before
        folder = RunFolder(self._versions.folder / child.version)
        if begun:
            self._beginnings.seen(folder.path)
        if begun and progress.outcome:
            self._state = progress.outcome
        else:
            ending = ending_of(code, asked, folder.path / LOG)
            goes_on = not ending.failed and folder.resumable()
            self._state = STOPPED if goes_on or ending.asked else FAILED
            later = "; it can go on from where it last saved"
            progress.message = ending.words + later * (goes_on and not ending.asked)
        # Only now: while a training runs, answers and frames are slowed down.
        self._share(False)
        if self._state == FAILED and self._begin_shorter(child, progress):
            return
        try:
            self._versions.keep_trained(child.version, progress)
        except MobileTLError as error:
            progress.message = printable(str(error))

    def _begin_shorter(self, child: Child, progress: Progress) -> bool:
        """Begin again with as many epochs as fit into the minutes that a person gave."""
        fitting = _FITTING.search(progress.message) if self._minutes is not None else None
        self._minutes = None
        if fitting is None:
            return False
        try:
            self._spawn(child.version, ["--out"], ["--epochs", fitting[1]])
        except (Refused, MobileTLError) as error:
            progress.message = printable(str(error))
            return False
        return True

    def _spawn(self, version: str, place: list[str], words: list[str]) -> None:
        """Make room, then start the process."""
        folder = self._versions.folder / version
        alone = self._make_room()
        command = [sys.executable, str(SCRIPT), "--bundle", str(self._bundle.path.resolve())]
        # The pictures stay where they are, so nothing of them has to be kept for a later run.
        command += ["--data", str(self._album.folder.resolve()), "--replay-mb", "0"]
        command += [] if self._runtime is None else ["--runtime", self._runtime]
        # What a training goes on with its state says.
        if self._bundle.levels and "--out" in place:
            command += ["--blocks", str(self._bundle.manifest.method.blocks)]
        command += [*place, str(folder.resolve()), *words]
        follower = Follower(self._events(version))
        starts_before = follower.read().started
        if "--out" in place:
            self._beginnings.begin()
        try:
            process = processes.start(command, folder / LOG)
        except MobileTLError:
            self._share(False)
            raise
        began = processes.began(process.pid)
        child = Child(version, process.pid, began or 0, processes.boot(), alone)
        self._process, self._follower = process, follower
        self._starts_before = starts_before
        self._state, self._stopping = STARTING, False
        self._share(alone)
        self._project.keep(training=child)

    def _make_room(self) -> bool:
        """Return whether the studio has to give up its network; raises Refused if even that is too
        little.
        """
        planned = self.planned_bytes() * HEADROOM
        free = available_bytes()
        alone = free is not None and free < planned
        self._share(alone)
        if not alone:
            return False
        free = available_bytes()
        if free is not None and free < planned:
            self._share(False)
            raise Refused(
                409,
                f"training is planned with {planned / HEADROOM / 1e6:.0f} MB, and "
                f"{free / 1e6:.0f} MB are free; stop other programs on the board, or export fewer "
                "--blocks or a lower --resolution",
            )
        return True

    def planned_bytes(self) -> int:
        """Return the planned peak of a training with the classes that are there."""
        row = choose_runtime(self._bundle, self._runtime)
        batch = static_batch(self._bundle, row) or DEFAULTS["batch"]
        counts = [count for _, count in self._album.counts()]
        sizes = batch, max(2, len(counts)), DEFAULTS["micro_batch"]
        pictures = sum(counts)
        return plan(self._bundle.manifest, *sizes, row.name, pictures=pictures).total_bytes

    def _share(self, alone: bool) -> None:
        """Slow the live part down while a training runs, or stop it where memory is short."""
        if self._live is None or self._feed is None:
            return
        why = ALONE if alone else ""
        self._feed.hold(why)
        self._live.hold(why)
        self._live.slow(ANSWER_PAUSE if self.runs else 0.0)
        self._feed.slow(FRAME_PAUSE if self.runs else 0.0)

    def _check_idle(self) -> None:
        if self.runs:
            raise Refused(409, "a training runs already; stop it first")

    def _events(self, version: str) -> Path:
        return RunFolder(self._versions.folder / version).events


def _thinned(progress: Progress) -> list[dict[str, Any]]:
    """Return the figures of epochs, of many some that are evenly spread, the newest among them."""
    epochs = sorted(progress.history)
    step = -(-len(epochs) // MOST_SHOWN) or 1
    shown = epochs[::-1][::step][::-1]
    return [{"epoch": epoch, **progress.history[epoch]} for epoch in shown]


def _megabytes(size: float | None) -> float | None:
    return None if size is None else round(size / 1e6, 1)
