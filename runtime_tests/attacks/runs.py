"""Small runs to attack: a bundle of kilobytes, two dozen pictures, and the commands that train."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from mobiletl.device.errors import Diverged
from runtime_tests.attacks.harness import Ended, Fault, Worker
from runtime_tests.support.board.picture_folders import write_pictures
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle

# Pictures of each class that lie in the other's folder: no straight line tells the classes apart.
SWAPPED = 5


@dataclass(frozen=True)
class Attacked:
    """A run by its flags. `base` has a bundle, pictures, and the run that one follows."""

    base: Path
    flags: tuple[str, ...]
    code: int = 0
    """What it exits with undisturbed."""

    def argv(self, how: str, folder: Path) -> list[str]:
        """Return the command that trains in `folder`/run; `how` is --out or --resume."""
        flags = list(self.flags)
        if how == "--resume" and "--from" in flags:
            place = flags.index("--from")
            del flags[place : place + 2]
        flags = [flag.replace("CACHE", str(folder / "cache")) for flag in flags]
        known = ["--bundle", str(self.base / "bundle"), "--data", str(self.base / "photos")]
        return ["train", *known, "--runtime", "fake", *flags, how, str(folder / "run")]

    def again(self, worker: Worker, how: str, folder: Path) -> Ended:
        """Run it undisturbed."""
        return worker.run(self.argv(how, folder), Fault(folder))


def prepare(base: Path, worker: Worker) -> dict[str, Attacked]:
    """Write what four runs need, and return them: a plain one, one that follows another with a
    cache of its own and saves inside epochs, one that goes back to its best state and gives up, and
    one that saves so seldom that it holds its best states.

    The others save after every epoch: with a budget the clock would decide which calls there are.
    """
    write_tiny_bundle(base / "bundle", graphs=False)
    photos = write_pictures(base / "photos", {"ant": 12, "bee": 12}, seed=1)
    for index in range(SWAPPED):
        one, other = (photos / name / f"{index:03}.png" for name in ("ant", "bee"))
        content = one.read_bytes()
        one.write_bytes(other.read_bytes())
        other.write_bytes(content)
    every = ("--save-budget", "none")
    plain = Attacked(base, ("--epochs", "2", "--batch", "12", "--views", "1", *every))
    first = Attacked(base, ("--epochs", "1", "--batch", "12", "--views", "2"))
    assert first.again(worker, "--out", base / "former").code == 0
    # Pictures that are gone now, of which the run before has kept maps.
    for name in ("ant", "bee"):
        for index in range(SWAPPED, SWAPPED + 3):
            (photos / name / f"{index:03}.png").unlink()
    following = ("--from", str(base / "former" / "run"), "--cache", "CACHE", "--views", "2")
    following += every
    return {
        "plain": plain,
        "following": Attacked(
            base, (*following, "--epochs", "2", "--batch", "6", "--save-every", "2")
        ),
        "going back": Attacked(
            base,
            ("--epochs", "4", "--batch", "6", "--val-split", "0.4", "--lr", "3.3e38", *every),
            code=Diverged.exit_code,
        ),
        "sparing": Attacked(
            base, ("--epochs", "4", "--batch", "6", "--views", "1", "--save-budget", "1KB/h")
        ),
    }


def fresh(folder: Path) -> Path:
    """Return `folder`, empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def copied(source: Path, folder: Path) -> Path:
    """Return `folder` as a copy of `source`."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    return folder
