"""The one runtime session of a server: it embeds pictures, and answers with the state in use.

Embeddings to solve for a classifier come from the bundle's own state, answers perhaps from that of
a version. Both go through one session, which is given the one or the other state when it needs it:
a second session would take the frozen weights a second time.

Letters: D numbers in an embedding, K classes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mobiletl.device.bundle.answers import Answers
from mobiletl.device.bundle.arrays import Floats
from mobiletl.device.bundle.bundle import Bundle
from mobiletl.device.bundle.closing import Closing
from mobiletl.device.bundle.frame import Frame
from mobiletl.device.bundle.prepare import prepare
from mobiletl.device.bundle.state_file import open_state
from mobiletl.device.prediction.predictor import Prediction, prediction_of
from mobiletl.device.sessions.runtimes import open_session
from mobiletl.device.sessions.session import Embedded, Session
from mobiletl.device.solving.taught import Solved, logits_of

# Embeddings do not depend on the classifier: any number of classes will do.
_CLASSES = 2


class Network(Closing):
    """Belongs to one thread; nothing is loaded before it is first asked."""

    def __init__(self, bundle: Bundle, threads: int = 0, runtime: str | None = None) -> None:
        """Take a bundle; `threads` = 0 takes every core."""
        self.bundle = bundle
        self._threads, self._runtime = threads, runtime
        self._session: Session | None = None
        self._classes = _CLASSES
        self._own_state = True
        self._version: Path | None = None
        self._names: tuple[str, ...] = ()
        self._answers: Answers | None = None
        side = bundle.manifest.input.resolution
        self._image = np.empty((1, 3, side, side), np.float32)

    def embed(self, frame: Frame) -> Floats:
        """Return a picture's embedding f32[D] by the bundle's own state.

        Raises UnreadablePicture.
        """
        prepare(frame, self.bundle.manifest.input, self._image[0])
        embedding: Floats = self._said(own_state=True).embeddings[0]
        return embedding

    def answer_taught(self, frame: Frame, solved: Solved) -> Prediction:
        """Return what a classifier that was solved for says of a picture."""
        prepare(frame, self.bundle.manifest.input, self._image[0])
        found = self._said(own_state=True).embeddings
        said = Embedded(logits_of(solved.head, found), found)
        return prediction_of(frame.name, said, solved.class_names, solved.answers)

    def answer_version(self, frame: Frame) -> Prediction:
        """Return what the version in use says of a picture."""
        prepare(frame, self.bundle.manifest.input, self._image[0])
        return prediction_of(frame.name, self._said(own_state=False), self._names, self._answers)

    def use(self, state: Path | None) -> None:
        """Answer with the state of this file; None is the bundle's own.

        Raises BadState, and goes on with the former one then.
        """
        if state is None:
            self._version, self._names, self._answers = None, (), None
            return
        stored, info = open_state(state, self.bundle.manifest)
        stored.close()
        self._version, self._names, self._answers = state, info.class_names, info.answers
        self._own_state = True  # whatever is loaded, it is not this

    def close(self) -> None:
        """Free what the runtime holds; the next question loads it again."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _said(self, own_state: bool) -> Embedded:
        """Return what the network says of the picture that is prepared."""
        session = self._with_state(own_state)
        return session.embed(session.features(self._image))

    def _with_state(self, own_state: bool) -> Session:
        classes = self._classes if own_state else len(self._names)
        if self._session is not None and classes != self._classes:
            self.close()
        if self._session is not None and own_state == self._own_state:
            return self._session
        if own_state:
            state = self.bundle.initial_state(classes, 0)
            session = self._loaded(classes, state)
        else:
            assert self._version is not None
            stored, _ = open_state(self._version, self.bundle.manifest)
            with stored:
                session = self._loaded(classes, dict(stored))
        self._own_state = own_state
        return session

    def _loaded(self, classes: int, state: dict[str, Floats]) -> Session:
        if self._session is None:
            self._session = open_session(self.bundle, classes, state, self._threads, self._runtime)
            self._classes = classes
        else:
            self._session.load(state)
        return self._session
