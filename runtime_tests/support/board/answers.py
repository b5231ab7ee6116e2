"""Live answers as they come from a camera, made by hand."""

from __future__ import annotations

import numpy as np

from mobiletl.device.prediction.live import Answer
from mobiletl.device.prediction.predictor import Verdict

NAMES = ("ant", "bee")


def answer(
    label: str | None = "ant",
    changed: bool = True,
    time_s: float = 1000.0,
    frame: int = 1,
    names: tuple[str, ...] = NAMES,
) -> Answer:
    """Say `label`, None for unknown, with 90 %."""
    outcome = None if label is None else names.index(label)
    shares = np.full(len(names), 0.1 / (len(names) - 1), np.float64)
    shares[outcome or 0] = 0.9
    verdict = Verdict(shares, 1.5, 2.0) if outcome is None else Verdict(shares, 2.5, 2.0)
    unknown_share = 1.0 if outcome is None else 0.0
    return Answer(
        frame,
        time_s,
        names,
        shares,
        outcome,
        unknown_share,
        changed,
        frames_per_s=12.5,
        verdict=verdict,
    )
