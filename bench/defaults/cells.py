"""What is run: a set of pictures, so many of each class, so many blocks, a seed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mobiletl.core.errors import UsageError

TRAIN = "train"
TESTS = ("test", "val")


@dataclass(frozen=True)
class Cell:
    """One row; `per_class` 0 stands for all pictures, `blocks` for the top ones of `mobiletl`."""

    set: str
    per_class: int
    blocks: int
    seed: int
    train: str = ""
    """Flags of `mobiletl train`; nothing for its defaults."""


@dataclass(frozen=True)
class PictureSet:
    """Folders of one set: `train/<class>/` and `test/<class>/` (or `val/`)."""

    name: str
    train: Path
    test: Path

    @property
    def class_names(self) -> list[str]:
        """The class folders, sorted."""
        return sorted(path.name for path in self.train.iterdir() if path.is_dir())

    def link(self, folder: Path, per_class: int, seed: int, limit: int) -> Path:
        """Link `per_class` training pictures of each class, `limit` for 0, into `folder`.

        Which ones follows from `seed`. Returns `folder`, written anew.
        """
        shutil.rmtree(folder, ignore_errors=True)
        for label, name in enumerate(self.class_names):
            files = pictures_in(self.train / name)
            order = np.random.default_rng((seed, label)).permutation(len(files))
            (folder / name).mkdir(parents=True)
            for row in order[: per_class or limit]:
                file = files[row].resolve()
                (folder / name / file.name).symlink_to(file)
        return folder


def find_sets(data: Path) -> list[PictureSet]:
    """The sets below `data`, by name; raises UsageError where there is none."""
    folders = sorted(path for path in data.iterdir() if path.is_dir())
    found = [one for one in map(_set_in, folders) if one is not None]
    if not found:
        raise UsageError(f"{data} holds no set; expected folders with train/ and test/ in them")
    return found


def find_set(folder: Path) -> PictureSet:
    """The set in `folder`; raises UsageError where it is none."""
    found = _set_in(folder)
    if found is None:
        raise UsageError(f"{folder} is no set; expected train/ and test/ in it")
    return found


def _set_in(folder: Path) -> PictureSet | None:
    test = next((folder / name for name in TESTS if (folder / name).is_dir()), None)
    if not (folder / TRAIN).is_dir() or test is None:
        return None
    return PictureSet(folder.name, folder / TRAIN, test)


def pictures_in(folder: Path) -> list[Path]:
    """The files of a class folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


class Results:
    """Lines of JSON, one per cell; what is there is not repeated."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: list[dict[str, Any]] = []
        if path.is_file():
            self.rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]

    def has(self, cell: Cell) -> bool:
        """Whether the cell was run."""
        return any(row["cell"] == asdict(cell) for row in self.rows)

    def add(self, cell: Cell, figures: dict[str, Any]) -> None:
        """Append what a cell came to."""
        row = {"cell": asdict(cell), **figures}
        self.rows.append(row)
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")


def cells(
    sets: Sequence[PictureSet],
    blocks: Sequence[int],
    per_class: Sequence[int],
    seeds: int,
    train: str,
) -> Iterator[Cell]:
    """Every cell, those of few pictures first, then seed by seed: a table of all sets is there
    early.
    """
    for number in per_class:
        for seed in range(seeds):
            for count in blocks:
                for pictures in sets:
                    yield Cell(pictures.name, number, count, seed, train)
