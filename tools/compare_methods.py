"""Compare transfer methods on one picture folder: export each, train over seeds, print a table.

    python tools/compare_methods.py --data cifar10-8k --weights mobilenet_v2.safetensors \\
        --resolution 128 --epochs 8 --seeds 3

Every run is the board's own loop with features cached (no augmentation), so a method's runs differ
by the seed of head and order alone. Accuracy is on the validation folder after the last
epoch: nothing is chosen by it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
from pathlib import Path

from mobiletl.core.methods import METHODS
from mobiletl.device import train_on_board
from mobiletl.export.pipeline import Request, export_bundle


def accuracy(flags: argparse.Namespace, bundle: Path, seed: int) -> float:
    """Train once and return the last epoch's validation accuracy."""
    run = flags.out / f"{bundle.name}-seed{seed}"
    arguments = ["--bundle", bundle, "--data", flags.data, "--epochs", flags.epochs, "--out", run]
    arguments += ["--seed", seed, "--no-augment", "--cache", flags.out / "cache", "--json"]
    arguments += ["--lr", flags.lr] if flags.lr else []
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = train_on_board.main([str(argument) for argument in arguments])
    if code:
        raise SystemExit(code)
    lines = (run / "metrics.jsonl").read_text("utf-8").splitlines()
    return float(json.loads(lines[-1])["val_accuracy"])


def compare(flags: argparse.Namespace) -> None:
    """Print a row per method as soon as its runs are done."""
    print(f"{flags.resolution} px, {flags.epochs} epochs, batch 8, {flags.seeds} seeds")
    print("method      blocks  accuracy: mean      per seed")
    for method in METHODS:
        bundle = export_bundle(
            Request(
                model=flags.model,
                weights=flags.weights,
                method=method.name,
                blocks=None if method.default_blocks is None else flags.blocks,
                resolution=flags.resolution,
                optimizer=flags.optimizer,
                out=flags.out / method.name,
            )
        )
        runs = [accuracy(flags, bundle, seed) for seed in range(flags.seeds)]
        each = "  ".join(f"{value:.2%}" for value in runs)
        blocks = "-" if method.default_blocks is None else flags.blocks
        print(f"{method.name:12}{blocks:>6}  {statistics.mean(runs):14.2%}      {each}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and val/")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--model", default="mbv2")
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--optimizer", default="sgd")
    parser.add_argument("--lr", type=float, help="default: the bundle's")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("artifacts/comparison"))
    compare(parser.parse_args())


if __name__ == "__main__":
    main()
