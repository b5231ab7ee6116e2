"""Which folders of a data folder are the classes: as `Layout` says, by the folders' own names.

Two layouts are understood, and named by `--layout`:

    classes    photos/<class>/...picture
    split      photos/train/<class>/...picture  and  photos/val/<class>/...picture

The folders of a split go by several names, in any case: `train`, `training`; and `val`,
`validation`, `valid`, `dev`, `test`, `testing`, of which the first that is there validates. What
could be either is refused with the flag that says which, because nobody would notice a model that
tells "Training" from "Testing".
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

from mobiletl.device.errors import BadPictures
from mobiletl.device.pictures.layouts import AUTO, CLASSES, SPLIT
from mobiletl.device.pictures.scan import Scan
from mobiletl.device.printable import printable

TRAIN_FOLDERS = ("train", "training", "train_set", "training_set", "trainset")
VALIDATION_FOLDERS = (
    *("val", "validation", "valid", "val_set", "dev"),
    *("test", "testing", "test_set", "testset"),
)


@dataclass(frozen=True)
class Layout:
    """Folders relative to the root: classes are in `train`, and in `val` those that validate.

    `val` is None where the validation part is drawn from the classes. `unused` are other folders.
    """

    train: str = ""
    val: str | None = None
    unused: tuple[str, ...] = ()


def find_layout(scan: Scan, asked: str) -> Layout:
    """Return the layout of the scan's root; raises BadPictures for what could be another.

    `asked` is one of `LAYOUTS`. The folders are only looked into as far as needed.
    """
    root = scan.root
    top = scan.folders(root)
    trains = [name for name in top if name.lower() in TRAIN_FOLDERS]
    others = _in_order(top)
    if asked == CLASSES or not (trains or asked == SPLIT):
        return Layout()
    if len(trains) != 1:
        found = f"has {len(trains)} of them" if trains else "has none"
        raise BadPictures(
            f"{_shown(root)} should have one folder {TRAIN_FOLDERS[0]}/ with the classes in it and "
            f"{found}; rename folders, or say --layout {CLASSES} if its folders are the classes"
        )
    train = trains[0]
    nested = bool(scan.folders(root / train))
    second = next((name for name in others if scan.folders(root / name)), None)
    unused = tuple(name for name in top if name not in (train, second))
    if nested and (second is not None or asked == SPLIT or not _strangers(unused)):
        return Layout(train, second, unused)
    if asked == AUTO and not nested and second is None and _strangers(unused):
        return Layout()
    raise BadPictures(_unclear(root, train, others, nested, unused))


def _in_order(top: Sequence[str]) -> list[str]:
    """Return the folders that may validate, the likeliest first."""
    named = [name for name in top if name.lower() in VALIDATION_FOLDERS]
    return sorted(named, key=lambda name: VALIDATION_FOLDERS.index(name.lower()))


def _strangers(names: Sequence[str]) -> list[str]:
    """Return the folders that are no part of a split by their names."""
    return [name for name in names if name.lower() not in VALIDATION_FOLDERS]


def _unclear(
    root: Path, train: str, others: Sequence[str], nested: bool, unused: Sequence[str]
) -> str:
    """Say what was found, and how to name the layout."""
    if nested:
        listed = ", ".join(f"{name}/" for name in unused[:3])
        found = f"{train}/ with class folders in it, and beside it {listed}"
    elif others:
        found = f"{train}/ and {others[0]}/, but no class folder in {train}/"
    else:
        found = f"{train}/ alone, with no class folder in it"
    return (
        f"{_shown(root)} has {printable(found)}; say --layout {SPLIT} if the classes are the "
        f"folders in {printable(train)}/, or --layout {CLASSES} if they are the folders beside it "
        "and itself"
    )


def _shown(path: Path) -> str:
    return printable(str(path))
