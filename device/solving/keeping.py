"""Whether training is kept, and with which classifier: judged on pictures it was not trained on.

Three networks are candidates: the one that a run began from, the mean of it and of the trained
one, number by number (WiSE-FT: Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022,
arXiv 2109.01903), and the trained one. Each gets a classifier that is solved for on the training
pictures, so that the embeddings are what is compared. In this order, a candidate takes the place of
the one before it if validation pictures, each in all views that training sees, are in its favour:
if the sum of what it takes off their cross-entropies, d_i, is above 0 by STANDARD_ERRORS of it,
sqrt(sum(d_i^2)). The first that is not ends the contest. So a run ends with what it would have
ended with untrained, unless there is evidence of more. Accuracies of few pictures say less than
cross-entropies: hardly any picture changes from wrong to right. With fewer than five pictures the
bar cannot be reached.

The classifier that is kept is solved for on validation pictures, too (docs/defaults.md).

Letters: P pictures, V views, D numbers in an embedding, K classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Callable, Iterator, Mapping, Sequence

import numpy as np

from mobiletl.device.bundle.arrays import Floats
from mobiletl.device.features.parts import Pictures
from mobiletl.device.heads.calibration import Prior, Reals, fit_temperature
from mobiletl.device.heads.many import solve_many
from mobiletl.device.heads.ridge import Head, fit_ridge
from mobiletl.device.heads.softmax import log_softmax
from mobiletl.device.pictures.balanced import balanced_rows
from mobiletl.device.sessions.freed import return_all
from mobiletl.device.sessions.session import Session
from mobiletl.device.solving.closed_form import MOST_PICTURES, OnProgress, embed
from mobiletl.device.solving.taught import logits_of

STANDARD_ERRORS = 2.0
# How far the candidates are from the network that a run began with, towards the trained one.
SHARES = (0.5, 1.0)
# What is expected of a temperature: the same of all candidates.
PRIOR = Prior(1.0, 0.5)
# Validation pictures that judge.
MOST_JUDGES = 256
# Of embeddings that one classifier is solved for on: what solving for the first one took.
MOST_BYTES = 6_500_000


class Mixed(Mapping[str, Floats]):
    """A state between two: a tensor is computed when it is asked for, so that no third state is
    ever held. Both give arrays of their own, as states in files do.

    What `begin` does not have (a classifier, the optimizer's slots) is that of `trained`.
    """

    def __init__(
        self, begin: Mapping[str, Floats], trained: Mapping[str, Floats], share: float
    ) -> None:
        """`share` 0 is `begin`, 1 is `trained`."""
        self._begin = begin
        self._trained = trained
        self._share = np.float32(share)

    def __getitem__(self, name: str) -> Floats:
        if name not in self._begin:
            return self._trained[name]
        begin = self._begin[name]
        if not self._share:
            return begin
        mixed = self._trained[name]
        mixed -= begin
        mixed *= self._share
        mixed += begin
        return mixed

    def __iter__(self) -> Iterator[str]:
        return iter(self._trained)

    def __len__(self) -> int:
        return len(self._trained)


@dataclass(frozen=True)
class Examples:
    """What a classifier is solved for on: rows of the training part and of the validation part.

    `buffer` f32[N,C,h,w] is overwritten. `seed` says which of too many pictures are taken.
    """

    session: Session
    size: int
    """D."""
    classes: int
    train: Pictures
    val: Pictures
    rows: Sequence[int]
    """Of the training part, each picture once."""
    views: int
    """V."""
    buffer: Floats
    seed: int

    @property
    def most(self) -> int:
        """How many pictures one classifier is solved for on."""
        return max(MOST_BYTES // (4 * self.size), MOST_PICTURES)


@dataclass(frozen=True)
class Solution:
    """A classifier, and the penalty and the scale that it was solved for with (ridge.py)."""

    head: Head
    penalty: float
    scale: float


def solve(examples: Examples, on_progress: OnProgress) -> Solution:
    """Solve for a classifier of the session's embeddings of training pictures.

    Penalty and scale are chosen on at most MOST_PICTURES, each held out in turn.
    """
    one = examples
    labels = one.train.labels
    few = balanced_rows(labels, one.rows, one.seed, MOST_PICTURES)
    found = embed(one.session, one.size, one.train, few, one.buffer, on_progress)
    # Solving and embedding run code of two libraries; only one of them has to be in memory.
    return_all()
    fit = fit_ridge(found.values, found.labels, one.classes)
    del found
    # What solving took is free again, but scattered.
    return_all()
    if len(few) == len(one.rows):
        return Solution(fit.head, fit.penalty, fit.scale)
    rows = balanced_rows(labels, one.rows, one.seed, one.most)
    found = embed(one.session, one.size, one.train, rows, one.buffer, on_progress)
    return_all()
    head = solve_many(found.values, found.labels, one.classes, fit.penalty)
    del found
    return_all()
    return Solution(scaled(head, fit.scale), fit.penalty, fit.scale)


def solve_with_all(
    examples: Examples, penalty: float, scale: float, untrained: bool, on_progress: OnProgress
) -> Head:
    """Solve once more, with the validation pictures as well, and with a penalty and a scale that
    are known.

    Where the embeddings are `untrained` and pictures are few, both are chosen anew, as `teach`
    does. Trained embeddings make the pictures they were trained on look easier than they are.
    """
    one = examples
    count = len(one.train.labels)
    labels = np.concatenate([one.train.labels, one.val.labels])
    rows = [*one.rows, *range(count, len(labels))]
    chosen = balanced_rows(labels, rows, one.seed, one.most)
    values = np.empty((len(chosen), one.size), np.float32)
    seen: list[int] = []
    for part, first, last in ((one.train, 0, count), (one.val, count, len(labels))):
        mine = [row - first for row in chosen if first <= row < last]
        written = embed(
            one.session, one.size, part, mine, one.buffer, on_progress, values[len(seen) :]
        )
        seen += [row + first for row in written.rows]
    values, labels = values[: len(seen)], labels[seen]
    return_all()
    if untrained and len(seen) <= MOST_PICTURES:
        return fit_ridge(values, labels, one.classes).head
    return scaled(solve_many(values, labels, one.classes, penalty), scale)


def losses(examples: Examples, head: Head, on_progress: OnProgress) -> Reals:
    """Return the cross-entropy of validation pictures under `head` [P], the mean of their views.

    One temperature is fitted to the central crops. A picture that cannot be decoded has nan.
    """
    one = examples
    rows = balanced_rows(one.val.labels, range(len(one.val.labels)), one.seed, MOST_JUDGES)
    labels = one.val.labels[rows]
    total = (one.views + 1) * len(rows)
    # Epoch 0 sees central crops, and V epochs from 1 on see each view once.
    logits = _logits(one, head, rows, 0, partial(_further, on_progress, 0, total))
    read = np.isfinite(logits).all(axis=1)
    temperature = fit_temperature(logits[read], labels[read], PRIOR) if read.any() else 1.0
    sums = np.zeros(len(rows))
    for epoch in range(1, one.views + 1):
        progress = partial(_further, on_progress, epoch * len(rows), total)
        logits = _logits(one, head, rows, epoch, progress)
        sums -= log_softmax(logits / temperature)[np.arange(len(rows)), labels]
    result: Reals = sums / one.views
    return result


def _further(on_progress: OnProgress, before: int, total: int, done: int) -> None:
    on_progress(before + done, total)


def _logits(
    examples: Examples,
    head: Head,
    rows: Sequence[int],
    epoch: int,
    on_progress: Callable[[int], None],
) -> Floats:
    """Return what `head` says [P,K] of `rows` of the validation part; nan of what isn't read."""
    one = examples
    logits = np.full((len(rows), one.classes), np.nan, np.float32)
    place_of = {row: place for place, row in enumerate(rows)}
    for start in range(0, len(rows), len(one.buffer)):
        on_progress(start)
        batch = rows[start : start + len(one.buffer)]
        written = one.val.source.fill(batch, epoch, one.buffer)
        if written:
            found = one.session.embed(one.buffer[: len(written)]).embeddings
            logits[[place_of[row] for row in written]] = logits_of(head, found)
    return logits


def standard_errors(before: Reals, after: Reals) -> float:
    """By how many standard errors of it the sum of `before` - `after` [P] is above 0."""
    gains = (before - after)[np.isfinite(before) & np.isfinite(after)]
    error = math.sqrt(float((gains**2).sum()))
    return float(gains.sum()) / error if error else 0.0


def scaled(head: Head, scale: float) -> Head:
    """Return `head` with its logits times `scale`."""
    factor = np.float32(scale)
    return Head(head.weight * factor, head.bias * factor)
