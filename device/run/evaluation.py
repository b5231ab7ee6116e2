"""Accuracy and loss of the current state on a list of pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

import numpy as np

from mobiletl.device.bundle.arrays import Floats, Labels
from mobiletl.device.features.live import FeatureSource
from mobiletl.device.heads.softmax import Doubles, log_softmax
from mobiletl.device.sessions.session import Session

# Called before each batch with pictures done and in all; may raise to stop.
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Score:
    """Result on the readable pictures; `loss` is their mean cross-entropy.

    `class_correct` and `class_seen` count by label.
    """

    loss: float
    class_correct: tuple[int, ...]
    class_seen: tuple[int, ...]

    @property
    def accuracy(self) -> float:
        """Share of pictures whose largest logit is at their label, 0 to 1."""
        return sum(self.class_correct) / max(sum(self.class_seen), 1)


def evaluate(
    session: Session,
    source: FeatureSource,
    labels: Labels,
    classes: int,
    buffer: Floats,
    on_progress: OnProgress,
) -> Score:
    """Predict every picture of `source`, whose labels are `labels` [P], in batches of `buffer`.

    `buffer` f32[N,C,h,w] is overwritten. Loss is summed in double precision.
    """
    correct = np.zeros(classes, np.int64)
    seen = np.zeros(classes, np.int64)
    loss = 0.0
    for start in range(0, len(labels), len(buffer)):
        on_progress(start, len(labels))
        rows = range(start, min(start + len(buffer), len(labels)))
        written = source.fill(rows, 0, buffer)
        if not written:
            continue
        logits = session.predict(buffer[: len(written)])
        truth = labels[written]
        loss += float(cross_entropy(logits, truth).sum())
        correct += np.bincount(truth[logits.argmax(axis=1) == truth], minlength=classes)
        seen += np.bincount(truth, minlength=classes)
    total = max(int(seen.sum()), 1)
    return Score(loss / total, _counts(correct), _counts(seen))


def score_of(logits: Floats | Doubles, labels: Labels, classes: int) -> Score:
    """Score the answers `logits` [P,K] to pictures of `labels` [P]."""
    right = labels[logits.argmax(axis=1) == labels]
    loss = float(cross_entropy(logits, labels).mean())
    counts = (np.bincount(part, minlength=classes) for part in (right, labels))
    correct, seen = (_counts(count) for count in counts)
    return Score(loss, correct, seen)


def cross_entropy(logits: Floats | Doubles, labels: Labels) -> Doubles:
    """Cross-entropy of each row of `logits` [N,K]; not finite where a logit is not."""
    losses: Doubles = -log_softmax(logits)[np.arange(len(labels)), labels]
    return losses


def _counts(values: Labels) -> tuple[int, ...]:
    return tuple(int(value) for value in values)
