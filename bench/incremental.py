"""Classes that come a few at a time, their pictures deleted after each run, against all at once.

    python -m bench.incremental --data cifar10 --weights mobilenet_v2.safetensors --resolution 64

Every run is the board's runner with its defaults, in a process of its own. The figure is the
accuracy on the test pictures of all classes after the last run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.defaults.cells import PictureSet, find_set, pictures_in
from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.commands.table import guarded
from mobiletl.device.prediction.predictor import open_predictor
from mobiletl.export.parts import Request
from mobiletl.export.writing.export_bundle import export_bundle


@dataclass(frozen=True)
class Bench:
    """What all runs share."""

    bundle: Bundle
    pictures: PictureSet
    out: Path
    threads: int

    def train(self, name: str, classes: list[str], *flags: str) -> Path:
        """Train on the pictures of these classes alone; returns the folder of the run."""
        data, run = self.out / "pictures", self.out / name
        shutil.rmtree(data, ignore_errors=True)
        shutil.rmtree(run, ignore_errors=True)
        for class_name in classes:
            (data / class_name).mkdir(parents=True)
            for file in pictures_in(self.pictures.train / class_name):
                (data / class_name / file.name).symlink_to(file.resolve())
        words = [
            *(sys.executable, str(self.bundle.path / "device" / "train_on_board.py"), "--json"),
            *("--data", str(data), "--out", str(run), "--threads", str(self.threads)),
            *flags,
        ]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
        report: dict[str, Any] = json.loads(done.stdout)
        print(f"{name}: {report['seconds']:.0f} s, {report['notes']}", flush=True)
        return run

    def accuracy(self, run: Path) -> tuple[float, list[float]]:
        """Share of test pictures of all classes that are named rightly, and of each class."""
        shares = []
        with open_predictor(self.bundle, run / "state.safetensors", self.threads) as predictor:
            for name in self.pictures.class_names:
                files = pictures_in(self.pictures.test / name)
                shares.append(float(np.mean([predictor.predict(f).label == name for f in files])))
        return float(np.mean(shares)), shares


def main(argv: list[str] | None = None) -> int:
    """Run all three ways and print a line for each."""
    return guarded(lambda: _compare(_parser().parse_args(argv)))


def _compare(flags: argparse.Namespace) -> int:
    flags.out.mkdir(parents=True, exist_ok=True)
    folder = flags.out / "bundle"
    if not folder.exists():
        request = Request(
            "mbv2", flags.weights, "mobiletl", flags.blocks, flags.resolution, "adam", folder
        )
        export_bundle(request)
    bench = Bench(open_bundle(folder), find_set(flags.data), flags.out, flags.threads)
    names = bench.pictures.class_names
    groups = [names[start : start + flags.step] for start in range(0, len(names), flags.step)]
    for title, limit in (("replay", flags.replay_mb), ("one map per class", flags.least_mb)):
        former: list[str] = []
        for number, group in enumerate(groups):
            run = bench.train(f"{title}-{number}", group, *former, "--replay-mb", str(limit))
            former = ["--from", str(run)]
        kept = sum(file.stat().st_size for file in run.glob("replay-*.store"))
        _tell(f"{title}, {kept / 1e6:.2f} MB kept", bench, run)
    _tell("all classes at once", bench, bench.train("joint", names))
    return 0


def _tell(title: str, bench: Bench, run: Path) -> None:
    accuracy, shares = bench.accuracy(run)
    listed = " ".join(f"{100 * share:.0f}" for share in shares)
    print(f"{title}: {accuracy:.1%} (by class, in the order they came: {listed})", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.incremental",
        description="Classes that come a few at a time, against all at once.",
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with train/ and test/ of class folders")
    add("--weights", default="imagenet", help="as for mobiletl export")
    add("--resolution", type=int, default=96)
    add("--blocks", type=int, default=3)
    add("--step", type=int, default=2, help="classes that come at a time (default: 2)")
    add("--replay-mb", type=float, default=2.0)
    add("--least-mb", type=float, default=0.03, help="so little that a class keeps a map or two")
    add("--threads", type=int, default=2)
    add("--out", type=Path, default=Path("artifacts/incremental"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
