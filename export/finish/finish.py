"""From a bundle and a state to a file on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mobiletl.export.finish.bundle_reader import read_bundle
from mobiletl.export.finish.files import require_writable, write_files
from mobiletl.export.finish.finished import Finished, check_against_graphs
from mobiletl.export.finish.formats import Format, find_format, render
from mobiletl.export.finish.network import finished_network
from mobiletl.export.finish.state_reader import calibrated, read_state
from mobiletl.export.own_file import blamed


@dataclass(frozen=True)
class Order:
    """What a person asked for. `data` is for int8; `out` None is named after the state; `model` and
    `method` are where a network and a method of one's own are defined.
    """

    bundle: Path
    state: Path
    to: str
    int8: bool = False
    data: Path | None = None
    weights: str | None = None
    out: Path | None = None
    model: str | None = None
    method: str | None = None
    ema: bool = False


@dataclass(frozen=True)
class Result:
    """What was written, main file first; `difference` of logits is that before int8, `summary` a
    line about int8, and `skipped` a line for each picture that could not be read.
    """

    files: list[Path]
    class_names: tuple[str, ...]
    resolution: int
    difference: float
    summary: str = ""
    skipped: tuple[str, ...] = ()


def finish(order: Order) -> Result:
    """Write the file; raises an error of core/errors.py and leaves nothing behind then."""
    row = find_format(order.to, order.int8)
    out = order.out or _beside(order.state, row)
    require_writable(out, row.suffix)
    bundle = read_bundle(order.bundle, order.model, order.method)
    state = calibrated(read_state(order.state, bundle), bundle)
    with blamed("finished", order.model or "", order.method or ""):
        finished = finished_network(bundle, state, order.weights, order.ema)
        difference = check_against_graphs(finished, bundle, state)
        contents, summary, skipped = _contents(row, finished, order)
    files = write_files(out, contents)
    return Result(files, state.class_names, finished.resolution, difference, summary, skipped)


def _beside(state: Path, row: Format) -> Path:
    """The state's name with the format's suffix; where that is the state itself, a longer name."""
    out = state.with_suffix(row.suffix)
    return state.with_name(f"{state.stem}-{row.name}{row.suffix}") if out == state else out


def _contents(
    row: Format, finished: Finished, order: Order
) -> tuple[Mapping[str, bytes], str, tuple[str, ...]]:
    """What to write, by suffix, a line about it, and the pictures that could not be read."""
    if not order.int8:
        return render(row, finished), "", ()
    from mobiletl.export.finish.int8 import render_int8  # onnxruntime's quantizer loads slowly

    int8 = render_int8(finished, order.data)
    return int8.contents, int8.summary, int8.skipped
