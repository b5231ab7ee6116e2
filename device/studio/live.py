"""What the board knows and sees right now: a thread that learns pictures and answers frames.

The thread compares the album with the embeddings it has, works off what is missing, solves the
classifier again, and names the newest frame in between, as long as somebody looks.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, TypeVar

from mobiletl.device.bundle.closing import Closing
from mobiletl.device.bundle.decode import UnreadablePicture
from mobiletl.device.bundle.frame import Frame
from mobiletl.device.errors import MobileTLError
from mobiletl.device.prediction.predictor import Prediction
from mobiletl.device.printable import printable
from mobiletl.device.solving.taught import Solved, solve_for
from mobiletl.device.starting import multiplying
from mobiletl.device.studio.album import Album
from mobiletl.device.studio.embeddings import Embeddings
from mobiletl.device.studio.feed import Feed
from mobiletl.device.studio.network import Network
from mobiletl.device.studio.project import LIVE
from mobiletl.device.studio.refused import Refused

NEEDS, LEARNING, READY = "needs", "learning", "ready"
# Bounds what solving takes: 18 MB for 512 embeddings of 1280 numbers (solving/closed_form.py).
MOST_SOLVED = 512
# Seconds of learning at a stretch before a frame is named.
STRETCH = 0.4
# While pictures keep coming, solving may take this share of the time.
SHARE_OF_SOLVING = 0.2
# Answers are computed as long as a page has asked for them within so many seconds.
WATCHED = 5.0
RATE_OVER = 3.0
SETTLING = 5.0
# A state is loaded, or a picture is embedded, in between.
ASKED_SECONDS = 60.0
_CLOSING = 10.0

logger = logging.getLogger(__name__)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Teaching:
    """How far the classifier is with the pictures that are there."""

    state: str
    done: int
    total: int
    message: str


class Live(Closing):
    """A context manager; the thread runs from `start` on and owns network and embeddings."""

    def __init__(self, album: Album, feed: Feed, network: Network, embeddings: Embeddings) -> None:
        """Compute nothing yet."""
        self._teaching = Teaching(LEARNING, 0, len(album), "")
        self.solved: Solved | None = None
        self.using = LIVE
        self.answer: tuple[int, dict[str, Any] | None] = (0, None)
        """What is in front of the camera, as the page gets it, and how many there were before."""
        self._album, self._feed = album, feed
        self._network, self._embeddings = network, embeddings
        self._asked: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._wake = threading.Condition()
        self._closed, self._held = False, ""
        self._watched, self._pause = 0.0, 0.0
        self._revision = -1
        self._labels: dict[str, str] = {}
        self._unreadable: set[str] = set()
        self._changed = self._behind = True
        self._solved_at, self._solving = 0.0, 0.0
        self._frame, self._answered_at = 0, 0.0
        self._times: deque[float] = deque(maxlen=100)
        self._thread = threading.Thread(target=self._run, name="live", daemon=True)

    @property
    def teaching(self) -> Teaching:
        """How far it is with the pictures that are there now."""
        found = self._teaching
        if self._revision == self._album.revision:
            return found
        # The thread has not looked yet; nobody should be told that it is ready.
        total = len(self._album)
        return Teaching(LEARNING, min(found.done, total), total, "")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def nudge(self) -> None:
        """Look at once whether there is something to do."""
        with self._wake:
            self._wake.notify_all()

    def watch(self) -> None:
        """Go on answering frames for some seconds: a page asks for that again and again."""
        self._watched = time.monotonic() + WATCHED

    def slow(self, seconds: float) -> None:
        """Leave at least so much time between two answers."""
        self._pause = seconds

    def use(self, version: str, state: Path | None) -> None:
        """Answer with a version from now on, or with the live classifier; raises BadState."""

        def switch() -> None:
            self._network.use(state)
            self.using = version
            self._frame = 0

        self.ask(switch)

    def hold(self, why: str) -> None:
        """Free the runtime's memory for the reason `why`; an empty one ends that."""

        def free() -> None:
            self._held = why
            if why:
                self._network.close()
                self._say(None)

        self.ask(free)

    def ask(self, work: Callable[[], Result]) -> Result:
        """Have `work` done by the thread, between two pictures; what it raises is raised here."""
        done: Future[Result] = Future()
        with self._wake:
            if self._closed:
                raise Refused(503, "the studio is being stopped")
            self._asked.append((work, done))
            self._wake.notify_all()
        try:
            return done.result(ASKED_SECONDS)
        except FutureTimeout:
            raise Refused(503, "the board is busy; try again") from None

    def close(self) -> None:
        """End the thread and free the runtime."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        if self._thread.is_alive():
            self._thread.join(_CLOSING)

    def _run(self) -> None:
        while not self._closed:
            try:
                if not self._round():
                    with self._wake:
                        if not self._asked and not self._closed:
                            self._wake.wait(0.05)
            except MobileTLError as error:
                self._fail(printable(str(error)))
            # One picture or frame must not end what all visitors share.
            except Exception as error:
                logger.exception("learning or answering failed")
                self._fail(f"it failed ({printable(str(error))}); see the server's log")
        self._obey()  # or somebody would wait for an answer
        self._network.close()

    def _round(self) -> bool:
        """Do some of what there is to do; return whether there was anything."""
        self._obey()
        if self._held:
            return False
        busy = self._learn()
        busy = self._solve_if_due() or busy
        return self._answer() or busy

    def _obey(self) -> None:
        while self._asked:
            work, done = self._asked.popleft()
            try:
                done.set_result(work())
            # It belongs to whoever has asked.
            except Exception as error:  # noqa: BLE001
                done.set_exception(error)

    def _learn(self) -> bool:
        """Embed pictures that are new, for a while."""
        revision = self._album.revision
        if revision != self._revision:
            labels = self._album.labels()
            self._embeddings.forget(set(labels))
            self._changed = self._changed or labels != self._labels
            self._labels = labels
            self._tell()
            self._revision = revision
        elif not self._behind:
            return False
        waiting = self._waiting()
        self._behind = bool(waiting)
        until = time.monotonic() + STRETCH
        for picture in waiting:
            if time.monotonic() > until or self._asked or self._closed:
                break
            self._embed(picture)
        if waiting:
            self._changed = True
            self._tell()
        return bool(waiting)

    def _waiting(self) -> list[str]:
        known, bad = self._embeddings, self._unreadable
        return [picture for picture in self._labels if picture not in known and picture not in bad]

    def _embed(self, picture: str) -> None:
        kept = self._album.known(picture)
        if kept is None:
            return
        try:
            embedding = self._network.embed(Frame(picture, kept.path))
        except UnreadablePicture as error:
            # Perhaps it was moved or deleted just now; then the album has changed.
            if self._album.known(picture) == kept:
                logger.warning("picture %s: %s", picture, error.reason)
                self._unreadable.add(picture)
            return
        self._embeddings.add(picture, embedding)

    def _solve_if_due(self) -> bool:
        if not self._changed:
            return False
        now = time.monotonic()
        if self._waiting() and now - self._solved_at < self._solving / SHARE_OF_SOLVING:
            return False
        known = [picture for picture in self._labels if picture in self._embeddings]
        names = [self._labels[picture] for picture in known]
        if len(set(names)) < 2:
            self.solved = None
        else:
            embeddings = [self._embeddings[picture] for picture in known]
            with multiplying():
                self.solved = solve_for(embeddings, names, most=MOST_SOLVED)
        self._changed = bool(self._waiting())
        self._solved_at = time.monotonic()
        self._solving = max(self._solved_at - now, 0.05)
        self._frame = 0
        self._tell()
        return True

    def _tell(self) -> None:
        total, waiting = len(self._labels), len(self._waiting())
        done = total - waiting
        if waiting or self._changed:
            self._teaching = Teaching(LEARNING, done, total, f"{done} of {total} pictures learned")
        elif self.solved is None:
            text = "add pictures to at least two classes"
            self._teaching = Teaching(NEEDS, done, total, text)
        else:
            self._teaching = Teaching(READY, done, total, _worth(self.solved, total))

    def _fail(self, text: str) -> None:
        total = len(self._labels)
        self._teaching = Teaching(NEEDS, total - len(self._waiting()), total, text)
        self._say(None)
        with self._wake:
            self._wake.wait_for(lambda: self._closed or bool(self._asked), SETTLING)

    def _answer(self) -> bool:
        """Name the newest frame, if somebody looks and it is time."""
        now = time.monotonic()
        taught = self.using == LIVE
        shot = self._feed.newest()
        if shot is None or now > self._watched or (taught and self.solved is None):
            if self.answer[1] is not None:
                self._say(None)
            return False
        if shot.number == self._frame or now - self._answered_at < self._pause:
            return False
        frame = Frame("camera", shot.pixels)
        if taught:
            assert self.solved is not None
            said = self._network.answer_taught(frame, self.solved)
        else:
            said = self._network.answer_version(frame)
        self._frame, self._answered_at = shot.number, now
        self._times.append(time.monotonic())
        self._say(said)
        return True

    def _say(self, said: Prediction | None) -> None:
        self.answer = (self.answer[0] + 1, None if said is None else self._document(said))

    def _document(self, said: Prediction) -> dict[str, Any]:
        since = time.monotonic() - RATE_OVER
        labels = [
            {"label": label, "probability": round(share, 4)}
            for label, share in zip(said.labels, said.probabilities)
        ]
        return {
            "labels": labels,
            "unknown": said.unknown,
            "fps": round(sum(at > since for at in self._times) / RATE_OVER, 1),
            "version": self.using,
        }


def _worth(solved: Solved, total: int) -> str:
    """Say how good the classifier is, by pictures that it was solved for without."""
    right = round(solved.accuracy * solved.pictures)
    some = f" (of {total})" if solved.pictures < total else ""
    return f"{right} of {solved.pictures}{some} pictures are right when each is held out"
