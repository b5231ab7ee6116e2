"""What a run is asked to do, what it does that is told nothing, and what comes of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Mapping

from mobiletl.device.bundle.bundle import Bundle
from mobiletl.device.bundle.decode import DECODING_LIMIT
from mobiletl.device.bundle.wear import NO_WEAR, Wear
from mobiletl.device.memory.plan import MemoryPlan
from mobiletl.device.neighbour.limits import NO_LIMITS, MachineLimits
from mobiletl.device.pictures.dataset import Dataset
from mobiletl.device.pictures.layouts import AUTO
from mobiletl.device.pictures.skipped import SkippedFiles
from mobiletl.device.run.checkpoints import Position, RunFolder, Settings
from mobiletl.device.run.limits import CLOSED_FORM

# What a run does that is told nothing (docs/defaults.md says how they were chosen). The learning
# rate is the bundle's, and how many epochs and views follows from the pictures and the bundle.
DEFAULTS: Mapping[str, Any] = {
    "batch": 8,
    "seed": 0,
    "augment": True,
    "val_split": 0.2,
    "micro_batch": 1,
    "start": CLOSED_FORM,
    "layout": AUTO,
    "decode_memory": DECODING_LIMIT,
}
# A run has so many epochs, and more where its pictures are so few that they make few steps.
LEAST_EPOCHS = 10
LEAST_STEPS = 300
# Bytes of saves in an hour; docs/reliability.md says how it was chosen.
SAVE_BUDGET = 500_000_000
# Views of a picture that take turns.
VIEWS = 6
REPLAY_BYTES = 50_000_000


def default_epochs(steps_per_epoch: int) -> int:
    """Return how many epochs make up at least 10, and at least 300 steps."""
    return max(LEAST_EPOCHS, math.ceil(LEAST_STEPS / max(steps_per_epoch, 1)))


@dataclass(frozen=True)
class Former:
    """The run to go on from with other pictures or classes.

    `renamed` maps a class to the name it has from now on, or to None where it is left out.
    """

    run: Path
    renamed: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Options:
    """What to train; `given` are the settings (checkpoints.Settings) a person has named."""

    bundle: Path
    data: Path
    run: Path
    resume: bool
    given: Mapping[str, Any]
    use_cache: bool = True
    cache: Path | None = None
    """Folder of the feature maps; None is the run's own, emptied at the end."""
    threads: int = 0
    save_every: int = 200
    save_budget: float | None = SAVE_BUDGET
    """Bytes of saves in an hour; None for a save after every epoch (saves.py)."""
    max_memory: int | None = None
    """Bytes; a run that is planned with more is refused."""
    max_seconds: float | None = None
    """A run that is expected to take longer is refused."""
    former: Former | None = None
    replay_bytes: int = REPLAY_BYTES
    """How much of its pictures the run may keep for the next one."""
    trust: bool = False
    """Whether the bundle's programs may be run (sessions/trust.py)."""
    key: Path | None = None
    """The public key that the bundle must be signed with (bundle/signature.py)."""
    limits: MachineLimits = NO_LIMITS
    """How hot the processor may get, and how busy others may be (neighbour/)."""
    system_root: Path = Path("/")
    """Where the machine's own files are looked for: /sys and /proc below it."""
    classes: tuple[str, ...] | None = None
    """All classes of the run; other folders are left out. None takes what folders there are."""
    proximal: float = 0.0
    """How strongly each step is pulled back to where the run began (anchor.py); 0 is not at all."""
    answers: bool = True
    """Whether the run finds out in the end how sure its answers may be."""


@dataclass(frozen=True)
class Outcome:
    """A finished run."""

    bundle: Bundle
    folder: RunFolder
    dataset: Dataset
    settings: Settings
    position: Position
    plan: MemoryPlan
    skipped: SkippedFiles
    seconds: float
    wear: Wear = NO_WEAR
    """What this call has written."""
