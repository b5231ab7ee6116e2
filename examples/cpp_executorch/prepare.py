"""Writes what train_on_folder reads: the initial state and the pictures as raw float32 files.

    python prepare.py --bundle BUNDLE --data PHOTOS --out FOLDER [--seed 0]

Needs the base install of mobiletl, not PyTorch. PHOTOS holds one folder of pictures per class, as
many as the program was exported for.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.bundle.decode import decode
from mobiletl.device.bundle.prepare import evaluated, evaluation_short_side
from mobiletl.device.errors import MobileTLError, UsageError
from mobiletl.device.pictures.dataset import open_dataset

RUNTIME = "executorch"


def write_state(bundle: Bundle, classes: int, seed: int, folder: Path) -> None:
    """One file per entry, in the manifest's order."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, value in enumerate(bundle.initial_state(classes, seed).values()):
        np.ascontiguousarray(value, np.float32).tofile(folder / f"{index:03d}.f32")


def write_pictures(bundle: Bundle, data: Path, classes: int, folder: Path) -> int:
    """One file per picture, cropped and normalised as at evaluation; returns how many."""
    dataset = open_dataset(data, val_split=0.0, seed=0)
    if len(dataset.class_names) != classes:
        raise UsageError(
            f"{data} has {len(dataset.class_names)} classes, the program takes {classes}; "
            f"export it with --classes {len(dataset.class_names)}"
        )
    size = bundle.manifest.input
    values = np.empty((3, size.resolution, size.resolution), np.float32)
    pictures = (*dataset.train, *dataset.val)
    for index, picture in enumerate(pictures):
        image = decode(data / picture.path, evaluation_short_side(size))
        evaluated(image, size, values)
        target = folder / f"{picture.label:03d}" / f"{index:06d}.f32"
        target.parent.mkdir(parents=True, exist_ok=True)
        values.tofile(target)
    return len(pictures)


def main() -> int:
    """Returns the process's exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    try:
        bundle = open_bundle(flags.bundle)
        runtime = bundle.manifest.runtimes.get(RUNTIME)
        if runtime is None or runtime.classes is None:
            raise UsageError(
                f"{flags.bundle} has no program for {RUNTIME}; export it with --runtimes {RUNTIME}"
            )
        write_state(bundle, runtime.classes, flags.seed, flags.out / "state")
        count = write_pictures(bundle, flags.data, runtime.classes, flags.out / "pictures")
    except MobileTLError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    program = flags.bundle / runtime.files["program"]
    sys.stdout.write(
        f"wrote the state and {count} pictures\n"
        f"train_on_folder {program} {flags.out / 'state'} {flags.out / 'pictures'}\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
