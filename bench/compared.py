"""What benches share that train two bundles of one network from stored maps and set them side by
side: the training, a row of the table, and the flags.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from bench.defaults.runs import Maps
from mobiletl.device.bundle.bundle import Bundle
from mobiletl.device.sessions.runtimes import open_session

BATCH = 8


def accuracy_of(
    flags: argparse.Namespace, bundle: Bundle, train: Maps, test: Maps, seed: int
) -> float:
    """The share of right answers after `flags.epochs` on the maps of `train`."""
    classes, generator = int(train.labels.max()) + 1, np.random.default_rng(seed)
    state = bundle.initial_state(classes, seed)
    rate = bundle.manifest.optimizer.default_lr if flags.rate is None else flags.rate
    with open_session(bundle, classes, state, flags.threads) as session:
        steps = flags.epochs * (len(train.labels) // BATCH)
        done = 0
        for _ in range(flags.epochs):
            order = generator.permutation(len(train.labels))
            for start in range(0, len(order) - BATCH + 1, BATCH):
                rows = order[start : start + BATCH]
                session.train_step(train.h[rows], train.labels[rows], rate * (1 - done / steps))
                done += 1
        starts = range(0, len(test.h), BATCH)
        logits = [session.predict(test.h[row : row + BATCH]) for row in starts]
    return float((np.concatenate(logits).argmax(axis=1) == test.labels).mean())


def print_row(name: str, count: int, accuracies: np.ndarray, by_seed: np.ndarray) -> None:
    """Accuracies in percent, the last one less the first, and the same of each seed."""
    cells = [name, str(count or ""), *(f"{value:.1f}" for value in accuracies)]
    cells.append(f"{accuracies[-1] - accuracies[0]:+.2f}")
    cells.append(" ".join(f"{value:+.1f}" for value in by_seed))
    print("| " + " | ".join(cells) + " |", flush=True)


def parser_of(
    prog: str, description: str | None, out: Path, epochs: int
) -> argparse.ArgumentParser:
    """The flags of such a bench."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder of sets with train/ and test/ each")
    add("--sets", nargs="*", default=[], help="some of them (default: all)")
    add("--weights", default="imagenet", help="as for mobiletl export")
    add("--model", default="mbv2")
    add("--method", default="mobiletl")
    add("--resolution", type=int, default=224)
    add("--blocks", type=int, default=3)
    add("--rate", type=float, help="first learning rate (default: the bundle's)")
    add("--epochs", type=int, default=epochs)
    add("--per-class", type=int, default=20, help="training pictures of each class")
    add("--test-per-class", type=int, default=50, help="test pictures of each class")
    add("--seeds", type=int, default=3)
    add("--threads", type=int, default=1)
    add("--out", type=Path, default=out)
    return parser
