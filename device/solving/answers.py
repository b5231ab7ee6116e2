"""The end of a run: how sure the best state may be, and what it has seen nothing like of.

Both are fitted on validation pictures, which the state was chosen by but not trained on, or where
there are none, on pictures each of which was left out in turn. The maths are in
heads/calibration.py and heads/unknown.py. Everything is done in batches and sums stay below those
of the closed-form head that the run began with, so the peak of the process does not move.

Letters: P pictures, D numbers in an embedding, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

import numpy as np

from mobiletl.device.bundle.answers import Answers, Unknown
from mobiletl.device.bundle.arrays import Floats, Labels
from mobiletl.device.features.parts import Pictures
from mobiletl.device.heads.calibration import (
    SOLVED_PRIOR,
    TRAINED_PRIOR,
    Reals,
    calibration_error,
    errors_by_chance,
    fit_temperature,
)
from mobiletl.device.heads.unknown import (
    ACCEPTANCE,
    SOLVED_WEIGHT,
    TRAINED_WEIGHT,
    Familiar,
    fit_familiar,
    fit_threshold,
    score,
    strangeness,
)
from mobiletl.device.pictures.balanced import balanced_rows
from mobiletl.device.sessions.freed import return_all
from mobiletl.device.sessions.session import Session
from mobiletl.device.solving.closed_form import embed

# The principal directions of more pictures score no better (docs/honest.md).
MOST_PICTURES = 256
# From so many pictures of a folder of their own on, they are asked instead of those held out in
# turn. A threshold of four let 83 % of known pictures pass, where 95 % are meant (docs/honest.md).
LEAST_OTHERS = 8
# Parts in which pictures without a validation part are judged.
FOLDS = 5
_STREAM = 0x666F6C64

# Called with pictures done and in all; may raise to stop.
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class HeldOut:
    """What is said of pictures that a classifier was not fitted to."""

    logits: Reals
    """[P,K]"""
    strange: Reals
    """[P]"""
    labels: Labels
    """i64[P]"""


def observe(
    session: Session,
    size: int,
    train: Pictures,
    val: Pictures,
    seed: int,
    buffer: Floats,
    on_progress: OnProgress,
) -> tuple[HeldOut, Familiar] | None:
    """Ask the state that `session` has for all that its answers are fitted to.

    None if no picture of a part is readable. `size` is D. `buffer` f32[N,C,h,w] is overwritten.
    """
    rows = balanced_rows(train.labels, range(len(train.labels)), seed, MOST_PICTURES)
    total = len(rows) + len(val.labels)
    found = embed(session, size, train, rows, buffer, lambda done, _: on_progress(done, total))
    if not found.rows:
        return None
    return_all()
    familiar = fit_familiar(found.values)
    del found  # as large as a batch of pictures; the validation pictures need the room
    return_all()
    held_out = look_at(
        session, val, familiar, buffer, lambda done: on_progress(len(rows) + done, total)
    )
    if not len(held_out.labels):
        return None
    return held_out, familiar


def familiar_of(embeddings: Floats, labels: Labels, seed: int) -> Familiar:
    """Return where embeddings [P,D] lie; MOST_PICTURES are asked, of each class as many."""
    return fit_familiar(embeddings[balanced_rows(labels, range(len(labels)), seed, MOST_PICTURES)])


def answers_of_others(held_out: HeldOut, familiar: Familiar) -> Answers | None:
    """Fit the answers of a classifier that was solved for, to pictures of a folder of their own.

    They may be of another day, and then know better than `answers_in_turn`. None if they are fewer
    than LEAST_OTHERS.
    """
    if len(held_out.labels) < LEAST_OTHERS:
        return None
    return fit_answers(held_out, familiar, solved=True)


def answers_in_turn(embeddings: Floats, labels: Labels, held_out: Reals, seed: int) -> Answers:
    """Fit the answers of a classifier that was solved for, whose held-out logits are [P,K].

    There is no validation part. Pictures are strange or not to the directions of the others: in
    FOLDS parts, each is judged by the rest, at most MOST_PICTURES of them.
    """
    parts = np.random.default_rng((_STREAM, seed)).permutation(len(labels)) % FOLDS
    strange = np.zeros(len(labels))
    for part in range(FOLDS):
        mine = parts == part
        if mine.any() and not mine.all():
            rest = embeddings[~mine][:MOST_PICTURES]
            strange[mine] = strangeness(embeddings[mine], fit_familiar(rest))
    familiar = familiar_of(embeddings, labels, seed)
    # Solving has chosen the scale of the logits on these very answers.
    scores = score(held_out, strange, 1.0, SOLVED_WEIGHT)
    return Answers(
        temperature=1.0,
        pictures=len(labels),
        calibration_error=calibration_error(held_out, labels),
        unknown=_unknown(scores, familiar, SOLVED_WEIGHT),
        chance_error=float(errors_by_chance(held_out).mean()),
    )


def look_at(
    session: Session,
    val: Pictures,
    familiar: Familiar,
    buffer: Floats,
    on_progress: Callable[[int], None],
) -> HeldOut:
    """Return what `session` says of all that is readable of `val`.

    Of embeddings, which are many numbers, no more than a batch is held.
    """
    logits: list[Reals] = []
    strange: list[Reals] = []
    seen: list[int] = []
    for start in range(0, len(val.labels), len(buffer)):
        on_progress(start)
        rows = range(start, min(start + len(buffer), len(val.labels)))
        written = val.source.fill(rows, 0, buffer)
        if written:
            embedded = session.embed(buffer[: len(written)])
            logits.append(embedded.logits.astype(np.float64))
            strange.append(strangeness(embedded.embeddings, familiar))
            seen += written
    on_progress(len(val.labels))
    if not seen:
        return HeldOut(np.zeros((0, 0)), np.zeros(0), val.labels[:0])
    return HeldOut(np.concatenate(logits), np.concatenate(strange), val.labels[seen])


def fit_answers(held_out: HeldOut, familiar: Familiar, solved: bool) -> Answers:
    """Fit the answers of a classifier to pictures that it was not fitted to.

    `solved` is whether it was solved for, on layers that were not trained. Others are too sure,
    even where they were solved for in the end: what is below them has seen the same pictures.
    """
    prior = SOLVED_PRIOR if solved else TRAINED_PRIOR
    weight = SOLVED_WEIGHT if solved else TRAINED_WEIGHT
    temperature = fit_temperature(held_out.logits, held_out.labels, prior)
    calibrated = held_out.logits / temperature
    scores = score(held_out.logits, held_out.strange, temperature, weight)
    return Answers(
        temperature=temperature,
        pictures=len(held_out.labels),
        calibration_error=calibration_error(calibrated, held_out.labels),
        unknown=_unknown(scores, familiar, weight),
        chance_error=float(errors_by_chance(calibrated).mean()),
    )


def _unknown(scores: Reals, familiar: Familiar, weight: float) -> Unknown | None:
    threshold = fit_threshold(scores)
    if threshold is None:
        return None
    return Unknown(
        threshold=threshold,
        acceptance=ACCEPTANCE,
        accepted=float((scores >= threshold).mean()),
        weight=weight,
        centre=familiar.centre,
        directions=familiar.directions,
    )
