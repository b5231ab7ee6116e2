"""When a run has lost its way, and at what rate it goes on from its best state.

Numbers that are no longer finite are one sign; an epoch far below the best is the other. Both come
of a rate that is too high for these pictures, so the run takes its best state, which the start of
the run is a candidate for, and goes on at a lower rate. Its length stays what it was.
"""

from __future__ import annotations

import math
from dataclasses import replace

from mobiletl.device.bundle.state_file import BEST
from mobiletl.device.errors import BadState, Diverged
from mobiletl.device.run.checkpoints import Best, Checkpoints, Position
from mobiletl.device.run.evaluation import Score
from mobiletl.device.run.events import Note
from mobiletl.device.sessions.session import Session

CUT = 1 / 3
# The rate is then 1/81 of the first; numbers that are not finite even so have another reason.
MOST_CUTS = 4
# Less than this is no reason to go back, however many pictures there are.
LEAST_FALL = 0.10
STANDARD_ERRORS = 2


def cut_rate(lr: float, cuts: int) -> float:
    """Return the learning rate `lr` after that many cuts."""
    return float(lr * CUT**cuts)


def clearly_below(score: Score, top: float) -> bool:
    """Whether `score` is below the accuracy `top` by more than a standard error of that.

    With few validation pictures the highest of many accuracies is luck, and the epochs that come
    after it, at a lower rate, are as good or better on other pictures (docs/defaults.md).
    """
    seen = sum(score.class_seen)
    # An accuracy of 100 % of n pictures is uncertain, too: as if one picture in 2 n were wrong.
    spread = max(top * (1 - top), 1 / (2 * max(seen, 1)))
    return score.accuracy < top - math.sqrt(spread / max(seen, 1))


def far_below(score: Score, best: Score) -> bool:
    """Whether `score` is below `best` by more than so few validation pictures explain.

    The bar is two standard errors of the difference of two shares of n pictures (binomial), and
    ten points at least.
    """
    seen = sum(score.class_seen)
    if not seen:
        return False
    share = (score.accuracy + best.accuracy) / 2
    error = math.sqrt(2 * share * (1 - share) / seen)
    return best.accuracy - score.accuracy > max(LEAST_FALL, STANDARD_ERRORS * error)


def fall(score: Score, epoch: int, best: Best) -> str:
    """Say how far `score`, of `epoch`, is below the best."""
    return (
        f"accuracy fell to {score.accuracy:.1%} in epoch {epoch}, from "
        f"{best.score.accuracy:.1%} in epoch {best.epoch}"
    )


def go_back(
    fact: str, position: Position, session: Session, checkpoints: Checkpoints, lr: float
) -> tuple[Position, Note]:
    """Load the best state into `session`; return the position, with one more cut, and what to say.

    The run neither takes its steps again nor gets longer: only state and rate change. `fact` says
    what is wrong, `lr` is the first rate of the run. Raises Diverged once it has been cut often
    enough, and where there is no best state to be read.
    """
    cuts, best = position.cuts, position.best
    if best is None:
        raise Diverged(f"{fact}; {checkpoints.advice()}")
    if cuts == MOST_CUTS:
        raise Diverged(
            f"{fact}, after {cuts} cuts of the rate to {cut_rate(lr, cuts):.2g}; "
            f"{checkpoints.advice()}"
        )
    try:
        with checkpoints.open(BEST, best.epoch) as stored:
            session.load(stored)
    except BadState as error:
        raise Diverged(f"{fact}, and there is no best state to go back to: {error}") from error
    text = (
        f"{fact}: back to the state of epoch {best.epoch}, and on at a rate that begins at "
        f"{cut_rate(lr, cuts + 1):.2g} instead of {cut_rate(lr, cuts):.2g}"
    )
    return replace(position, cuts=cuts + 1), Note(text)
