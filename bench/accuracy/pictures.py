"""The pictures of a comparison, as folders of links: the same for every method and seed.

<folder>/all/train|val   what a run trains and validates on
<folder>/training/train  the training pictures alone, for the choice of a rate: the board draws
                         its validation part from them
<folder>/few/train|val   some of both, for a short run without a cache
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mobiletl.core.errors import NoSpace
from mobiletl.device.pictures.dataset import Dataset, Picture, open_dataset

# Of a folder that has no validation part of its own.
VAL_SHARE, SPLIT_SEED = 0.2, 0
FEW = 400


@dataclass(frozen=True)
class Pictures:
    """The three folders; `fingerprint` is of the pictures in `all`."""

    all: Path
    training: Path
    few: Path
    fingerprint: str
    train_count: int
    val_count: int


def link_pictures(data: Path, folder: Path, limit: int | None) -> Pictures:
    """Write `folder` anew from the pictures of `data`, about `limit` of each part.

    Raises the device's BadPictures for a folder without any, NoSpace where links can't be made.
    """
    dataset = limited(open_dataset(data, VAL_SHARE, SPLIT_SEED), limit)
    few = limited(dataset, FEW)
    try:
        shutil.rmtree(folder, ignore_errors=True)
        _link(dataset, dataset.train, folder / "all" / "train")
        _link(dataset, dataset.val, folder / "all" / "val")
        _link(dataset, dataset.train, folder / "training" / "train")
        _link(few, few.train, folder / "few" / "train")
        _link(few, few.val, folder / "few" / "val")
    except OSError as error:
        raise NoSpace(
            f"links to the pictures can't be made in {folder}: {error.strerror or error}; choose "
            "another folder with --out"
        ) from error
    return Pictures(
        folder / "all",
        folder / "training",
        folder / "few",
        dataset.fingerprint(),
        len(dataset.train),
        len(dataset.val),
    )


def limited(dataset: Dataset, limit: int | None) -> Dataset:
    """The same with about `limit` pictures of each part, equally many of each class."""
    if limit is None:
        return dataset
    most = max(limit // len(dataset.class_names), 1)
    return replace(dataset, train=_first(dataset.train, most), val=_first(dataset.val, most))


def _first(pictures: Sequence[Picture], most: int) -> tuple[Picture, ...]:
    taken: dict[int, int] = {}
    chosen = []
    for picture in pictures:
        taken[picture.label] = taken.get(picture.label, 0) + 1
        if taken[picture.label] <= most:
            chosen.append(picture)
    return tuple(chosen)


def _link(dataset: Dataset, pictures: Sequence[Picture], folder: Path) -> None:
    for name in dataset.class_names:
        (folder / name).mkdir(parents=True)
    root = dataset.root.resolve()
    for number, picture in enumerate(pictures):
        # Numbered: a class may have folders inside, and files of one name in them.
        link = f"{number:06d}{Path(picture.path).suffix}"
        (folder / dataset.class_names[picture.label] / link).symlink_to(root / picture.path)
