"""Teaching picture by picture: for a program that hears of pictures one after another."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mobiletl.device.bundle.arrays import Floats, Pixels
from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.bundle.closing import Closing
from mobiletl.device.bundle.frame import Frame, frame_of
from mobiletl.device.bundle.prepare import prepare
from mobiletl.device.errors import BadBundle
from mobiletl.device.run.start import Start
from mobiletl.device.sessions.runtimes import open_session
from mobiletl.device.solving.closed_form import with_head
from mobiletl.device.solving.taught import solve_for

TAUGHT = "taught"
# Embeddings do not depend on the classifier: any number of classes will do.
_CLASSES = 2


class Teacher(Closing):
    """Learns from pictures as they come; a context manager.

    Each picture goes through the network once, when it is added. What is kept of it is its
    embedding, D numbers, so that a picture or a class more costs one pass and one solution.
    """

    def __init__(
        self, bundle: str | Path | Bundle, threads: int = 0, runtime: str | None = None
    ) -> None:
        """Open `bundle`; `threads` = 0 takes every core.

        Raises BadBundle, MissingDependency, UsageError.
        """
        self._bundle = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
        manifest = self._bundle.manifest
        if manifest.classifier is None:
            raise BadBundle("the network's last layer has no bias; train it instead of teaching it")
        self._state = self._bundle.initial_state(_CLASSES, 0)
        self._session = open_session(self._bundle, _CLASSES, self._state, threads, runtime)
        side = manifest.input.resolution
        self._image = np.empty((1, 3, side, side), np.float32)
        self._known: dict[str, tuple[str, Floats]] = {}

    def add(self, picture: Frame | str | Path | bytes | Pixels, class_name: str) -> str:
        """Take in a picture of a class, known or new; returns the picture's identity.

        One that was added before changes its class. Raises UnreadablePicture.
        """
        frame = frame_of(picture)
        identity = frame.identity()
        if identity in self._known:
            self._known[identity] = (class_name, self._known[identity][1])
            return identity
        prepare(frame, self._bundle.manifest.input, self._image[0])
        found = self._session.embed(self._session.features(self._image))
        self._known[identity] = (class_name, found.embeddings[0].copy())
        return identity

    def forget(self, identity: str) -> None:
        """Leave a picture out from now on; one that is not known is no error."""
        self._known.pop(identity, None)

    def counts(self) -> dict[str, int]:
        """How many pictures there are of each class, by name."""
        names = [name for name, _ in self._known.values()]
        return {name: names.count(name) for name in sorted(set(names))}

    def solve(self) -> Start:
        """Return the state with a classifier of all pictures: `open_predictor` and `train` take it.

        It knows how sure it may be and, of enough pictures, which ones are of none of the classes.
        Raises BadPictures for fewer than two classes.
        """
        names = [name for name, _ in self._known.values()]
        solved = solve_for([embedding for _, embedding in self._known.values()], names)
        state = self._bundle.initial_state(len(solved.class_names), 0)
        tensors = with_head(state, self._bundle.manifest, solved.head)
        return Start(tensors, solved.class_names, TAUGHT, solved.answers)

    def close(self) -> None:
        """Free what the runtime holds."""
        self._session.close()
