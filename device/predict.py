"""`mobiletl predict`: name what is in pictures, with a state that `mobiletl train` wrote."""

from __future__ import annotations

if not __package__:
    import importlib

    importlib.import_module("_script").register()

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, Sequence

import numpy as np

from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.bundle.state_file import load_state
from mobiletl.device.commands.flags import below_least, chosen_bundle
from mobiletl.device.commands.table import guarded
from mobiletl.device.errors import BadPictures, UsageError
from mobiletl.device.features.live import LiveFeatures, Preparation
from mobiletl.device.pictures.dataset import Skipped, files_below
from mobiletl.device.printable import aligned, printable
from mobiletl.device.run.evaluation import log_softmax
from mobiletl.device.sessions.runtimes import open_session
from mobiletl.device.sessions.session import Session

EXAMPLES = """\
to paste:
  mobiletl predict --bundle artifacts/mbv2 --state runs/first/state.safetensors picture.jpg
  python artifacts/mbv2/device/predict.py --state runs/first/state.safetensors --json folder/
  mobiletl predict --bundle artifacts/mbv2 --state runs/first/state.safetensors --top 3 folder/
"""


@dataclass(frozen=True)
class Prediction:
    """The likeliest labels of one file, best first, with their probabilities."""

    path: Path
    labels: tuple[str, ...]
    probabilities: tuple[float, ...]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return guarded(lambda: _predict(_parser().parse_args(argv)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mobiletl predict",
        description="Name what is in pictures.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("pictures", nargs="+", metavar="PICTURE", help="picture files, or folders of them")
    add("--bundle", metavar="DIR", help="default: the folder above this script, if it is one")
    add("--state", metavar="FILE", required=True, help="state.safetensors of a run")
    add("--top", type=int, default=1, help="labels per picture (default: 1)")
    add("--threads", type=int, default=0, help="default: 0, all cores")
    add("--runtime", help="default: the first that the bundle serves and is installed")
    add("--json", action="store_true", help="print one JSON object")
    return parser


def _predict(flags: argparse.Namespace) -> int:
    problems = below_least(flags, {"top": 1, "threads": 0})
    if problems:
        raise UsageError("; ".join(problems))
    bundle = open_bundle(chosen_bundle(flags.bundle))
    tensors, info = load_state(flags.state, bundle.manifest)
    names = info.class_names
    paths, skipped = _find([Path(name) for name in flags.pictures])
    with open_session(bundle, len(names), tensors, flags.threads, flags.runtime) as session:
        del tensors
        predictions = list(predict(session, bundle.manifest, names, paths, flags.top, skipped))
    if not predictions:
        listed = "; ".join(f"{printable(s.path)}: {printable(s.reason)}" for s in skipped[:3])
        raise BadPictures(f"none of the pictures could be read ({listed or 'no file found'})")
    if flags.json:
        print(json.dumps(_document(predictions, skipped)))
    else:
        _print(predictions, skipped)
    return 0


def predict(
    session: Session,
    manifest: Manifest,
    names: Sequence[str],
    paths: Sequence[Path],
    top: int,
    skipped: list[Skipped],
) -> Iterator[Prediction]:
    """Yield a prediction for each readable file, one picture in memory at a time.

    Files that cannot be read are added to `skipped`.
    """
    h = np.empty((1, *manifest.feature.shape), np.float32)
    source = LiveFeatures(
        session,
        paths.__getitem__,
        Preparation(manifest.input),
        lambda row, reason: skipped.append(Skipped(str(paths[row]), reason)),
    )
    for row, path in enumerate(paths):
        if source.fill([row], 0, h):
            shares = np.exp(log_softmax(session.predict(h))[0])
            # Stable, so that equal shares come in the order of the classes.
            order = np.argsort(-shares, kind="stable")[:top]
            yield Prediction(
                path,
                tuple(names[label] for label in order),
                tuple(float(shares[label]) for label in order),
            )


def _find(named: Sequence[Path]) -> tuple[list[Path], list[Skipped]]:
    """Return the files meant by files and folders, and what was named but is not there."""
    paths: list[Path] = []
    missing: list[Skipped] = []
    for path in named:
        if path.is_dir():
            paths += files_below(path)
        elif path.is_file():
            paths.append(path)
        else:
            missing.append(Skipped(str(path), "no such file"))
    return paths, missing


def _print(predictions: Sequence[Prediction], skipped: Sequence[Skipped]) -> None:
    rows = []
    for found in predictions:
        for place, (label, share) in enumerate(zip(found.labels, found.probabilities)):
            file = printable(str(found.path)) if place == 0 else ""
            rows.append((file, printable(label), f"{share:.1%}"))
    for line in aligned(rows, right=[2]):
        print(printable(line, sys.stdout.encoding))
    for entry in skipped:
        line = f"mobiletl: skipped {entry.path}: {entry.reason}"
        print(printable(line, sys.stderr.encoding), file=sys.stderr)


def _document(predictions: Sequence[Prediction], skipped: Sequence[Skipped]) -> dict[str, Any]:
    return {
        "predictions": [
            {
                "path": str(found.path),
                "labels": [
                    {"label": label, "probability": share}
                    for label, share in zip(found.labels, found.probabilities)
                ],
            }
            for found in predictions
        ],
        "skipped": [{"path": entry.path, "reason": entry.reason} for entry in skipped],
    }


if __name__ == "__main__":
    raise SystemExit(main())
