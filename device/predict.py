"""`mobiletl predict`: name what is in pictures, with a state that `mobiletl train` wrote."""

from __future__ import annotations

if not __package__:
    import importlib

    importlib.import_module("_script").register()

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Sequence

from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.decode import UnreadablePicture
from mobiletl.device.bundle.signature import require_state_signature
from mobiletl.device.commands import live
from mobiletl.device.commands.camera_flags import add_camera, camera_problems
from mobiletl.device.commands.flags import add_trust, below_least, chosen_bundle
from mobiletl.device.commands.parser import Parser, add_state_key
from mobiletl.device.commands.table import guarded
from mobiletl.device.errors import BadPictures, UsageError
from mobiletl.device.pictures.dataset import Skipped, files_below
from mobiletl.device.prediction.predictor import Prediction, Predictor, open_predictor
from mobiletl.device.printable import aligned, printable, say

EXAMPLES = """\
to paste:
  mobiletl predict --bundle artifacts/mbv2 --state runs/first/state.safetensors picture.jpg
  python artifacts/mbv2/device/predict.py --state runs/first/state.safetensors --json folder/
  mobiletl predict --bundle artifacts/mbv2 --state runs/first/state.safetensors --top 3 folder/
  mobiletl predict --bundle artifacts/mbv2 --state runs/first/state.safetensors --camera 0
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return guarded(lambda: _predict(_parser().parse_args(argv)), argv)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="mobiletl predict",
        description="Name what is in pictures, or in what a camera sees now.",
        epilog=EXAMPLES,
    )
    add = parser.add_argument
    add("pictures", nargs="*", metavar="PICTURE", help="picture files, or folders of them")
    add("--bundle", metavar="DIR", help="default: the folder above this script, if it is one")
    add("--state", metavar="FILE", required=True, help="state.safetensors of a run")
    add("--top", type=int, help="labels per picture (default: 1)")
    add("--threads", type=int, default=0, help="default: 0, all cores")
    add("--runtime", help="default: the first that the bundle serves and is installed")
    add_trust(parser)
    add_state_key(parser)
    add(
        "--no-unknown",
        dest="unknown",
        action="store_false",
        help="take every picture to be of one of the classes",
    )
    add("--json", action="store_true", help="print one JSON object, with --camera one a line")
    add_camera(parser)
    live.add_live(parser)
    return parser


def _predict(flags: argparse.Namespace) -> int:
    problems = below_least(flags, {"top": 1, "threads": 0}) + camera_problems(flags)
    problems += live.problems(flags)
    if bool(flags.pictures) == (flags.camera is not None):
        problems.append("give pictures or folders of them, or --camera, one of the two")
    if flags.camera is not None and flags.top is not None:
        problems.append("--top is for pictures; with --camera --json has every class")
    if problems:
        raise UsageError("; ".join(problems))
    if flags.camera is not None:
        return live.predict_live(flags)
    bundle = open_bundle(chosen_bundle(flags.bundle), flags.trust_bundle, flags.require_signature)
    require_state_signature(Path(flags.state), flags.state_key)
    paths, skipped = _find([Path(name) for name in flags.pictures])
    with open_predictor(
        bundle, flags.state, flags.threads, flags.runtime, flags.unknown
    ) as predictor:
        predictions = _predict_each(predictor, paths, skipped)
    if not predictions:
        listed = "; ".join(f"{printable(s.path)}: {printable(s.reason)}" for s in skipped[:3])
        raise BadPictures(f"none of the pictures could be read ({listed or 'no file found'})")
    if flags.json:
        print(json.dumps(_document(predictions, skipped, flags.top or 1)))
    else:
        _print(predictions, skipped, flags.top or 1)
    return 0


def _predict_each(
    predictor: Predictor, paths: Sequence[Path], skipped: list[Skipped]
) -> list[Prediction]:
    """Predict the readable files; the others are added to `skipped`."""
    predictions = []
    for path in paths:
        try:
            predictions.append(predictor.predict(path))
        except UnreadablePicture as error:
            skipped.append(Skipped(str(path), error.reason))
    return predictions


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


def _print(predictions: Sequence[Prediction], skipped: Sequence[Skipped], top: int) -> None:
    rows = []
    for found in predictions:
        for place, (label, share) in enumerate(_best(found, top)):
            file = printable(found.name) if place == 0 else ""
            like = "unknown, most like " if found.unknown and place == 0 else ""
            rows.append((file, like + printable(label), f"{share:.1%}"))
    for line in aligned(rows, right=[2]):
        say(line)
    for entry in skipped:
        say(f"mobiletl: skipped {printable(entry.path)}: {printable(entry.reason)}", sys.stderr)


def _best(found: Prediction, top: int) -> list[tuple[str, float]]:
    return list(zip(found.labels, found.probabilities))[:top]


def _document(
    predictions: Sequence[Prediction], skipped: Sequence[Skipped], top: int
) -> dict[str, Any]:
    return {
        "predictions": [
            {
                "path": found.name,
                "unknown": found.unknown,
                "score": found.score,
                "threshold": found.threshold,
                "labels": [
                    {"label": label, "probability": share} for label, share in _best(found, top)
                ],
            }
            for found in predictions
        ],
        "skipped": [{"path": entry.path, "reason": entry.reason} for entry in skipped],
    }


if __name__ == "__main__":
    raise SystemExit(main())
