"""A bundle and a state, opened once, that name what is in any number of frames."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Union

import numpy as np

from mobiletl.device.bundle.answers import Answers, Unknown
from mobiletl.device.bundle.arrays import Floats, Pixels, Tensors
from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.bundle.closing import Closing
from mobiletl.device.bundle.frame import Frame, frame_of
from mobiletl.device.bundle.levels import of_state, of_tensors
from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.bundle.prepare import prepare
from mobiletl.device.bundle.state_file import load_state
from mobiletl.device.bundle.view import View
from mobiletl.device.heads.softmax import Doubles, softmax
from mobiletl.device.heads.unknown import Familiar, score, strangeness
from mobiletl.device.run.start import Start
from mobiletl.device.sessions.runtimes import (
    check_threads,
    choose_runtime,
    open_session,
    usable_cores,
)
from mobiletl.device.sessions.session import Embedded, Session

# What a state can be given as: a file that training wrote, or a state with its class names.
StateSource = Union[str, Path, Start]


@dataclass(frozen=True)
class Prediction:
    """What one frame shows: labels with their probabilities, the likeliest first."""

    name: str
    """The frame's."""
    labels: tuple[str, ...]
    probabilities: tuple[float, ...]
    """Of the classes, given that it is one of them; calibrated where the state says how."""
    unknown: bool = False
    """Whether it is of none of the classes: `score` is below `threshold`."""
    score: float | None = None
    """How much it looks like pictures of the classes; None where the state has no threshold."""
    threshold: float | None = None

    @property
    def label(self) -> str:
        """The likeliest label, also of an unknown picture."""
        return self.labels[0]

    @property
    def probability(self) -> float:
        """The likeliest label's share, 0 to 1."""
        return self.probabilities[0]


@dataclass(frozen=True)
class Verdict:
    """What the network says of one picture; `Prediction` has it with names and in order."""

    probabilities: Doubles
    """f64[K], in the order of the classes."""
    score: float | None = None
    """None where the state has no threshold, or unknown pictures are not asked for."""
    threshold: float | None = None

    @property
    def unknown(self) -> bool:
        """Whether it is of none of the classes."""
        return self.score is not None and self.threshold is not None and self.score < self.threshold


class Predictor(Closing):
    """A context manager; graphs are loaded with the first frame and stay loaded."""

    def __init__(
        self,
        manifest: Manifest,
        session: Session,
        class_names: tuple[str, ...],
        answers: Answers | None = None,
        unknown: bool = True,
        view: View | None = None,
    ) -> None:
        """Take over an open session; `open_predictor` is how a program gets one.

        Without `answers` probabilities are not calibrated and no picture is unknown.
        """
        self.class_names = class_names
        self.answers = answers
        self.view = view
        """The camera's view that the state was trained in; None where nobody knows."""
        self.input = manifest.input
        """What `look` takes, for `prepare`."""
        self.at_once = 1
        """How many threads may call `look` at the same time, once it has been called."""
        self._tells_unknown = unknown
        self._manifest = manifest
        self._session = session
        side = manifest.input.resolution
        self._image = np.empty((1, 3, side, side), np.float32)

    def predict(self, picture: Frame | str | Path | bytes | Pixels) -> Prediction:
        """Name what `picture` shows, with every label in order of its probability.

        Of a picture that is of none of the classes `unknown` is true, where the state has a
        threshold for that. `picture` is a frame, a file, an encoded picture, or RGB pixels
        uint8[H,W,3]. Raises UnreadablePicture.
        """
        frame = frame_of(picture)
        prepare(frame, self._manifest.input, self._image[0])
        found = self._session.embed(self._session.features(self._image))
        return prediction_of(frame.name, found, self.class_names, self.answers, self._tells_unknown)

    def look(self, image: Floats) -> Verdict:
        """Answer a picture `image` f32[1,3,H,W] that `prepare` has made ready."""
        found = self._session.embed(self._session.features(image))
        return _verdict(found, self.answers, self._tells_unknown)

    def load(self, state: StateSource) -> None:
        """Go on with another state of the same bundle and of as many classes; raises BadState."""
        tensors, names, answers, view = _state(state, self._manifest)
        self._session.load(tensors)
        self.class_names, self.answers, self.view = names, answers, view

    def close(self) -> None:
        """Free what the runtime holds."""
        self._session.close()


def open_predictor(
    bundle: str | Path | Bundle,
    state: StateSource,
    threads: int = 0,
    runtime: str | None = None,
    unknown: bool = True,
    at_once: int = 1,
) -> Predictor:
    """Open `bundle` with a trained state; `threads` = 0 takes every core.

    With `unknown` false every picture is taken to be of one of the classes. With `at_once` so many
    pictures may be looked at in threads of the caller, each on its share of `threads`; where the
    runtime cannot, or has fewer threads, `Predictor.at_once` stays 1. Raises BadBundle, BadState,
    MissingDependency, UsageError.
    """
    check_threads(threads)
    opened = _at_level(bundle if isinstance(bundle, Bundle) else open_bundle(bundle), state)
    tensors, names, answers, view = _state(state, opened.manifest)
    cores = threads or usable_cores()
    if cores < at_once or not choose_runtime(opened, runtime).shared:
        at_once = 1
    session = open_session(opened, len(names), tensors, cores // at_once, runtime)
    predictor = Predictor(opened.manifest, session, names, answers, unknown, view)
    predictor.at_once = at_once
    return predictor


def _at_level(bundle: Bundle, state: StateSource) -> Bundle:
    """Return `bundle` at the level that the state is of."""
    if isinstance(state, Start):
        return of_tensors(bundle, state.tensors, len(state.class_names))
    return of_state(bundle, state)


def _state(
    state: StateSource, manifest: Manifest
) -> tuple[Tensors, tuple[str, ...], Answers | None, View | None]:
    """Return tensors, class names, answers and view; a `Start` knows nothing of the last."""
    if isinstance(state, Start):
        tensors = state.for_classes(manifest, state.class_names)
        return tensors, state.class_names, state.answers, None
    tensors, info = load_state(state, manifest)
    return tensors, info.class_names, info.answers, info.view


def prediction_of(
    name: str,
    found: Embedded,
    class_names: tuple[str, ...],
    answers: Answers | None,
    tells_unknown: bool = True,
) -> Prediction:
    """Return what a network said, `found`, of the one frame called `name`."""
    verdict = _verdict(found, answers, tells_unknown)
    prediction = _ranked(name, verdict.probabilities, class_names)
    if verdict.score is None:
        return prediction
    return replace(
        prediction, unknown=verdict.unknown, score=verdict.score, threshold=verdict.threshold
    )


def _verdict(found: Embedded, answers: Answers | None, tells_unknown: bool) -> Verdict:
    """Return what a network said, `found`, of one picture."""
    temperature = 1.0 if answers is None else answers.temperature
    probabilities = softmax(found.logits / temperature)[0]
    if answers is None or answers.unknown is None or not tells_unknown:
        return Verdict(probabilities)
    familiarity = _familiarity(found, temperature, answers.unknown)
    return Verdict(probabilities, familiarity, answers.unknown.threshold)


def _familiarity(found: Embedded, temperature: float, unknown: Unknown) -> float:
    """Return the score of the one picture of `found`."""
    familiar = Familiar(unknown.centre, unknown.directions)
    strange = strangeness(found.embeddings, familiar)
    return float(score(found.logits, strange, temperature, unknown.weight)[0])


def _ranked(name: str, shares: Doubles, class_names: tuple[str, ...]) -> Prediction:
    """Labels by falling probability; equal ones come in the order of the classes."""
    order = np.argsort(-shares, kind="stable")
    return Prediction(
        name,
        tuple(class_names[label] for label in order),
        tuple(float(shares[label]) for label in order),
    )
