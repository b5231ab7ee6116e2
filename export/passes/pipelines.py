"""Graph passes over the traced step, in the order they run.

A pass takes a `Traced` and returns one. All of them are legal on a training graph: they keep every
output's value, fold nothing that is trained, and assume nothing about N and K.
"""

from __future__ import annotations

from collections.abc import Callable

from mobiletl.export.passes.cancel_transposes import cancel_transposes
from mobiletl.export.passes.channel_major.rewrite import channel_major
from mobiletl.export.passes.rematerialise import rematerialise_kernels
from mobiletl.export.passes.shrink_expand import shrink_expand
from mobiletl.export.tracing.trace import Traced

__all__ = ["TRAINING_PASSES", "run_passes"]

TRAINING_PASSES: tuple[Callable[[Traced], Traced], ...] = (
    shrink_expand,  # divide before a gradient is spread over a map, not after
    rematerialise_kernels,  # before layouts: it looks at the kernels of convolutions
    channel_major,  # convolutions and norms become matrix products and sums
    cancel_transposes,  # after layouts, which leave pairs
)


def run_passes(traced: Traced) -> Traced:
    """Apply `TRAINING_PASSES` in order."""
    for run in TRAINING_PASSES:
        traced = run(traced)
    return traced
