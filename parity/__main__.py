"""`python -m parity`: see the package."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mobiletl.core.backbones import find_backbone
from mobiletl.core.methods import find_method
from mobiletl.core.transfer import Transfer
from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.export.runtimes import RUNTIMES
from mobiletl.export.weights.loading import load_weights
from mobiletl.export.writing.export_bundle import Request, export_bundle
from parity.data import BATCH, CLASSES, Pictures, load_pictures, write_data
from parity.reference import train_reference
from runtime_tests.support.board.shared_files import REPOSITORY, SHARED

WEIGHTS = SHARED / "weights" / "mobilenet_v2-imagenet.safetensors"
TRAINING_PYTHON = REPOSITORY / ".venv-ort-training" / "bin" / "python"
WORKER = Path(__file__).parent / "worker.py"
METHOD, BLOCKS = "mobiletl", 3
LARGEST_ERROR = 1e-5
ACCURACY_POINTS = 0.5
# The reference itself, with feature maps changed in their last bit: no bound applies to it.
YARDSTICK = "(PyTorch, last bit)"


@dataclass(frozen=True)
class Row:
    """One runtime beside PyTorch. Errors are ||a - b|| / ||b||, accuracies shares."""

    runtime: str
    features: float
    first_loss: float
    last_loss: float
    worst: float
    worst_name: str
    accuracy: float
    """Mean of the runs."""
    furthest: float
    """Of the runs' accuracies from PyTorch's of the same run."""

    def holds(self, reference: float) -> bool:
        """Whether it is within the bounds this project promises."""
        points = 100 * abs(self.accuracy - reference)
        return self.worst <= LARGEST_ERROR and points <= ACCURACY_POINTS + 1e-9


def main() -> int:
    flags = _parser().parse_args()
    torch.set_num_threads(2)
    real = WEIGHTS.exists() and not flags.small
    model, weights, side = ("mbv2", str(WEIGHTS), 224) if real else ("mbv2-0.35", "demo", 64)
    runtimes = tuple(flags.runtimes.split(","))
    pictures = load_pictures(flags.train, flags.val, side, real)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        request = Request(
            model, weights, METHOD, BLOCKS, side, "sgd", scratch / "bundle", runtimes,
            batch=BATCH, classes=CLASSES,
        )  # fmt: skip
        bundle = open_bundle(export_bundle(request))
        network = _transfer(model, weights)
        write_data(scratch / "data", bundle, pictures, network, flags.steps, flags.runs)
        reference = train_reference(network, bundle, scratch / "data")
        drifted = train_reference(network, bundle, scratch / "data", last_bit=True)
        found = {name: _train(name, scratch) for name in runtimes}
    accuracies = _accuracies(reference, pictures)
    rows = [_row(name, run, reference, pictures) for name, run in found.items()]
    yardstick = _row(YARDSTICK, drifted, reference, pictures)
    losses = reference["0/losses"]
    print(
        f"{model}, {Path(weights).name}, {side} px, batch {BATCH}, {BLOCKS} blocks, {METHOD}; "
        f"{flags.steps} steps of SGD on {pictures.kind}, {flags.val} to validate on, "
        f"{flags.runs} runs\nPyTorch's autograd: loss {losses[0]:.6f} at step 1, {losses[-1]:.6f} "
        f"at step {flags.steps} of the first run, accuracy {100 * accuracies.mean():.2f} % "
        f"({', '.join(f'{100 * a:.1f}' for a in accuracies)})\n"
    )
    print("\n".join(_table([*rows, yardstick], flags.steps)))
    broken = [row.runtime for row in rows if not row.holds(float(accuracies.mean()))]
    print(f"\nout of bounds: {', '.join(broken) or 'none'}")
    return 1 if broken else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m parity", description="One training, every runtime."
    )
    parser.add_argument(
        "--runtimes",
        default=",".join(row.name for row in RUNTIMES),
        help="with commas between them (default: %(default)s)",
    )
    parser.add_argument("--steps", type=int, default=50, help="default: 50")
    parser.add_argument("--small", action="store_true", help="the embedded network and digits")
    parser.add_argument("--runs", type=int, default=5, help="default: 5")
    parser.add_argument("--train", type=int, default=400, help="training pictures (default: 400)")
    parser.add_argument("--val", type=int, default=1000, help="validation pictures (default: 1000)")
    return parser


def _transfer(model: str, weights: str) -> Transfer:
    network = find_backbone(model).build(CLASSES)
    tensors = load_weights(weights, model)
    assert tensors is not None
    network.load_state_dict(tensors, strict=False)
    return find_method(METHOD).prepare(network, BLOCKS)


def _train(runtime: str, scratch: Path) -> dict[str, Any]:
    """What `runtime` finds, in a process and, where it needs one, an environment of its own."""
    python = str(TRAINING_PYTHON) if runtime == "onnxruntime-training" else sys.executable
    out = scratch / f"{runtime}.npz"
    bundle = scratch / "bundle"
    command = [python, str(WORKER), str(bundle / "device"), str(bundle), runtime]
    subprocess.run([*command, str(scratch / "data"), str(out)], check=True)
    with np.load(out) as file:
        return dict(file)


def _accuracies(found: dict[str, Any], pictures: Pictures) -> NDArray[np.float64]:
    """Share of validation pictures recognised, by run."""
    runs = sum(key.endswith("/predicted") for key in found)
    right = [found[f"{run}/predicted"] == pictures.val_labels for run in range(runs)]
    return np.array([hits.mean() for hits in right])


def _row(name: str, found: dict[str, Any], reference: dict[str, Any], pictures: Pictures) -> Row:
    """Errors of the first run; accuracies of all."""
    names = [key for key in reference if key.startswith("0/state1/")]
    assert set(names) == {key for key in found if key.startswith("0/state1/")}
    errors = {key: relative_error(found[key], reference[key]) for key in names}
    worst = max(errors, key=lambda key: errors[key])
    losses = [relative_error(found["0/losses"][i], reference["0/losses"][i]) for i in (0, -1)]
    accuracies = _accuracies(found, pictures)
    apart = np.abs(accuracies - _accuracies(reference, pictures)).max()
    return Row(
        name,
        relative_error(found["h"], reference["h"]),
        losses[0],
        losses[1],
        errors[worst],
        worst.removeprefix("0/state1/"),
        float(accuracies.mean()),
        float(apart),
    )


def relative_error(a: Any, b: Any) -> float:
    """||a - b|| / ||b||, in double precision."""
    difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    return float(np.linalg.norm(difference) / max(float(np.linalg.norm(b)), 1e-30))


def _table(rows: list[Row], steps: int) -> list[str]:
    head = f"{'runtime':<22}{'features':>10}{'loss, step 1':>14}{f'step {steps}':>10}"
    lines = [f"{head}{'worst tensor':>14}{'accuracy':>10}{'single run':>12}  which tensor"]
    lines += [
        f"{row.runtime:<22}{row.features:>10.1e}{row.first_loss:>14.1e}{row.last_loss:>10.1e}"
        f"{row.worst:>14.1e}{100 * row.accuracy:>8.2f} %"
        f"{f'+-{100 * row.furthest:.1f}':>12}  {row.worst_name}"
        for row in rows
    ]
    return lines


if __name__ == "__main__":
    sys.exit(main())
