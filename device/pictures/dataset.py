"""Find classes and pictures in a folder, split off a validation part, say how it was understood.

`layout.py` says which folders are the classes, `scan.py` which files are pictures and why others
are left out. A class may have folders inside. Everything is sorted, so the same folder always gives
the same numbers.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import Sequence

from mobiletl.device.bundle.decode import DECODING_LIMIT, UnreadablePicture
from mobiletl.device.bundle.view import View
from mobiletl.device.errors import BadPictures
from mobiletl.device.pictures.kept_view import load_view
from mobiletl.device.pictures.layout import Layout, find_layout
from mobiletl.device.pictures.layouts import AUTO
from mobiletl.device.pictures.needs import Needs
from mobiletl.device.pictures.scan import Picture, Scan, Skipped, files_below
from mobiletl.device.printable import printable

__all__ = ["Dataset", "Picture", "Skipped", "files_below", "open_dataset", "validation_rows"]

# Class folders that one message names.
MOST_NAMED = 3


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
    layout: str = ""
    """How the folders were understood, in words."""
    decoding_bytes: int = 0
    """The most that one of the pictures takes while it is decoded."""
    heaviest: str = ""
    """The picture that takes it."""
    decode_limit: int = DECODING_LIMIT
    """Pictures that take more bytes than these are among the skipped."""

    @property
    def pictures(self) -> int:
        """How many there are in both parts."""
        return len(self.train) + len(self.val)

    def counts(self) -> dict[str, tuple[int, int]]:
        """Return how many pictures of each class there are to train and to validate on."""
        parts = [[picture.label for picture in part] for part in (self.train, self.val)]
        return {
            name: (parts[0].count(label), parts[1].count(label))
            for label, name in enumerate(self.class_names)
        }

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

    def only(self, wanted: Sequence[str]) -> Dataset:
        """Return it with the classes `wanted` alone, which are among its own, and a note of the
        others that have pictures.
        """
        names = tuple(sorted(wanted))
        labels = {self.class_names.index(name): label for label, name in enumerate(names)}

        def kept(part: Sequence[Picture]) -> tuple[Picture, ...]:
            mine = (picture for picture in part if picture.label in labels)
            return tuple(replace(picture, label=labels[picture.label]) for picture in mine)

        counts = self.counts()
        others = [name for name in self.class_names if name not in wanted and any(counts[name])]
        note = f"not used: {', '.join(map(_quoted, others))}, of which no class is wanted"
        return replace(
            self,
            class_names=names,
            train=kept(self.train),
            val=kept(self.val),
            notes=(*self.notes, note) if others else self.notes,
        )


def open_dataset(
    root: Path,
    val_split: float,
    seed: int,
    known: Sequence[str] = (),
    layout: str = AUTO,
    needs: Needs = Needs(),  # noqa: B008 - it cannot be changed
) -> Dataset:
    """Find everything under `root`, which is only read.

    `val_split` is the share (0 to 1, both excluded) of each class that validates where the folder
    has no validation part. The classes `known` need no folder. `layout` is one of `LAYOUTS`;
    `needs` says what a picture has to be good for. Raises BadPictures if nothing can be learned
    from what is there, PicturesAway if it cannot be read now.
    """
    if root.is_file():
        raise BadPictures(
            f"{_shown(root)} is a file; name the folder that has one folder of pictures per class"
        )
    if not root.is_dir():
        raise BadPictures(
            f"no folder {_shown(root)}; expected a folder with one folder of pictures per class"
        )
    try:
        found = _open(Scan(root, needs), val_split, seed, layout, 1 if known else 2)
    except UnreadablePicture as error:
        raise BadPictures(
            f"folder {printable(error.name)} cannot be read ({printable(error.reason)}); "
            "check its permissions"
        ) from error
    found = replace(found, view=load_view(root))
    return found.with_classes(known) if known else found


def _open(scan: Scan, val_split: float, seed: int, asked: str, least: int) -> Dataset:
    layout = find_layout(scan, asked)
    notes = []
    if layout.unused:
        unused = ", ".join(map(_quoted, layout.unused))
        notes.append(f"not used: {unused} in {_shown(scan.root)}")
    finder = _Finder(scan, least)
    names, pictures = finder.classes(layout.train)
    if layout.val is None:
        inside = f"the folders in {printable(layout.train)}/" if layout.train else "its folders"
        words = f"the classes are {inside}, and {val_split:.0%} of each validate"
        found = _drawn(scan, layout, names, pictures, (val_split, seed))
        found = replace(found, notes=(*notes, *found.notes))
    else:
        words = f"{printable(layout.train)}/ trains and {printable(layout.val)}/ validates"
        val = _validating(finder, layout, names)
        found = Dataset(scan.root, names, tuple(pictures), val, (), tuple(notes))
    return replace(
        found,
        layout=words,
        skipped=tuple(scan.skipped),
        decoding_bytes=scan.decoding_bytes,
        heaviest=scan.heaviest,
        decode_limit=scan.needs.limit,
    )


def _drawn(
    scan: Scan,
    layout: Layout,
    names: tuple[str, ...],
    pictures: list[Picture],
    drawing: tuple[float, int],
) -> Dataset:
    """Draw the validation part, a share by a seed, from each class."""
    train: list[Picture] = []
    val: list[Picture] = []
    notes: list[str] = []
    for label, group in groupby(pictures, key=attrgetter("label")):
        mine = list(group)
        if len(mine) == 1:
            name = names[label]
            notes.append(f"class {_quoted(name)} has one picture only; it is never validated")
        folder = PurePosixPath(layout.train) / names[label]
        inside = [str(PurePosixPath(picture.path).relative_to(folder)) for picture in mine]
        chosen = validation_rows(inside, *drawing)
        for row, picture in enumerate(mine):
            (val if row in chosen else train).append(picture)
    if not val:
        raise BadPictures(
            f"{_shown(scan.root)} has one picture per class; two or more of a class are needed, "
            "one to train on and one to validate on"
        )
    return Dataset(scan.root, names, tuple(train), tuple(val), (), tuple(notes), True)


def _validating(finder: _Finder, layout: Layout, names: tuple[str, ...]) -> tuple[Picture, ...]:
    """Return the pictures of the validation folder, which has to have the same classes."""
    assert layout.val is not None
    val_names, val = finder.classes(layout.val)
    if names != val_names:
        differing = ", ".join(map(_quoted, sorted(set(names) ^ set(val_names))))
        raise BadPictures(
            f"{layout.train}/ and {layout.val}/ in {_shown(finder.root)} hold different classes: "
            f"{differing} in one only; both need the same folders"
        )
    return tuple(val)


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
    """Collects pictures class by class."""

    def __init__(self, scan: Scan, least_classes: int) -> None:
        self.root = scan.root
        self._scan = scan
        self._least = least_classes

    def classes(self, below: str) -> tuple[tuple[str, ...], list[Picture]]:
        """Return the class folders in `below` (a path relative to the root) and their pictures."""
        folder = self.root / below
        names = self._scan.folders(folder)
        self._scan.loose_files(folder)
        if len(names) < self._least:
            raise BadPictures(self._too_few(folder, names))
        pictures: list[Picture] = []
        reasons: dict[str, str] = {}
        for label, name in enumerate(names):
            before, skipped_before = len(pictures), len(self._scan.skipped)
            pictures += self._scan.pictures(folder / name, label)
            if len(pictures) == before:
                reasons[name] = _why_none(self._scan.skipped[skipped_before:])
        if reasons:
            shown = [f"{_quoted(name)} ({printable(why)})" for name, why in reasons.items()]
            more = f" and {len(shown) - MOST_NAMED} more" if len(shown) > MOST_NAMED else ""
            listed = ", ".join(shown[:MOST_NAMED]) + more
            raise BadPictures(
                f"no picture in class folder {listed} of {_shown(folder)}; "
                "put pictures in or remove the folder"
            )
        return tuple(names), pictures

    def _too_few(self, folder: Path, names: Sequence[str]) -> str:
        """Say what is there instead of classes, and where they may be."""
        having = f"only {_quoted(names[0])}" if names else "none"
        needed = {1: "one", 2: "two"}[self._least]
        todo = "expected one folder of pictures per class"
        if names and len(self._scan.folders(folder / names[0])) > 1:
            todo = f"if the classes are the folders in it, name {_shown(folder / names[0])}"
        return f"{_shown(folder)} needs {needed} or more class folders and has {having}; {todo}"


def _why_none(skipped: Sequence[Skipped]) -> str:
    """Why a class folder has no picture; the first file's reason stands for the others'."""
    if not skipped:
        return "it is empty"
    return f"unreadable files: {len(skipped)}, the first: {skipped[0].reason}"


def _shown(path: Path) -> str:
    return printable(str(path))


def _quoted(name: str, limit: int = 60) -> str:
    shown = printable(name)
    return f"'{shown if len(shown) <= limit else shown[: limit - 3] + '...'}'"
