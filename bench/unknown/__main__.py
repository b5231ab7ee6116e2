"""`python -m bench.unknown`: half of the classes are known, the others come unannounced.

Each folder of --data has `train` and `test` (or `val`), with a folder of pictures per class. Either
the classifier is fitted in closed form to embeddings of the bundle's own network, half of the
classes drawn anew for every seed. Or --state is of a run that was trained on some of the classes,
all of them in the folder given with --trained; the others are unknown. A folder of --data that is
named several times, with a state each, is one column of the table.
"""

from __future__ import annotations

import argparse
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.unknown.scores import SCORES, Known, Seen, accepted_at, area, ours
from mobiletl.device.bundle.arrays import Floats, Labels
from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.bundle.frame import frame_of
from mobiletl.device.bundle.prepare import prepare
from mobiletl.device.bundle.state_file import load_state
from mobiletl.device.commands.table import guarded
from mobiletl.device.errors import UsageError
from mobiletl.device.heads.calibration import (
    SOLVED_PRIOR,
    Reals,
    calibration_error,
    errors_by_chance,
    fit_temperature,
)
from mobiletl.device.heads.ridge import fit_ridge
from mobiletl.device.heads.unknown import SOLVED_WEIGHT, Familiar, fit_familiar, fit_threshold
from mobiletl.device.pictures.dataset import files_below, open_dataset
from mobiletl.device.sessions.runtimes import open_session
from mobiletl.device.sessions.session import Session

VAL_SHARE = 0.2
EXAMPLES = """\
to paste:
  python -m bench.unknown --bundle artifacts/mbv2 --data photos/
  python -m bench.unknown --bundle artifacts/mbv2 --data photos/ \\
      --state runs/half/state.safetensors --trained half/
"""


@dataclass(frozen=True)
class Split:
    """Pictures of one class folder tree: embeddings [P,D], logits [P,K], class names."""

    embeddings: Floats
    logits: Reals
    names: list[str]

    def labels(self, known: Sequence[str]) -> Labels:
        """-1 for what is unknown."""
        return np.array([known.index(n) if n in known else -1 for n in self.names], np.int64)


@dataclass(frozen=True)
class Trial:
    """Known pictures, and test pictures with labels, -1 if unknown. `held_out` pictures more made
    the threshold.
    """

    known: Known
    held_out: int
    threshold: float | None
    test: Seen
    test_labels: Labels


def main(argv: list[str] | None = None) -> int:
    """Print the table and return the exit code (docs/exit-codes.md)."""
    return guarded(lambda: _measure(_parser().parse_args(argv)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.unknown",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--bundle", type=Path, required=True)
    add("--data", type=Path, nargs="+", required=True)
    add("--state", type=Path, nargs="*", default=[], help="one for each folder of --data")
    add("--trained", type=Path, nargs="*", default=[], help="the pictures of each state's run")
    add("--per-class", type=int, default=120, help="pictures of a class and part at most")
    add("--tested", type=int, help="test pictures of a class at most (default: --per-class)")
    add("--known", type=float, default=0.5, help="share of the classes (default 0.5); 1 is all")
    add(
        "--from-test", type=int, default=0, help="hold out so many test pictures of a class instead"
    )
    add("--seeds", type=int, default=3)
    add("--threads", type=int, default=1)
    return parser


def _measure(flags: argparse.Namespace) -> int:
    if flags.state and not len(flags.state) == len(flags.trained) == len(flags.data):
        raise UsageError("--state and --trained need one entry for each folder of --data")
    bundle = open_bundle(flags.bundle)
    figures: dict[str, list[tuple[float, float]]] = defaultdict(list)
    folders = list(dict.fromkeys(flags.data))
    for data in folders:
        if flags.state:
            places = [place for place, named in enumerate(flags.data) if named == data]
            trials = [_trained(flags, bundle, place, data) for place in places]
        else:
            trials = list(_closed_form(flags, bundle, data))
        print(f"{data.name}: {_honesty(trials)}", flush=True)
        if all((trial.test_labels >= 0).all() for trial in trials):
            continue  # nothing is unknown here
        for name, function in SCORES.items():
            found = []
            for trial in trials:
                known = trial.test_labels >= 0
                scores = function(trial.known, trial.test)
                found.append(
                    (
                        area(scores[known], scores[~known]),
                        accepted_at(scores[known], scores[~known]),
                    )
                )
            figures[name].append(tuple(np.mean(found, axis=0)))
    if not figures:
        return 0
    print("\n| AUROC % / FPR at 95 % TPR | " + " | ".join(d.name for d in folders) + " | mean |")
    print("|---|" + "---|" * (len(folders) + 1))
    for name, cells in figures.items():
        shown = [*cells, tuple(np.mean(cells, axis=0))]
        print(
            f"| {name} | " + " | ".join(f"{100 * a:.1f} / {100 * b:.1f}" for a, b in shown) + " |"
        )
    return 0


def _honesty(trials: Sequence[Trial]) -> str:
    """Calibration before and after, and what the fitted threshold does, on test pictures."""
    rows = []
    for trial in trials:
        known = trial.test_labels >= 0
        logits, labels = trial.test.logits[known], trial.test_labels[known]
        temperature = trial.known.temperature
        least = -np.inf if trial.threshold is None else trial.threshold
        passed = ours(trial.known, trial.test) >= least
        chance = errors_by_chance(logits / temperature)
        rows.append(
            (
                trial.held_out,
                (logits.argmax(axis=1) == labels).mean(),
                temperature,
                calibration_error(logits, labels),
                calibration_error(logits / temperature, labels),
                chance.mean(),
                np.quantile(chance, 0.95),
                passed[known].mean(),
                passed[~known].mean() if (~known).any() else np.nan,
                len(labels),
            )
        )
    held, right, heat, before, after, chance, much, kept, let, tested = np.mean(rows, axis=0)
    return (
        f"{held:.0f} held out, {tested:.0f} known test pictures, {right:.1%} right, temperature "
        f"{heat:.2f}, ECE {before:.1%} before and {after:.1%} after, by chance {chance:.1%} "
        f"(19 times in 20 below {much:.1%}); known accepted {kept:.1%}, unknown accepted {let:.1%}"
    )


def _closed_form(flags: argparse.Namespace, bundle: Bundle, data: Path) -> Iterator[Trial]:
    state = bundle.initial_state(2, 0)
    with open_session(bundle, 2, state, flags.threads, None) as session:
        train = _embedded(session, bundle, data / "train", flags.per_class)
        test = _tested(flags, session, bundle, data)
    names = sorted(set(train.names))
    for seed in range(flags.seeds):
        order = np.random.default_rng(seed).permutation(len(names))
        known = sorted(names[i] for i in order[: round(flags.known * len(names) + 0.01)])
        yield _fitted(train, test, known, seed, flags.from_test)


def _fitted(train: Split, test: Split, known: list[str], seed: int, from_test: int) -> Trial:
    generator = np.random.default_rng(seed)
    labels, test_labels = train.labels(known), test.labels(known)
    if from_test:
        fit = np.flatnonzero(labels >= 0)
        held, rest = _cut(test_labels, generator, lambda _: from_test)
        held_labels = test_labels[held]
        rest = np.sort(np.concatenate([rest, np.flatnonzero(test_labels < 0)]))
    else:
        held, fit = _cut(labels, generator, lambda count: round(VAL_SHARE * count))
        held_labels, rest = labels[held], np.arange(len(test_labels))
    head = fit_ridge(train.embeddings[fit], labels[fit], len(known)).head

    def seen(x: Floats) -> Seen:
        return Seen(x, (x @ head.weight.T + head.bias).astype(np.float64))

    held_out = seen((test if from_test else train).embeddings[held])
    temperature = fit_temperature(held_out.logits, held_labels, SOLVED_PRIOR)
    familiar = fit_familiar(train.embeddings[fit])
    known_part = Known(train.embeddings[fit], labels[fit], familiar, temperature, SOLVED_WEIGHT)
    threshold = fit_threshold(ours(known_part, held_out))
    tested = seen(test.embeddings[rest])
    return Trial(known_part, len(held_labels), threshold, tested, test_labels[rest])


def _cut(
    labels: Labels, generator: np.random.Generator, taken: Callable[[int], int]
) -> tuple[Labels, Labels]:
    """Return rows of some pictures of each known class, and of its others."""
    order = generator.permutation(len(labels))
    some, others = [], []
    for label in range(int(labels.max()) + 1):
        mine = order[labels[order] == label]
        cut = taken(len(mine))
        some.append(mine[:cut])
        others.append(mine[cut:])
    return np.concatenate(some), np.concatenate(others)


def _trained(flags: argparse.Namespace, bundle: Bundle, place: int, data: Path) -> Trial:
    """What the state says of itself is asked, as `mobiletl predict` does."""
    path = flags.state[place]
    tensors, info = load_state(path, bundle.manifest)
    answers, known = info.answers, list(info.class_names)
    if answers is None or answers.unknown is None:
        raise UsageError(f"{path} knows nothing of the unknown; train it with validation pictures")
    dataset = open_dataset(flags.trained[place], VAL_SHARE, info.seed)
    files = [(dataset.root / p.path, dataset.class_names[p.label]) for p in dataset.train]
    with open_session(bundle, len(known), tensors, flags.threads, None) as session:
        train = _embedded_files(session, bundle, files)
        test = _tested(flags, session, bundle, data)
    unknown = answers.unknown
    familiar = Familiar(unknown.centre, unknown.directions)
    return Trial(
        Known(train.embeddings, train.labels(known), familiar, answers.temperature, unknown.weight),
        answers.pictures,
        unknown.threshold,
        Seen(test.embeddings, test.logits),
        test.labels(known),
    )


def _tested(flags: argparse.Namespace, session: Session, bundle: Bundle, data: Path) -> Split:
    most = flags.per_class if flags.tested is None else flags.tested
    return _embedded(session, bundle, _test_folder(data), most)


def _test_folder(data: Path) -> Path:
    for name in ("test", "val"):
        if (data / name).is_dir():
            return data / name
    raise UsageError(f"{data} has neither a folder test nor val")


def _embedded(session: Session, bundle: Bundle, folder: Path, most: int) -> Split:
    """Central crops of at most `most` pictures of each class."""
    files: list[tuple[Path, str]] = []
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        found = files_below(path)
        random.Random(0).shuffle(found)
        files += [(file, path.name) for file in found[:most]]
    return _embedded_files(session, bundle, files)


def _embedded_files(session: Session, bundle: Bundle, files: Sequence[tuple[Path, str]]) -> Split:
    side = bundle.manifest.input.resolution
    image = np.empty((1, 3, side, side), np.float32)
    embeddings, logits = [], []
    for file, _ in files:
        prepare(frame_of(file), bundle.manifest.input, image[0])
        found = session.embed(session.features(image))
        embeddings.append(found.embeddings[0].copy())
        logits.append(found.logits[0].astype(np.float64))
    return Split(np.stack(embeddings), np.stack(logits), [name for _, name in files])


if __name__ == "__main__":
    raise SystemExit(main())
