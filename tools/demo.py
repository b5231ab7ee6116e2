"""From nothing to a picture recognised, with the commands a person would type.

    python tools/demo.py

Exports the small backbone that the package ships, writes scikit-learn's handwritten digits out as
a folder of pictures, trains on them and names one that was held out. Needs no network. Writes
`artifacts/demo`, `artifacts/digits` and `artifacts/demo-run`, and replaces what an earlier demo
left there. Fails if fewer than 95 of 100 held-out digits are recognised in the end.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

REPOSITORY = Path(__file__).resolve().parent.parent
# As typed from the repository: every command runs there.
BUNDLE = Path("artifacts/demo")
PICTURES = Path("artifacts/digits")
RUN = Path("artifacts/demo-run")

PROMISED_ACCURACY = 0.95
HELD_OUT_SHARE = 0.2
SPLIT_SEED = 0
BRIGHTEST = 16  # load_digits counts ink from 0 to 16


def write_digits(folder: Path) -> dict[str, int]:
    """Write 1797 grey 8 x 8 pictures as `{train,val}/<digit>/NNNN.png`; pictures per split.

    Every digit gives the same share to `val`, drawn with a fixed seed.
    """
    pictures, labels = load_digits(return_X_y=True)
    pixels = np.round(pictures.reshape(-1, 8, 8) * (255 / BRIGHTEST)).astype(np.uint8)
    random = np.random.default_rng(SPLIT_SEED)
    written = {"train": 0, "val": 0}
    for digit in range(10):
        chosen = random.permutation(np.flatnonzero(labels == digit))
        held_out = round(len(chosen) * HELD_OUT_SHARE)
        for split, indices in (("val", chosen[:held_out]), ("train", chosen[held_out:])):
            target = folder / split / str(digit)
            target.mkdir(parents=True)
            for index in indices:
                Image.fromarray(pixels[index]).save(target / f"{index:04d}.png")
            written[split] += len(indices)
    return written


def run(*command: str | Path) -> None:
    """Print a command as it would be typed, run it, and stop the demo with its code if it fails."""
    words = [str(word) for word in command]
    print(f"\n$ {shlex.join(words)}", flush=True)
    code = subprocess.run(words, check=False).returncode
    if code:
        sys.exit(f"demo: the command above ended with {code} (docs/exit-codes.md)")


def kept_accuracy(events: Path) -> float:
    """Share of the held-out pictures that the state which the run has kept recognises."""
    last = events.read_text(encoding="utf-8").splitlines()[-1]
    return float(json.loads(last)["kept"]["accuracy"])


def typed(path: Path) -> Path:
    """`path` as a person would type it: relative, where it lies in the repository."""
    return path.relative_to(REPOSITORY) if path.is_relative_to(REPOSITORY) else path


def main() -> int:
    os.chdir(REPOSITORY)
    for folder in (BUNDLE, PICTURES, RUN):
        shutil.rmtree(folder, ignore_errors=True)
    python = typed(Path(sys.executable))
    mobiletl = python.with_name("mobiletl")

    method = ("--method", "mobiletl", "--blocks", "3")
    run(mobiletl, "export", "--weights", "demo", *method, "--out", BUNDLE)
    counts = write_digits(PICTURES)
    print(f"\nwrote handwritten digits: {counts['train']} to train on, {counts['val']} held out")
    train = ("device/train_on_board.py", "--bundle", BUNDLE, "--data", PICTURES)
    # A mirrored digit is another one, or none.
    run(python, *train, "--no-augment", "--out", RUN)
    picture = sorted((PICTURES / "val" / "7").iterdir())[0]
    state = ("--state", RUN / "state.safetensors")
    run(python, "device/predict.py", "--bundle", BUNDLE, *state, picture)

    accuracy = kept_accuracy(RUN / "events.jsonl")
    verdict = "" if accuracy >= PROMISED_ACCURACY else f"; promised were {PROMISED_ACCURACY:.0%}"
    print(f"\ndemo: {accuracy:.1%} of {counts['val']} held-out digits recognised{verdict}")
    return 1 if verdict else 0


if __name__ == "__main__":
    sys.exit(main())
