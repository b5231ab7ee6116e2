"""From a bundle and a state to a file on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from mobiletl.core.errors import UsageError
from mobiletl.device.finishing.finish import finish as finish_on_board
from mobiletl.device.finishing.opset import check_opset, in_opset, with_probabilities
from mobiletl.device.printable import printable
from mobiletl.export.finish.bundle_reader import read_bundle
from mobiletl.export.finish.files import require_writable, write_files
from mobiletl.export.finish.finished import Finished, check_against_graphs
from mobiletl.export.finish.formats import Format, find_format, render
from mobiletl.export.finish.network import finished_network
from mobiletl.export.finish.state_reader import calibrated, read_state
from mobiletl.export.own_file import blamed

ONNX = "onnx"
# The names of the classes, in the order of the logits, one on a line: what many programs read.
LABELS = ".labels.txt"


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
    opset: int | None = None
    softmax: bool = False


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
    _check_onnx_only(order)
    out = order.out or _beside(order.state, row)
    require_writable(out, row.suffix)
    bundle = read_bundle(order.bundle, order.model, order.method, order.state)
    if bundle.manifest.prefix is not None:
        return _in_bytes(order)
    state = calibrated(read_state(order.state, bundle), bundle)
    with blamed("finished", order.model or "", order.method or ""):
        finished = finished_network(bundle, state, order.weights, order.ema)
        difference = check_against_graphs(finished, bundle, state)
        contents, summary, skipped = _contents(row, finished, order)
    for suffix in contents:
        require_writable(out.with_suffix(suffix), suffix)
    files = write_files(out, contents)
    return Result(files, state.class_names, finished.resolution, difference, summary, skipped)


def _in_bytes(order: Order) -> Result:
    """Frozen layers in 8 bits are no network of PyTorch's: the bundle's own graphs are joined."""
    asked = {
        f"--to {order.to}": order.to != ONNX,
        "--int8": order.int8,
        "--weights": order.weights is not None,
    }
    wrong = [flag for flag, is_given in asked.items() if is_given]
    if wrong:
        raise UsageError(
            f"{', '.join(wrong)}: the bundle's frozen layers have 8 bits already, and it finishes "
            f"to {ONNX} as it is; for anything else export it with --prefix float32 and train that"
        )
    done = finish_on_board(order.bundle, order.state, order.out, order.opset, order.softmax)
    files = [done.path, done.labels]
    return Result(files, done.class_names, done.resolution, done.difference)


def _check_onnx_only(order: Order) -> None:
    check_opset(order.opset)
    given = {"--opset": order.opset is not None, "--softmax": order.softmax}
    wrong = [flag for flag, is_given in given.items() if is_given and order.to != ONNX]
    if wrong:
        raise UsageError(f"{', '.join(wrong)}: only for --to {ONNX}, not for {order.to}")


def _beside(state: Path, row: Format) -> Path:
    """The state's name with the format's suffix; where that is the state itself, a longer name."""
    out = state.with_suffix(row.suffix)
    return state.with_name(f"{state.stem}-{row.name}{row.suffix}") if out == state else out


def _contents(
    row: Format, finished: Finished, order: Order
) -> tuple[Mapping[str, bytes], str, tuple[str, ...]]:
    """What to write, by suffix, a line about it, and the pictures that could not be read."""
    if not order.int8:
        return _as_asked(render(row, finished), finished, order), "", ()
    from mobiletl.export.finish.int8 import render_int8  # onnxruntime's quantizer loads slowly

    int8 = render_int8(finished, order.data)
    return _as_asked(int8.contents, finished, order), int8.summary, int8.skipped


def _as_asked(
    contents: Mapping[str, bytes], finished: Finished, order: Order
) -> Mapping[str, bytes]:
    """An ONNX file in the version and with the outputs that were asked for, and its labels."""
    if order.to != ONNX:
        return contents
    model = in_opset(onnx.load_from_string(contents[".onnx"]), order.opset)
    if order.softmax:
        model = with_probabilities(model)
    labels = "".join(f"{printable(name)}\n" for name in finished.class_names)
    return {".onnx": model.SerializeToString(), LABELS: labels.encode("utf-8")}
