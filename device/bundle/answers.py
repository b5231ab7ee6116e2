"""What a state knows of its own answers: how sure they are, and what it has never seen.

Training fits it on validation pictures when it ends (solving/answers.py). Letters: D numbers in an
embedding, R directions, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping

import numpy as np

from mobiletl.device.bundle.arrays import Floats, Tensors
from mobiletl.device.bundle.schema import fields, integer, nullable, number

# Names of tensors in a state file; no entry of a state begins so.
PREFIX = "answers."
CENTRE, DIRECTIONS = PREFIX + "centre", PREFIX + "directions"


@dataclass(frozen=True, eq=False)
class Unknown:
    """When a picture is of none of the classes: its familiarity is below the threshold.

    familiarity(x) = max_k logit_k / temperature - weight * ||r|| / ||x||, where x is the embedding
    and r what is left of x - centre outside the directions (heads/unknown.py).
    """

    threshold: float
    acceptance: float
    """The share of known pictures that it is meant to let pass."""
    accepted: float
    """The share of the pictures it was fitted to that it does let pass."""
    weight: float
    centre: Floats
    """f32[D]"""
    directions: Floats
    """f32[R,D], orthonormal rows"""

    def numbers(self) -> dict[str, float]:
        """All but the arrays."""
        names = ("threshold", "acceptance", "accepted", "weight")
        return {name: getattr(self, name) for name in names}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Unknown):
            return NotImplemented
        return (
            self.numbers() == other.numbers()
            and np.array_equal(self.centre, other.centre)
            and np.array_equal(self.directions, other.directions)
        )

    def __hash__(self) -> int:
        return hash(tuple(self.numbers().values()))


@dataclass(frozen=True)
class Answers:
    """Probabilities are the softmax of logits / temperature."""

    temperature: float
    pictures: int
    """How many validation pictures all this was fitted to."""
    calibration_error: float
    """Expected calibration error on them, 15 bins, 0..1."""
    unknown: Unknown | None
    """None where the pictures were too few for a threshold."""
    chance_error: float | None = None
    """Mean calibration error that as many pictures show where every probability is true; None in
    states from before it was kept."""

    def document(self) -> dict[str, Any]:
        """What the JSON of a state says of it."""
        return {
            "temperature": self.temperature,
            "pictures": self.pictures,
            "calibration_error": self.calibration_error,
            "chance_error": self.chance_error,
            "unknown": None if self.unknown is None else self.unknown.numbers(),
        }

    def tensors(self) -> Tensors:
        """What a state file holds beside the state's own tensors."""
        if self.unknown is None:
            return {}
        return {CENTRE: self.unknown.centre, DIRECTIONS: self.unknown.directions}


_UNKNOWN = fields(
    {
        "threshold": number(),
        "acceptance": number(minimum=0.0),
        "accepted": number(minimum=0.0),
        "weight": number(minimum=0.0),
    }
)
_ANSWERS = fields(
    {
        "temperature": number(above=0.0),
        "pictures": integer(),
        "calibration_error": number(minimum=0.0),
    },
    {"chance_error": nullable(number(minimum=0.0))},
)


def answers_of(document: Any, tensors: Mapping[str, Floats], problems: list[str]) -> Answers | None:
    """Read what `Answers.document` and `Answers.tensors` gave; None for a state without, or after
    adding to `problems`.
    """
    if document is None:
        return None
    found: list[str] = []
    _ANSWERS(document, "answers", found)
    numbers = document.get("unknown") if isinstance(document, dict) else None
    arrays = {name: array for name, array in tensors.items() if name.startswith(PREFIX)}
    if numbers is not None:
        _UNKNOWN(numbers, "answers.unknown", found)
        found += _shape_problems(arrays)
    problems += found
    if found:
        return None
    unknown = None
    if numbers is not None:
        values = {name: float(numbers[name]) for name in Unknown.__annotations__ if name in numbers}
        unknown = Unknown(**values, centre=arrays[CENTRE], directions=arrays[DIRECTIONS])
    return Answers(
        float(document["temperature"]),
        document["pictures"],
        float(document["calibration_error"]),
        unknown,
        document.get("chance_error"),
    )


def _shape_problems(arrays: Mapping[str, Floats]) -> list[str]:
    missing = [name for name in (CENTRE, DIRECTIONS) if name not in arrays]
    if missing:
        return [f"{name}: missing" for name in missing]
    centre, directions = arrays[CENTRE], arrays[DIRECTIONS]
    if centre.ndim != 1 or directions.ndim != 2 or directions.shape[1:] != centre.shape:
        return [
            f"{DIRECTIONS}: expected [R, D] and [D] of {CENTRE}, found {list(directions.shape)} "
            f"and {list(centre.shape)}"
        ]
    return []
