"""`python -m bench.tasks`: Rep-Net over several tasks, one state each, with floats and on bytes.

A task is a few classes of a set of pictures. The frozen network is one for all tasks; what a task
trains, side modules and its classifier, is a state of its own. Tasks are learned one after the
other. After each, every state learned so far is loaded in turn into the session that is open, and
its answers to its own test pictures are compared with those that it gave at first, bit by bit.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.compared import BATCH
from bench.defaults.cells import PictureSet
from bench.defaults.runs import Bench, Maps
from mobiletl.core.integer.top import STEPS
from mobiletl.device.bundle.arrays import Floats, Tensors
from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.sessions.runtimes import open_session
from mobiletl.device.sessions.session import Session
from mobiletl.export.parts import Request
from mobiletl.export.writing.export_bundle import export_bundle

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Task:
    """Pictures of a few classes, as the network takes them."""

    names: tuple[str, ...]
    train: Maps
    test: Maps


def main(argv: list[str] | None = None) -> int:
    """Print a row per task: accuracies in percent, means over seeds."""
    flags = _parser().parse_args(argv)
    flags.out.mkdir(parents=True, exist_ok=True)
    bundles = {step: _bundle(flags, step) for step in STEPS}
    with tempfile.TemporaryDirectory(dir=flags.out) as scratch:
        tasks = _tasks(flags, next(iter(bundles.values())), Path(scratch))
    found = np.array(
        [
            [_learned(flags, bundle, tasks, seed) for bundle in bundles.values()]
            for seed in range(flags.seeds)
        ]
    )
    print("| task | pictures | " + " | ".join(bundles) + " | difference |")
    means = 100 * found.mean(axis=0)
    for index, task in enumerate(tasks):
        _row(", ".join(task.names), str(len(task.train.labels)), means[:, index])
    _row("mean", "", means.mean(axis=1))
    return 0


def _row(name: str, pictures: str, accuracies: np.ndarray) -> None:
    cells = [name, pictures, *(f"{value:.1f}" for value in accuracies)]
    print("| " + " | ".join([*cells, f"{accuracies[-1] - accuracies[0]:+.2f}"]) + " |", flush=True)


def _learned(
    flags: argparse.Namespace, bundle: Bundle, tasks: list[Task], seed: int
) -> list[float]:
    """The accuracy of every task, once all are learned."""
    states: list[Tensors] = []
    at_first: list[Floats] = []
    classes = len(tasks[0].names)
    with open_session(bundle, classes, bundle.initial_state(classes, seed), flags.threads) as one:
        for task in tasks:
            one.load(bundle.initial_state(classes, seed))
            _train(flags, one, bundle, task, seed)
            states.append({name: value.copy() for name, value in one.state().items()})
            at_first.append(_answers(one, task))
            for learned, state, expected in zip(tasks, states, at_first, strict=False):
                one.load(state)
                if _answers(one, learned).tobytes() != expected.tobytes():
                    raise AssertionError(f"{learned.names} was changed by {task.names}")
    return [
        float((answers.argmax(axis=1) == task.test.labels).mean())
        for task, answers in zip(tasks, at_first, strict=True)
    ]


def _train(
    flags: argparse.Namespace, session: Session, bundle: Bundle, task: Task, seed: int
) -> None:
    """Adam at the method's rate, falling linearly to 0."""
    generator, count = np.random.default_rng(seed), len(task.train.labels)
    rate, done = bundle.manifest.optimizer.default_lr, 0
    steps = flags.epochs * (count // BATCH)
    for _ in range(flags.epochs):
        order = generator.permutation(count)
        for start in range(0, count - BATCH + 1, BATCH):
            rows = order[start : start + BATCH]
            session.train_step(
                task.train.h[rows], task.train.labels[rows], rate * (1 - done / steps)
            )
            done += 1


def _answers(session: Session, task: Task) -> Floats:
    starts = range(0, len(task.test.h), BATCH)
    return np.concatenate([session.predict(task.test.h[row : row + BATCH]) for row in starts])


def _tasks(flags: argparse.Namespace, bundle: Bundle, folder: Path) -> list[Task]:
    """The classes of the set in order, `flags.classes` at a time."""
    names = sorted(path.name for path in (flags.data / "train").iterdir() if path.is_dir())
    bench = Bench(bundle, folder, flags.per_class, flags.threads)
    tasks = []
    for start in range(0, len(names) - flags.classes + 1, flags.classes):
        chosen = tuple(names[start : start + flags.classes])
        parts = [_part(flags.data / split, folder / f"{start}-{split}", chosen) for split in SPLITS]
        counts = (flags.per_class, flags.test_per_class)
        linked = [
            PictureSet(part.name, part, part).link(folder / f"{part.name}-few", count, 0, count)
            for part, count in zip(parts, counts, strict=True)
        ]
        tasks.append(Task(chosen, *(Maps.of(bench, part, list(chosen)) for part in linked)))
    return tasks[: flags.tasks]


def _part(split: Path, folder: Path, names: tuple[str, ...]) -> Path:
    """A folder with some of the classes of `split`."""
    folder.mkdir()
    for name in names:
        (folder / name).symlink_to((split / name).resolve())
    return folder


def _bundle(flags: argparse.Namespace, step: str) -> Bundle:
    out = flags.out / f"{flags.model}-{flags.resolution}-{step}"
    if not out.exists():
        export_bundle(
            Request(
                flags.model, flags.weights, "repnet", None, flags.resolution, "adam", out, step=step
            )
        )
    return open_bundle(out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.tasks", description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="a set of pictures with train/ and test/")
    add("--weights", default="imagenet", help="as for mobiletl export")
    add("--model", default="mbv2")
    add("--resolution", type=int, default=96)
    add("--classes", type=int, default=2, help="of a task")
    add("--tasks", type=int, default=5)
    add("--epochs", type=int, default=6)
    add("--per-class", type=int, default=60, help="training pictures of each class")
    add("--test-per-class", type=int, default=100, help="test pictures of each class")
    add("--seeds", type=int, default=3)
    add("--threads", type=int, default=1)
    add("--out", type=Path, default=Path("artifacts/tasks"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
