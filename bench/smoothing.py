"""How long live answers should be averaged and held: a camera's view is made of real pictures.

    python -m bench.smoothing --bundle artifacts/mbv2 --state runs/first/state.safetensors \\
        --data trashnet6/test

Scenes of a few seconds follow one another, each of one class. The camera moves over a picture of
it (crop and zoom drift, light and noise vary), goes on to another picture of the class now and
then, and is disturbed at times: motion blur, or something that is held before the lens. Between
scenes the picture is blended over. The network answers every frame once; then the smoothing of
device/prediction/smoothing.py runs over the answers with each pair of constants.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from mobiletl.device.bundle.arrays import Pixels
from mobiletl.device.bundle.frame import Frame
from mobiletl.device.bundle.prepare import prepare
from mobiletl.device.commands.table import guarded
from mobiletl.device.heads.softmax import Doubles
from mobiletl.device.pictures.dataset import files_below
from mobiletl.device.prediction.predictor import Predictor, open_predictor
from mobiletl.device.prediction.smoothing import HOLD_S, TIME_CONSTANT_S, Smoother

WIDTH, HEIGHT = 320, 240
# Frames a second of the camera; a slower one sees one frame in so many.
RATE, STRIDES = 10, (1, 3)
SCENE_S, PICTURE_S, BLEND_S = (3.0, 7.0), 2.0, 0.3
# How often something disturbs the view, and for how long.
DISTURBED_EVERY_S, DISTURBED_S = 3.0, (0.1, 0.4)
TIME_CONSTANTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5)
HOLDS = (0.0, 0.2, 0.3, 0.5, 1.0)


@dataclass(frozen=True)
class Seen:
    """One frame of the view: which class is shown, and what the network says."""

    time_s: float
    truth: int
    probabilities: Doubles
    unknown: bool


@dataclass(frozen=True)
class Score:
    """How a pair of constants does."""

    changes: float
    """Announced changes by true ones; 1 is best."""
    right: float
    """Share of frames after which the right class is announced."""
    delay_s: float
    """Median time from a new scene to its class, of the scenes whose class is found."""
    found: float
    """Share of scenes whose class is announced at all."""


def main(argv: list[str] | None = None) -> int:
    """Print a table."""
    return guarded(lambda: _measure(_parser().parse_args(argv)))


def _measure(flags: argparse.Namespace) -> int:
    if not (flags.keep and flags.keep.exists()):
        with open_predictor(flags.bundle, flags.state, flags.threads) as predictor:
            seen = _watch(predictor, flags)
        if flags.keep:
            _save(flags.keep, seen)
    if flags.keep:
        seen = _load(flags.keep)
    classes = len(seen[0].probabilities)
    alone = float(np.mean([one.probabilities.argmax() == one.truth for one in seen]))
    strange = float(np.mean([one.unknown for one in seen]))
    print(
        f"{len(seen)} frames, {flags.scenes} scenes; frames by themselves {alone:.1%} right, "
        f"{strange:.1%} unknown"
    )
    for stride in STRIDES:
        print(f"{flags.rate / stride:.1f} frames/s")
        print(" average s   hold s   changes / true   right    delay s   scenes found")
        for constant in TIME_CONSTANTS:
            for hold in HOLDS:
                found = score(seen[::stride], classes, constant, hold)
                mark = "  <- default" if (constant, hold) == (TIME_CONSTANT_S, HOLD_S) else ""
                print(
                    f"{constant:10.1f}{hold:9.1f}{found.changes:17.2f}{found.right:8.1%}"
                    f"{found.delay_s:11.2f}{found.found:15.1%}{mark}"
                )
    return 0


def score(seen: list[Seen], classes: int, constant: float, hold: float) -> Score:
    """Run the smoothing over frames that were answered."""
    smoother = Smoother(classes, constant, hold)
    announced = [smoother.see(one.probabilities, one.unknown, one.time_s) for one in seen]
    starts = [0] + [
        place for place in range(1, len(seen)) if seen[place].truth != seen[place - 1].truth
    ]
    delays = []
    for start, stop in pairwise([*starts, len(seen)]):
        places = (p for p in range(start, stop) if announced[p].outcome == seen[start].truth)
        first = next(places, None)
        if first is not None:
            delays.append(seen[first].time_s - seen[start].time_s)
    changes = sum(one.changed for one in announced) - 1
    right = float(np.mean([a.outcome == s.truth for a, s in zip(announced, seen, strict=True)]))
    return Score(
        changes / (len(starts) - 1), right, statistics.median(delays), len(delays) / len(starts)
    )


def _watch(predictor: Predictor, flags: argparse.Namespace) -> list[Seen]:
    draw, rate, names = np.random.default_rng(flags.seed), flags.rate, predictor.class_names
    files = [files_below(flags.data / name) for name in names]
    image = np.empty((1, 3, predictor.input.resolution, predictor.input.resolution), np.float32)
    seen: list[Seen] = []
    former: Image.Image | None = None
    truth, disturbed = -1, 0.0
    for _ in range(flags.scenes):
        truth = int(draw.choice([k for k in range(len(names)) if k != truth]))
        count = round(draw.uniform(*SCENE_S) * rate)
        path = _Path(draw, rate)
        for place in range(count):
            if place % round(PICTURE_S * rate) == 0:
                chosen = files[truth][draw.integers(len(files[truth]))]
                picture = Frame(str(chosen), chosen).decode(HEIGHT).convert("RGB")
            frame = path.view(picture)
            blend = (place + 1) / (BLEND_S * rate)
            if former is not None and blend < 1:
                frame = Image.blend(former, frame, blend)
            if disturbed <= 0 and draw.random() < 1 / (DISTURBED_EVERY_S * rate):
                disturbed = draw.uniform(*DISTURBED_S)
                kind = draw.integers(2)
            if disturbed > 0:
                disturbed -= 1 / rate
                frame = _disturb(frame, int(kind), draw)
            pixels = _noisy(frame, draw)
            prepare(Frame("view", pixels), predictor.input, image[0])
            verdict = predictor.look(image)
            seen.append(Seen(len(seen) / rate, truth, verdict.probabilities, verdict.unknown))
        former = path.view(picture)
    return seen


def _save(file: Path, seen: list[Seen]) -> None:
    rows = [(one.time_s, one.truth, one.unknown, *one.probabilities) for one in seen]
    np.savetxt(file, np.array(rows, np.float64))


def _load(file: Path) -> list[Seen]:
    rows = np.loadtxt(file)
    return [Seen(row[0], int(row[1]), row[3:], bool(row[2])) for row in rows]


class _Path:
    """How the camera moves over a picture: a walk of centre and zoom, as shares of the picture."""

    def __init__(self, draw: np.random.Generator, rate: float) -> None:
        # A walk goes as far in a second at any rate.
        self._draw, self._step = draw, 0.02 * math.sqrt(RATE / rate)
        self._place = np.array([0.5, 0.5, 0.85])

    def view(self, picture: Image.Image) -> Image.Image:
        self._place += self._draw.normal(0, self._step, 3)
        self._place = np.clip(self._place, [0.4, 0.4, 0.6], [0.6, 0.6, 1.0])
        x, y, zoom = self._place
        wide, high = picture.width * zoom, picture.height * zoom
        left = float(np.clip(x * picture.width - wide / 2, 0, picture.width - wide))
        top = float(np.clip(y * picture.height - high / 2, 0, picture.height - high))
        return picture.resize(
            (WIDTH, HEIGHT), Image.Resampling.BILINEAR, (left, top, left + wide, top + high)
        )


def _disturb(frame: Image.Image, kind: int, draw: np.random.Generator) -> Image.Image:
    if kind == 0:
        return frame.filter(ImageFilter.BoxBlur(12))
    covered = frame.copy()
    shade = tuple(int(v) for v in draw.integers(60, 200, 3))
    covered.paste(shade, (int(draw.integers(0, WIDTH // 3)), 0, WIDTH, HEIGHT))
    return covered


def _noisy(frame: Image.Image, draw: np.random.Generator) -> Pixels:
    pixels = np.asarray(frame, np.float32) * draw.uniform(0.85, 1.15)
    pixels += draw.normal(0, 8, pixels.shape)
    noisy: Pixels = np.clip(pixels, 0, 255).astype(np.uint8)
    return noisy


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.smoothing", description=__doc__)
    add = parser.add_argument
    add("--bundle", type=Path, required=True)
    add("--state", type=Path, required=True)
    add("--data", type=Path, required=True, help="a folder for each class of the state")
    add("--scenes", type=int, default=60)
    add("--rate", type=float, default=RATE, help="frames a second (default: 10)")
    add("--seed", type=int, default=0)
    add("--keep", type=Path, help="keep the frames' answers in this file, or read them from it")
    add("--threads", type=int, default=2)
    return parser


if __name__ == "__main__":
    sys.exit(main())
