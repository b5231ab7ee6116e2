"""Ways to train a network, from little to much: what each takes, and which of them are worth it.

Letters: N pictures in a step, K classes, P pictures that a person has.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.integer.top import FLOAT32, INT8
from mobiletl.core.saved import EIGHT_BIT, ONE_BIT
from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.memory.plan import plan
from mobiletl.device.run.options import DEFAULTS, VIEWS, default_epochs
from mobiletl.device.sessions.runtimes import open_session
from mobiletl.export.parts import Request
from mobiletl.export.writing.export_bundle import export_bundle

# What a step multiplies or keeps: products of bytes, which are the fastest and the default of
# `mobiletl export`, where the network has them; one bit of activations; bytes of maps.
FORMS = (INT8, ONE_BIT.name, EIGHT_BIT.name)
# Of the pictures, what a run trains on.
TRAINED = 1.0 - float(DEFAULTS["val_split"])
_TIMED = 5
# To the plan comes a tenth, as in a service's limit: where the kernel enforces one it counts files
# that were read as well. With 5 % more than the plan a run may read its libraries over and over.
_ROOM = 0.1


@dataclass(frozen=True)
class Level:
    """One way: a bundle, and how many pictures make a step."""

    bundle: Path
    blocks: int
    form: str
    batch: int
    planned: int
    """Bytes of the whole process, planned."""
    picture_seconds: float
    """A picture's way through the frozen layers, on this machine."""
    step_seconds: float
    """A step of N pictures, on this machine."""

    @property
    def needed(self) -> int:
        """Bytes of a limit that the kernel enforces: the plan and a tenth."""
        return self.planned + math.ceil(_ROOM * self.planned)

    def run_seconds(self, pictures: int) -> float:
        """Return how long a run by default on P pictures is expected to take on this machine."""
        trained = max(int(TRAINED * pictures), 1)
        steps = max(trained // self.batch, 1)
        passes = trained * VIEWS + (pictures - trained)
        return passes * self.picture_seconds + default_epochs(steps) * steps * self.step_seconds


@dataclass(frozen=True)
class Wanted:
    """What a person asks for; no limit is None. `memory` is what a level needs, in bytes."""

    memory: int | None
    seconds: float | None
    pictures: int
    classes: int

    def allows(self, level: Level) -> bool:
        """Return whether a level keeps to both limits."""
        fits = self.memory is None or level.needed <= self.memory
        return fits and (self.seconds is None or level.run_seconds(self.pictures) <= self.seconds)


def levels_of(
    request: Request,
    depths: Sequence[int],
    batches: Sequence[int],
    wanted: Wanted,
    tell: Callable[[str], None],
) -> Iterator[Level]:
    """Export, plan and time each depth of `request`, below the folder `request.out`.

    A form is tried where the one before does not keep to the limits. Where the first depth does not
    in any form, with any of `batches`, the deeper ones are not exported, which take more. Raises
    what an export raises.
    """
    for blocks in depths:
        kept = False
        for form in FORMS:
            tell(f"exporting {blocks} block{'s' if blocks > 1 else ''}, {form} ...")
            bundle = _exported(replace(request, blocks=blocks), form)
            if bundle is None:
                continue
            found = [_level(bundle, form, batch, wanted.classes) for batch in batches]
            yield from found
            kept |= any(map(wanted.allows, found))
            if wanted.allows(found[0]):
                break
        if not kept and blocks == depths[0]:
            return


def _exported(request: Request, form: str) -> Bundle | None:
    """Export one form of `request`; None for products of bytes where the network has none."""
    out = request.out / f"{request.blocks}-{form}"
    try:
        return open_bundle(export_bundle(in_form(replace(request, out=out), form)))
    except UnsupportedModel:
        if form != INT8:
            raise
        return None


def in_form(request: Request, form: str) -> Request:
    """Return `request` for one of the FORMS."""
    if form == INT8:
        return replace(request, step=INT8)
    return replace(request, step=FLOAT32, saved=form)


def _level(bundle: Bundle, form: str, batch: int, classes: int) -> Level:
    manifest = bundle.manifest
    planned = plan(manifest, batch, classes, int(DEFAULTS["micro_batch"])).total_bytes
    picture, step = _timed(bundle, batch, classes)
    return Level(bundle.path, manifest.method.blocks, form, batch, planned, picture, step)


def _timed(bundle: Bundle, batch: int, classes: int) -> tuple[float, float]:
    """Return the seconds of a picture's pass and of a step: medians, after one that warms up."""
    side = bundle.manifest.input.resolution
    image = np.random.default_rng(0).standard_normal((1, 3, side, side)).astype(np.float32)
    labels = np.arange(batch, dtype=np.int64) % classes
    passes, steps = [], []
    with open_session(bundle, classes, bundle.initial_state(classes, 0)) as session:
        maps = np.repeat(session.features(image), batch, axis=0)
        for _ in range(_TIMED + 1):
            began = time.perf_counter()
            session.features(image)
            middle = time.perf_counter()
            session.train_step(maps, labels, 0.0)
            passes.append(middle - began)
            steps.append(time.perf_counter() - middle)
    return statistics.median(passes[1:]), statistics.median(steps[1:])


def chosen(levels: Sequence[Level], wanted: Wanted) -> Level | None:
    """Return the level to take, None where no level keeps to the limits.

    The deepest one with at least 4 pictures in a step: means and variances of norms are learned
    from a step's pictures. Then as many pictures as there may be, and the first of FORMS.
    """
    allowed = [level for level in levels if wanted.allows(level)]
    return max(
        allowed,
        key=lambda one: (one.batch >= 4, one.blocks, one.batch, -FORMS.index(one.form)),
        default=None,
    )


def with_fewer_blocks(request: Request, levels: Sequence[Level], best: Level) -> Request:
    """Return a request for `best` and what is worth having with fewer blocks, in one bundle.

    All of them in the form of `best`.
    """
    depths = {one.blocks for one in levels if one.blocks < best.blocks}
    return in_form(replace(request, blocks=best.blocks, levels=tuple(sorted(depths))), best.form)


def worth_it(levels: Sequence[Level], wanted: Wanted) -> list[Level]:
    """Return the levels that no other one equals in blocks and pictures of a step with less memory
    and time.
    """

    def beaten(level: Level, other: Level) -> bool:
        better = (
            other.blocks >= level.blocks,
            other.batch >= level.batch,
            other.planned <= level.planned,
            other.run_seconds(wanted.pictures) <= level.run_seconds(wanted.pictures),
        )
        return other is not level and all(better)

    return [one for one in levels if not any(beaten(one, other) for other in levels)]
