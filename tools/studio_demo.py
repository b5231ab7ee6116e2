"""The studio without a camera of one's own: real pictures are played as one.

    python tools/studio_demo.py [--port 8757] [--anew] [words for `mobiletl studio` ...]

Exports the small backbone that the package ships, writes three scenes of scikit-learn's pictures
as a folder of camera frames, and starts the studio on them. Needs no network. Writes
`artifacts/demo` and `artifacts/studio-demo`, and goes on with what an earlier call left there.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits, load_sample_image

REPOSITORY = Path(__file__).resolve().parent.parent
# As typed from the repository: every command runs there.
BUNDLE = Path("artifacts/demo")
FOLDER = Path("artifacts/studio-demo")

FRAME = (320, 240)
RATE = 10
SCENE_SECONDS = 8
DIGIT_FRAMES = 4  # so long one digit is held up
PAPER, INK = 235, 40  # grey values, 0 to 255
BRIGHTEST = 16  # load_digits counts ink from 0 to 16
QUALITY = 88


@dataclass(frozen=True)
class Scene:
    """What the camera looks at for a while, and what a person would call it."""

    name: str
    photograph: str | None
    """A sample picture of scikit-learn's; None for handwritten digits."""

    def frames(self, count: int) -> Iterator[Image.Image]:
        """Yield `count` different frames of `FRAME` pixels, as of a hand-held camera."""
        if self.photograph is None:
            return _digits(count)
        return _walk(Image.fromarray(load_sample_image(self.photograph)), count)


SCENES = (
    Scene("temple", "china.jpg"),
    Scene("flower", "flower.jpg"),
    Scene("digit", None),
)


def write_camera(folder: Path, seconds: float = SCENE_SECONDS, rate: int = RATE) -> None:
    """Write the frames of all scenes, one scene after the other, in the order of their names."""
    folder.mkdir(parents=True, exist_ok=True)
    count = round(seconds * rate)
    for at, scene in enumerate(SCENES):
        for number, frame in enumerate(scene.frames(count)):
            frame.save(folder / f"{at}-{scene.name}-{number:04d}.jpg", quality=QUALITY)


def _walk(photograph: Image.Image, count: int) -> Iterator[Image.Image]:
    """Move a window over a photograph, nearer and farther away, on a curve that does not repeat."""
    width, height = photograph.size
    for turn in np.linspace(0, 2 * np.pi, count, endpoint=False):
        wide = width * (0.62 + 0.12 * np.sin(3 * turn + 0.5))
        high = wide * FRAME[1] / FRAME[0]
        left = (width - wide) * (0.5 + 0.45 * np.sin(turn))
        top = (height - high) * (0.5 + 0.45 * np.sin(2 * turn + 1))
        box = (float(left), float(top), float(left + wide), float(top + high))
        yield photograph.resize(FRAME, Image.Resampling.BICUBIC, box)


def _digits(count: int) -> Iterator[Image.Image]:
    """Hold up one handwritten digit after the other, as ink on paper, a little moved each time."""
    pictures = load_digits(return_X_y=True)[0].reshape(-1, 8, 8)
    for number in range(count):
        ink = Image.fromarray(
            (pictures[number // DIGIT_FRAMES] * (255 / BRIGHTEST)).astype(np.uint8)
        )
        turn = 2 * np.pi * number / count
        side = round(FRAME[1] * (0.75 + 0.15 * np.sin(5 * turn)))
        left = round((FRAME[0] - side) * (0.5 + 0.4 * np.sin(7 * turn)))
        top = round((FRAME[1] - side) * (0.5 + 0.4 * np.sin(4 * turn + 1)))
        # Enlarged, eight pixels are a blur; where it is darker than half there was ink.
        grown = ink.resize((side, side), Image.Resampling.BICUBIC).point(_as_ink)
        frame = Image.new("L", FRAME, PAPER)
        frame.paste(INK, (left, top), grown)
        yield frame.convert("RGB")


def _as_ink(value: int) -> int:
    """Sharpen the edge of a stroke to a few pixels."""
    return min(255, max(0, (value - 128) * 24 + 128))


def typed(path: Path) -> Path:
    """`path` as a person would type it: relative, where it lies in the repository."""
    return path.relative_to(REPOSITORY) if path.is_relative_to(REPOSITORY) else path


def main(argv: list[str] | None = None) -> NoReturn:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", default="8757", help="default: 8757")
    parser.add_argument("--anew", action="store_true", help="forget what an earlier demo learned")
    flags, words = parser.parse_known_args(argv)
    os.chdir(REPOSITORY)
    mobiletl = typed(Path(sys.executable)).with_name("mobiletl")
    if flags.anew:
        shutil.rmtree(FOLDER, ignore_errors=True)
    if not (BUNDLE / "manifest.json").is_file():
        export = [str(mobiletl), "export", "--weights", "demo", "--blocks", "3", "--force"]
        export += ["--out", str(BUNDLE)]
        print(f"$ {shlex.join(export)}", flush=True)
        subprocess.run(export, check=True)
    if not (FOLDER / "camera").is_dir():
        write_camera(FOLDER / "camera")
    scenes = ", ".join(f"a {scene.name}" for scene in SCENES)
    print(
        f"\nThe camera shows {scenes}, {SCENE_SECONDS} seconds each, again and again. Name three "
        "classes in the page, and\nhold the button of each while its scene is on.\n"
    )
    studio = [str(mobiletl), "studio", "--bundle", str(BUNDLE), "--project"]
    studio += [
        str(FOLDER / "project"),
        "--camera",
        str(FOLDER / "camera"),
        "--camera-rate",
        str(RATE),
    ]
    studio += ["--port", flags.port, *words]
    print(f"$ {shlex.join(studio)}", flush=True)
    # In place of this process: Ctrl-C then reaches the studio alone.
    os.execv(studio[0], studio)


if __name__ == "__main__":
    main()
