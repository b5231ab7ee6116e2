"""One cell: the closed form, the trained network and scikit-learn's probe, all scored on the test
part. Letters: P pictures, D numbers in an embedding, K classes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from bench.defaults.cells import Cell, PictureSet, pictures_in
from mobiletl.device.bundle.bundle import Bundle
from mobiletl.device.bundle.frame import frame_of
from mobiletl.device.bundle.prepare import prepare
from mobiletl.device.bundle.state_file import load_state
from mobiletl.device.heads.softmax import log_softmax
from mobiletl.device.sessions.runtimes import open_session

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
DIVERGED = 7
TRAIN = "train_on_board.py"


@dataclass(frozen=True)
class Bench:
    """Where a cell is run: `limit` pictures of a class are all, `threads` for each process."""

    bundle: Bundle
    folder: Path
    limit: int
    threads: int


def run(bench: Bench, pictures: PictureSet, cell: Cell) -> dict[str, Any]:
    """Run a cell; accuracies are shares of the test pictures, `nll` their mean cross-entropy."""
    names = pictures.class_names
    with _claimed(bench.folder / f"{bench.bundle.path.name}-{cell.set}") as folder:
        data = pictures.link(folder / "pictures", cell.per_class, cell.seed, bench.limit)
        test = _kept(bench, folder / "test.npz", pictures.test, names)
        train = Maps.of(bench, data, names)
        probe = _probe(bench, train, test)
        taught = _call(bench, "teach.py", folder, cell)
        trained = _call(bench, TRAIN, folder, cell)
        return _figures(bench, (train, test), probe, (taught, trained))


def _figures(
    bench: Bench,
    maps: tuple[Maps, Maps],
    probe: float,
    reports: tuple[dict[str, Any], dict[str, Any]],
) -> dict[str, Any]:
    (train, test), (taught, trained) = maps, reports
    return {
        "pictures": len(train.labels),
        "probe": probe,
        "closed_form": _scored(bench, taught, test),
        "trained": _scored(bench, trained, test),
        "best_epoch": trained.get("best", {}).get("epoch"),
        "kept": trained.get("kept"),
        "epochs": trained.get("settings", {}).get("epochs"),
        "rate_cuts": trained.get("rate_cuts"),
        "seconds": {"teach": taught.get("seconds"), "train": trained.get("seconds")},
        "peak_bytes": trained.get("memory", {}).get("measured_peak_bytes"),
    }


@dataclass(frozen=True)
class Maps:
    """Feature maps f32[P,C,h,w] of the central crops of a folder, and their labels."""

    h: Floats
    labels: Labels

    @classmethod
    def of(cls, bench: Bench, folder: Path, names: list[str]) -> Maps:
        """Compute them with the frozen layers of the bundle."""
        manifest = bench.bundle.manifest
        files = [(path, k) for k, name in enumerate(names) for path in pictures_in(folder / name)]
        side = manifest.input.resolution
        image = np.empty((1, 3, side, side), np.float32)
        h = np.empty((len(files), *manifest.feature.shape), np.float32)
        state = bench.bundle.initial_state(2, 0)
        with open_session(bench.bundle, 2, state, bench.threads) as session:
            for row, (path, _) in enumerate(files):
                prepare(frame_of(path), manifest.input, image[0])
                h[row] = session.features(image)[0]
        return cls(h, np.array([label for _, label in files], np.int64))


@contextlib.contextmanager
def _claimed(folder: Path) -> Iterator[Path]:
    """A folder of this name and a number that no other process works in.

    What it has is used again: the feature maps of a set are the same in every cell of a depth.
    """
    for number in count():
        one = folder.with_name(f"{folder.name}-{number}")
        one.mkdir(parents=True, exist_ok=True)
        with (one / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield one
            return


def _kept(bench: Bench, file: Path, pictures: Path, names: list[str]) -> Maps:
    """The maps of the test part, which no cell changes."""
    if not file.exists():
        found = Maps.of(bench, pictures, names)
        np.savez(file, h=found.h, labels=found.labels)
    with np.load(file) as kept:
        return Maps(kept["h"], kept["labels"])


def _call(bench: Bench, script: str, folder: Path, cell: Cell) -> dict[str, Any]:
    """Run a script of the bundle with its defaults; an empty report where it diverged."""
    out, data = folder / script, folder / "pictures"
    shutil.rmtree(out, ignore_errors=True)
    words = [
        *(sys.executable, str(bench.bundle.path / "device" / script), "--json"),
        *("--data", str(data), "--out", str(out), "--seed", str(cell.seed)),
        *("--threads", str(bench.threads), "--replay-mb", "0", "--cache", str(folder)),
        *(shlex.split(cell.train) if script == TRAIN else ()),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode == DIVERGED:
        return {}
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} exits {done.returncode}: {done.stderr[-500:]}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _scored(bench: Bench, report: dict[str, Any], test: Maps) -> dict[str, float]:
    if not report:
        return {"accuracy": 0.0, "nll": float("inf")}
    state, info = load_state(report["state"], bench.bundle.manifest)
    logits = _embedded(bench, test, state, len(info.class_names))[0]
    right = logits.argmax(axis=1) == test.labels
    losses = -log_softmax(logits)[np.arange(len(logits)), test.labels]
    return {"accuracy": float(right.mean()), "nll": float(losses.mean())}


def _embedded(
    bench: Bench, maps: Maps, state: dict[str, Floats], classes: int
) -> tuple[Floats, Floats]:
    """Logits [P,K] and embeddings [P,D]."""
    with open_session(bench.bundle, classes, state, bench.threads) as session:
        found = [session.embed(maps.h[row : row + 8]) for row in range(0, len(maps.h), 8)]
        logits = np.concatenate([one.logits for one in found])
        return logits, np.concatenate([one.embeddings for one in found])


def _probe(bench: Bench, train: Maps, test: Maps) -> float:
    """Logistic regression, as scikit-learn has it by default, on the pretrained embeddings."""
    state = bench.bundle.initial_state(2, 0)
    x, x_test = (_embedded(bench, maps, state, 2)[1] for maps in (train, test))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        probe = LogisticRegression(max_iter=1000).fit(x, train.labels)
    return float((probe.predict(x_test) == test.labels).mean())
