"""What a training process needs, planned from the manifest.

Bytes throughout; MB in the table is 1e6 bytes. Planned and measured figures never share a column.
Letters: N pictures in a batch, K classes, n pictures in a micro-batch, C x h x w the feature map.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Mapping

from mobiletl.device.bundle.manifest import Input, Manifest, Memory
from mobiletl.device.memory.at_rest import runtime_bytes
from mobiletl.device.sessions.arena import lists_bytes, region_bytes
from mobiletl.device.sessions.freed import returns_code
from mobiletl.device.sessions.table import STOCK, known_runtime

FLOAT_BYTES = 4
PIXEL_BYTES = 4
# What a run knows of a picture: its file, its content, and where the maps of six views are. It is
# how much more a process held at the end of training per digit of the demo, from 400 to 1400.
PICTURE_BYTES = 1600
# Views of a picture that are cut at once, by default and for judging.
CROPS = 6
# Of pictures that a classifier is solved for on with its penalty unknown, and of bytes of their
# embeddings where it is known (device/solving).
SOLVED_AT_ONCE, MOST_EMBEDDINGS = 256, 6_500_000
SOLVING = "solving for a classifier"
PLANNED, MEASURED = "planned", "measured"


@dataclass(frozen=True)
class MemoryRow:
    """One part of the process; `kind` is "planned" or "measured"."""

    name: str
    bytes: int
    kind: str = PLANNED


@dataclass(frozen=True)
class MemoryPlan:
    """The parts of a process that trains; their sum is the promise."""

    rows: tuple[MemoryRow, ...]
    activations: int = 0
    """What the tensors of a call take at most: sessions are opened with it."""

    @property
    def total_bytes(self) -> int:
        """The peak the process is to stay under."""
        return sum(row.bytes for row in self.rows)

    def without(self, name: str) -> MemoryPlan:
        """The plan of a process that does not do what the row `name` is for."""
        rows = tuple(row for row in self.rows if row.name != name)
        return MemoryPlan(rows, self.activations)


def plan(
    manifest: Manifest,
    batch: int,
    classes: int,
    micro_batch: int = 1,
    runtime: str = STOCK,
    decoding: int | None = None,
    pictures: int = 0,
) -> MemoryPlan:
    """Plan training with N = `batch`, K = `classes`, n = `micro_batch` (docs/bundle.md, memory).

    Activations are what `runtime` states in the manifest, or else those of the stock graphs.
    Of the `pictures` there are, `decoding` is what the largest takes; where nobody knows, it is a
    phone's JPEG.
    """
    memory = manifest.memory
    sizes = {"features": micro_batch, "train_step": batch, "predict": batch}
    alive = {
        name: manifest.peak_bytes(runtime, name, size, classes) for name, size in sizes.items()
    }
    largest = max(alive, key=lambda name: alive[name])
    moment = MemoryRow(f"activations, largest in {largest}", alive[largest])
    decoding = decoded_bytes(manifest.input) if decoding is None else decoding
    # Its memory is not the runtime's, whose own stays resident when activations are free again.
    picture = MemoryRow("a picture while it is decoded", decoding)
    crops = MemoryRow("crops and the network's input", prepared_bytes(manifest.input, micro_batch))
    row = known_runtime(runtime)
    region = _region_rows(memory, sizes, alive) if row.regions else ()
    running = (picture, crops, *region, moment)
    loading = MemoryRow("while features load", row.copies_while_loading * memory.features.weights)
    weights = (memory.features.weights, memory.train_step.weights, memory.predict.weights)
    feature_maps = batch * math.prod(manifest.feature.shape) * FLOAT_BYTES
    state, slots = memory.state.at(classes), memory.slots.at(classes)
    copies = MemoryRow("state: copies of the runtime's", row.copies_of_state * (state + slots))
    solving = MemoryRow(SOLVING, solving_bytes(manifest.embedding.size, pictures))
    known = MemoryRow(f"what is known of {pictures} pictures", pictures * PICTURE_BYTES)
    return MemoryPlan(
        (
            MemoryRow("runtime and libraries at rest", runtime_bytes(manifest, runtime), MEASURED),
            MemoryRow("frozen weights", sum(weights)),
            MemoryRow("state: parameters and statistics", state),
            MemoryRow("state: optimizer slots", slots),
            *((copies,) if copies.bytes else ()),
            MemoryRow(f"feature maps of {batch} pictures", feature_maps),
            *((known,) if pictures else ()),
            *((solving,) if solving.bytes else ()),
            *((loading,) if loading.bytes > sum(part.bytes for part in running) else running),
        ),
        moment.bytes,
    )


def _region_rows(
    memory: Memory, sizes: Mapping[str, int], alive: Mapping[str, int]
) -> tuple[MemoryRow, ...]:
    """Return what a region takes beside the tensors that are `alive` in it."""
    reached = [
        round(size * (1 + memory.of(name).holes_share(sizes[name]))) for name, size in alive.items()
    ]
    most = max(alive.values())
    return (
        MemoryRow("lists of where tensors are", lists_bytes(region_bytes(most))),
        MemoryRow("holes between tensors", max(reached) - most),
    )


def decoding_room(
    limit: int,
    manifest: Manifest,
    batch: int,
    classes: int,
    micro_batch: int,
    runtime: str,
    pictures: int = 0,
) -> int:
    """Return how many bytes a picture may take while it is decoded for the plan to hold `limit`."""
    planned = plan(manifest, batch, classes, micro_batch, runtime, limit, pictures)
    return limit - planned.total_bytes + limit


def decoded_bytes(size: Input) -> int:
    """Return what a JPEG of 4:3 takes at most at evaluation: Pillow has 4 bytes a pixel, and halves
    a picture while its short side stays twice that of the resized one (bundle/prepare.py).
    Random crops want a little more: 1104 pixels for 1024, at 224.
    """
    short = 2 * 2 * size.resize
    return PIXEL_BYTES * short * short * 4 // 3


def prepared_bytes(size: Input, micro_batch: int) -> int:
    """Return what lies between a decoded picture and the network: n pictures as floats, the crops
    of a picture whose views are cut at once, and the one that is being cut, whose columns are
    resized before its rows are.
    """
    side = size.resolution
    crops = side * side * CROPS + side * 2 * 2 * size.resize
    return micro_batch * 3 * side * side * FLOAT_BYTES + crops * PIXEL_BYTES


def solving_bytes(size: int, pictures: int) -> int:
    """Return what solving for a classifier takes beside the rest, for embeddings of `size` numbers.

    On 256 pictures these are there three times, and `eigh` has six matrices of P x P: 5.5 MB of
    1280 numbers, where a heap showed 5.4. On more they are there once, and what 256 left behind.
    Where code is given back, that makes room for all that 256 pictures take, and on more for the
    embeddings of 512, as the peaks of runs with 400 to 4000 pictures have it.
    """
    pictures = pictures or SOLVED_AT_ONCE
    few = min(pictures, SOLVED_AT_ONCE)
    row = size * FLOAT_BYTES
    many = 0 if few == pictures else min(pictures * row, MOST_EMBEDDINGS)
    if returns_code():
        return max(0, many - 2 * few * row)
    return max(3 * few * row + 6 * few * few * FLOAT_BYTES, many + few * row)


def table(memory_plan: MemoryPlan, measured_peak: int | None = None) -> str:
    """Return the plan as text; with `measured_peak` (bytes) the two stand side by side.

    The runtime's row is measured, but not in this process; it counts in the planned sum.
    """
    lines = [_line("memory", f"{PLANNED} MB", f"{MEASURED} MB")]
    for row in memory_plan.rows:
        figure = _megabytes(row.bytes)
        lines.append(_line(row.name, *((figure, "") if row.kind == PLANNED else ("", figure))))
    peak = "" if measured_peak is None else _megabytes(measured_peak)
    lines.append(_line("whole process, peak", _megabytes(memory_plan.total_bytes), peak))
    return "\n".join(lines)


def _line(name: str, planned: str, measured: str) -> str:
    return f"{name:<34}{planned:>12}{measured:>13}".rstrip()


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}"
