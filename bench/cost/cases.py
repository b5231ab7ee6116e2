"""What is measured: three sweeps around the usual case, each case in two forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from bench.eager import MODEL
from bench.speed import BATCH, BLOCKS, SIDE

# What the step is exported as, form by form (`mobiletl export --step`).
FORMS = {"floats": "float32", "bytes": "int8"}


@dataclass(frozen=True)
class Case:
    """`blocks` trained blocks, `batch` pictures a step, squares of `resolution` pixels."""

    blocks: int
    batch: int
    resolution: int


@dataclass(frozen=True)
class Plan:
    """Every sweep changes one field of the usual case, and is named after it."""

    model: str = MODEL
    weights: str = "none"
    usual: Case = Case(BLOCKS, BATCH, SIDE)
    sweeps: Mapping[str, tuple[int, ...]] = field(
        default_factory=lambda: {
            "batch": (1, 2, 4, 8, 16, 32),
            "blocks": (1, 3, 5, 9, 17),
            "resolution": (96, 128, 160, 192, 224),
        }
    )
    rounds: int = 7

    def cases(self, sweep: str) -> list[Case]:
        """The cases of one sweep, in the order of its values."""
        return [replace(self.usual, **{sweep: value}) for value in self.sweeps[sweep]]

    @property
    def most_pictures(self) -> int:
        """Pictures of the largest batch."""
        return max(case.batch for sweep in self.sweeps for case in self.cases(sweep))
