"""Find classes and pictures in a folder, split off a validation part, list what was skipped.

Two layouts are understood:

    photos/<class>/...picture            the validation part is drawn from each class
    photos/train/<class>/...picture      used as they are; `val`, `validation`, `valid` and `test`
    photos/val/<class>/...picture        are tried in this order as name of the second folder

`train/` alone is the first layout one level down. A class may have folders inside. Whatever begins
with a dot is ignored; files that are no pictures are skipped, counted and listed. Everything is
sorted, so the same folder always gives the same numbers.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import Sequence

from mobiletl.device.bundle.decode import UnreadablePicture, check_header
from mobiletl.device.bundle.view import View
from mobiletl.device.errors import BadPictures
from mobiletl.device.pictures.kept_view import load_view
from mobiletl.device.printable import printable

TRAIN_FOLDER = "train"
# Class folders that one message names.
MOST_NAMED = 3
VALIDATION_FOLDERS = ("val", "validation", "valid", "test")


@dataclass(frozen=True)
class Picture:
    """One file: `path` is relative to the data folder, POSIX style; `label` counts from 0."""

    path: str
    label: int
    bytes: int
    mtime_ns: int


@dataclass(frozen=True)
class Skipped:
    """A file that is not used, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Dataset:
    """Pictures to train on and to validate on; `notes` are sentences a person should read."""

    root: Path
    class_names: tuple[str, ...]
    train: tuple[Picture, ...]
    val: tuple[Picture, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    drawn: bool = False
    """Whether the validation part was drawn from the class folders, and is no folder of its own."""
    view: View | None = None
    """The camera's view in which the pictures were taken; None for pictures from elsewhere."""

    def fingerprint(self) -> str:
        """Hash of which pictures are trained and validated on, by path, label and size.

        Not by time of change: a folder copied to another board stays the same data set.
        """
        rows = [
            [[picture.path, picture.label, picture.bytes] for picture in part]
            for part in (self.train, self.val)
        ]
        return hashlib.sha256(json.dumps(rows).encode("ascii")).hexdigest()

    def with_classes(self, known: Sequence[str]) -> Dataset:
        """Return it with the classes `known` as well, of which it may have no picture."""
        names = tuple(sorted({*self.class_names, *known}))
        labels = [names.index(name) for name in self.class_names]

        def relabelled(part: Sequence[Picture]) -> tuple[Picture, ...]:
            return tuple(replace(picture, label=labels[picture.label]) for picture in part)

        return replace(
            self, class_names=names, train=relabelled(self.train), val=relabelled(self.val)
        )


def open_dataset(root: Path, val_split: float, seed: int, known: Sequence[str] = ()) -> Dataset:
    """Find everything under `root`, which is only read.

    `val_split` is the share (0 to 1, both excluded) of each class that validates where the folder
    has no validation part. The classes `known` need no folder. Raises BadPictures if nothing can be
    learned from what is there.
    """
    found = _open(root, val_split, seed, 1 if known else 2)
    found = replace(found, view=load_view(root))
    return found.with_classes(known) if known else found


def _open(root: Path, val_split: float, seed: int, least: int) -> Dataset:
    if root.is_file():
        raise BadPictures(
            f"{_shown(root)} is a file; name the folder that has one folder of pictures per class"
        )
    if not root.is_dir():
        raise BadPictures(
            f"no folder {_shown(root)}; expected a folder with one folder of pictures per class"
        )
    top = _folders(root)
    second = next((name for name in VALIDATION_FOLDERS if name in top), None)
    if TRAIN_FOLDER in top and second is not None and _folders(root / TRAIN_FOLDER):
        return _open_split(root, second, top, least)
    if top == [TRAIN_FOLDER] and _folders(root / TRAIN_FOLDER):
        return _open_classes(root, TRAIN_FOLDER, val_split, seed, least)
    return _open_classes(root, "", val_split, seed, least)


def _open_classes(root: Path, below: str, val_split: float, seed: int, least: int) -> Dataset:
    found = _Finder(root, least)
    names, pictures = found.classes(below)
    train: list[Picture] = []
    val: list[Picture] = []
    notes: list[str] = []
    for label, group in groupby(pictures, key=attrgetter("label")):
        mine = list(group)
        if len(mine) == 1:
            name = names[label]
            notes.append(f"class {_quoted(name)} has one picture only; it is never validated")
        folder = (root / below / names[label]).relative_to(root)
        inside = [str(PurePosixPath(picture.path).relative_to(folder)) for picture in mine]
        chosen = validation_rows(inside, val_split, seed)
        for row, picture in enumerate(mine):
            (val if row in chosen else train).append(picture)
    if not val:
        raise BadPictures(
            f"{_shown(root)} has one picture per class; two or more of a class are needed, "
            "one to train on and one to validate on"
        )
    return Dataset(root, names, tuple(train), tuple(val), tuple(found.skipped), tuple(notes), True)


def _open_split(root: Path, second: str, top: Sequence[str], least: int) -> Dataset:
    found = _Finder(root, least)
    names, train = found.classes(TRAIN_FOLDER)
    val_names, val = found.classes(second)
    if names != val_names:
        differing = ", ".join(map(_quoted, sorted(set(names) ^ set(val_names))))
        raise BadPictures(
            f"{TRAIN_FOLDER}/ and {second}/ in {_shown(root)} hold different classes: {differing} "
            "in one only; both need the same folders"
        )
    unused = [_quoted(name) for name in top if name not in (TRAIN_FOLDER, second)]
    notes = [f"not used: {', '.join(unused)} in {_shown(root)}"] if unused else []
    return Dataset(root, names, tuple(train), tuple(val), tuple(found.skipped), tuple(notes))


def validation_rows(paths: Sequence[str], share: float, seed: int) -> list[int]:
    """Which of a class's pictures validate, by their `paths` in the class folder.

    At least one and never all, and none of a single picture. Each picture has a place that follows
    from seed and path alone, and the first `share` validate. So pictures that are added move as few
    others as possible: hardly one that was trained on validates later.
    """
    if len(paths) < 2:
        return []
    size = min(max(round(len(paths) * share), 1), len(paths) - 1)
    return sorted(range(len(paths)), key=lambda row: _place(paths[row], seed))[:size]


def _place(path: str, seed: int) -> bytes:
    # A name on the disk need not be UTF-8.
    return hashlib.sha256(f"{seed} {path}".encode("utf-8", "surrogatepass")).digest()


class _Finder:
    """Collects pictures class by class, and on the way what is skipped."""

    def __init__(self, root: Path, least_classes: int) -> None:
        self.root = root
        self._least = least_classes
        self.skipped: list[Skipped] = []

    def classes(self, below: str) -> tuple[tuple[str, ...], list[Picture]]:
        """Return the class folders in `below` (a path relative to the root) and their pictures."""
        folder = self.root / below
        names = _folders(folder)
        self._skip_loose_files(folder)
        if len(names) < self._least:
            having = f"only {_quoted(names[0])}" if names else "none"
            needed = {1: "one", 2: "two"}[self._least]
            raise BadPictures(
                f"{_shown(folder)} needs {needed} or more class folders and has {having}; "
                "expected one folder of pictures per class"
            )
        pictures: list[Picture] = []
        counts: dict[str, str] = {}
        for label, name in enumerate(names):
            before, skipped_before = len(pictures), len(self.skipped)
            pictures += self._pictures_in(folder / name, label)
            if len(pictures) == before:
                counts[name] = _why_none(self.skipped[skipped_before:])
        if counts:
            shown = [f"{_quoted(name)} ({why})" for name, why in counts.items()]
            more = f" and {len(shown) - MOST_NAMED} more" if len(shown) > MOST_NAMED else ""
            listed = ", ".join(shown[:MOST_NAMED]) + more
            raise BadPictures(
                f"no picture in class folder {listed} of {_shown(folder)}; "
                "put pictures in or remove the folder"
            )
        return tuple(names), pictures

    def _pictures_in(self, folder: Path, label: int) -> list[Picture]:
        pictures = []
        for path in files_below(folder):
            relative = path.relative_to(self.root).as_posix()
            try:
                check_header(path)
                status = path.stat()
            except UnreadablePicture as error:
                self.skipped.append(Skipped(relative, error.reason))
            except OSError as error:
                self.skipped.append(Skipped(relative, error.strerror or "cannot be read"))
            else:
                pictures.append(Picture(relative, label, status.st_size, status.st_mtime_ns))
        return pictures

    def _skip_loose_files(self, folder: Path) -> None:
        for entry in sorted(folder.iterdir()):
            if not entry.name.startswith(".") and not entry.is_dir():
                relative = entry.relative_to(self.root).as_posix()
                self.skipped.append(Skipped(relative, "not in a class folder"))


def _folders(folder: Path) -> list[str]:
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise BadPictures(
            f"folder {_shown(folder)} cannot be read ({error.strerror}); check its permissions"
        ) from error
    return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def files_below(folder: Path) -> list[Path]:
    """Visible regular files in `folder` and its folders; a pipe would block the reader."""
    found: list[Path] = []
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(here, name) for name in files if not name.startswith(".")]
    return sorted(path for path in found if path.is_file())


def _why_none(skipped: Sequence[Skipped]) -> str:
    """Why a class folder has no picture; the first file's reason stands for the others'."""
    if not skipped:
        return "it is empty"
    return f"unreadable files: {len(skipped)}, the first is {skipped[0].reason}"


def _shown(path: Path) -> str:
    return printable(str(path))


def _quoted(name: str, limit: int = 60) -> str:
    shown = printable(name)
    return f"'{shown if len(shown) <= limit else shown[: limit - 3] + '...'}'"
