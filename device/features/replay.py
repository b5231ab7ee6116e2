"""What a run keeps of its pictures for the next one: feature maps, in a file of bounded size.

Latent replay (Pellegrini et al., Latent Replay for Real-Time Continual Learning, IROS 2020): of a
picture that is gone, its map below the trained layers goes on being trained on. The frozen layers
never change, so the map stays what it would be now.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Collection, Mapping

from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.bundle.replacing import (
    open_new,
    remove_leftovers,
    sync_folder,
    temporary_name,
)
from mobiletl.device.errors import NoSpace
from mobiletl.device.features.store import FeatureStore, StoredMap
from mobiletl.device.features.views import CENTRAL
from mobiletl.device.pictures.dataset import Dataset
from mobiletl.device.refusals import cannot_write

# What all maps have in common has no more.
HEADER_BYTES = 400
# A map that comes more often than this in an epoch would be learned by heart.
MOST_REPEATS = 10


@dataclass(frozen=True)
class Kept:
    """A picture that is gone, of which these views are left."""

    picture: str
    views: tuple[int, ...]
    class_name: str
    label: int


def memory_path(folder: Path, manifest: Manifest) -> Path:
    """Name the memory of the run in `folder`."""
    return folder / f"replay-{manifest.fit[:16]}.store"


@dataclass(frozen=True)
class KeptParts:
    """Pictures that are gone, to train and to validate on; one to train on may come repeatedly."""

    train: tuple[Kept, ...] = ()
    val: tuple[Kept, ...] = ()

    def counts(self) -> dict[str, int]:
        """How many pictures of each class there are."""
        pictures = {one.picture: one.class_name for one in (*self.train, *self.val)}
        return dict(Counter(pictures.values()))

    def once(self, first: int) -> list[int]:
        """Return the rows of `train`, which begin at `first`, with each picture once."""
        rows: dict[str, int] = {}
        for row, one in enumerate(self.train, first):
            rows.setdefault(one.picture, row)
        return list(rows.values())

    def balanced(self, dataset: Dataset) -> KeptParts:
        """Repeat what is trained on of a class until it has as many rows as those of `dataset`.

        Otherwise a few maps of an old class would drown in the pictures of a new one.
        """
        present = Counter(picture.label for picture in dataset.train)
        usual = sum(present.values()) / max(len(present), 1)
        kept = Counter(one.label for one in self.train)
        rows = [
            one
            for one in self.train
            for _ in range(_times(usual - present[one.label], kept[one.label]))
        ]
        return replace(self, train=tuple(rows))


def _times(missing: float, there: int) -> int:
    """How often each of `there` rows comes so that about so many that are `missing` are made up."""
    return min(max(round(missing / there), 1), MOST_REPEATS)


def kept_parts(
    memory: FeatureStore,
    present: Collection[str],
    class_names: tuple[str, ...],
    renamed: Mapping[str, str | None],
    val_split: float,
) -> KeptParts:
    """Return the pictures in `memory` of these classes that are not `present`, by identity.

    `renamed` is as for `begin_memory`. The share `val_split` of each class validates, and pictures
    of which the central crop alone is left come first: they are those that were never trained on.
    """
    found: dict[str, list[StoredMap]] = defaultdict(list)
    for stored in memory.maps():
        name = renamed.get(stored.class_name, stored.class_name)
        wanted = stored.picture not in present and name in class_names
        # Those that are damaged are not in the copy that a resumed run finds.
        if wanted and memory.sound(stored):
            found[stored.picture].append(replace(stored, class_name=str(name)))
    by_class: dict[str, list[Kept]] = defaultdict(list)
    for picture in sorted(found, key=lambda one: (len(found[one]) > 1, _hashed(one))):
        maps = found[picture]
        name = maps[0].class_name
        kept = Kept(picture, tuple(m.view for m in maps), name, class_names.index(name))
        by_class[name].append(kept)
    train: list[Kept] = []
    val: list[Kept] = []
    for name in sorted(by_class):
        cut = round(val_split * len(by_class[name]))
        val += by_class[name][:cut]
        train += by_class[name][cut:]
    return KeptParts(tuple(train), tuple(val))


def begin_memory(
    former: Path, folder: Path, manifest: Manifest, renamed: Mapping[str, str | None]
) -> None:
    """Copy the memory of the run in `former` to that of the run in `folder`; raises NoSpace.

    `renamed` maps a class to the name it has from now on, or to None where it is left out.
    """
    path = memory_path(former, manifest)
    if not path.is_file():
        return
    with FeatureStore(path, manifest, writes=False) as source:
        maps = list(source.maps())
        named = [(stored, renamed.get(stored.class_name, stored.class_name)) for stored in maps]
        _write(
            memory_path(folder, manifest),
            manifest,
            [(source, stored, name) for stored, name in named if name is not None],
        )


def discard_memory(folder: Path, manifest: Manifest) -> None:
    """Remove the memory of the run in `folder`, if a crash before its first save has left one;
    raises NoSpace.
    """
    path = memory_path(folder, manifest)
    remove_leftovers(path)
    try:
        if path.exists():
            path.unlink()
    except OSError as error:
        raise _cannot_keep(path, error) from error


def keep_memory(
    folder: Path, manifest: Manifest, cache: Path, dataset: Dataset, limit: int
) -> None:
    """Let the run in `folder` remember at most `limit` bytes of maps; raises NoSpace.

    They are those it began with, and those of the pictures of `dataset` in the file `cache`. Where
    there are none, there is no memory.
    """
    path = memory_path(folder, manifest)
    try:
        with contextlib.ExitStack() as opened:
            stores = [
                opened.enter_context(FeatureStore(file, manifest, writes=False))
                for file in (cache, path)
                if file.is_file() and limit > 0
            ]
            found = _of_run(stores, cache, dataset)
            maps = [stored for _, stored in found.values()]
            most = limit - HEADER_BYTES
            if sum(one.length for one in maps) > most:
                # More pictures with less of each are worth more (docs/again.md).
                maps = [store.narrowed(stored) for store, stored in found.values()]
            taken = chosen(maps, most)
            rows = [(found[(one.picture, one.view)][0], one, one.class_name) for one in taken]
            if rows:
                _write(path, manifest, rows, limit)
        if not rows and path.exists():
            path.unlink()
    except OSError as error:
        raise _cannot_keep(path, error) from error


def _of_run(
    stores: Collection[FeatureStore], cache: Path, dataset: Dataset
) -> dict[tuple[str, int], tuple[FeatureStore, StoredMap]]:
    """Return every map of the run by picture and view, with the class that the picture has now.

    Others may use the same cache, and a picture may have moved to another class since it was read.
    Of one that validates the central crop alone is kept, so that it goes on being told from those
    that were trained on.
    """
    classes: dict[str, str] = {}
    judges: set[str] = set()
    for store in stores:
        for number, file in enumerate((*dataset.train, *dataset.val)):
            picture = store.picture_of(file)
            if picture is not None:
                classes[picture] = dataset.class_names[file.label]
                judges.update([picture] * (number >= len(dataset.train)))
    found: dict[tuple[str, int], tuple[FeatureStore, StoredMap]] = {}
    for store in stores:
        for stored in store.maps():
            name = classes.get(stored.picture)
            if name is None and store.path != cache and stored.class_name in dataset.class_names:
                name = stored.class_name
            if name is not None and (stored.view == CENTRAL or stored.picture not in judges):
                now = replace(stored, class_name=name)
                found.setdefault((stored.picture, stored.view), (store, now))
    return found


def chosen(maps: Collection[StoredMap], limit: int) -> list[StoredMap]:
    """Choose maps of `limit` bytes in all: of every class as many, and one view of many pictures
    rather than many views of a few.

    Which pictures of a class stay follows from a hash of their identity, so that those that stay
    once go on staying.
    """
    by_class: dict[str, list[StoredMap]] = defaultdict(list)
    for stored in sorted(maps, key=_order):
        by_class[stored.class_name].append(stored)
    queues = [by_class[name] for name in sorted(by_class)]
    taken: list[StoredMap] = []
    left = limit
    for turn in range(max((len(queue) for queue in queues), default=0)):
        for queue in queues:
            if turn < len(queue) and queue[turn].length <= left:
                taken.append(queue[turn])
                left -= queue[turn].length
    return taken


def _order(stored: StoredMap) -> tuple[int, str]:
    return stored.view, _hashed(stored.picture)


def _hashed(picture: str) -> str:
    return hashlib.sha256(picture.encode("ascii")).hexdigest()


def _write(
    path: Path,
    manifest: Manifest,
    rows: Collection[tuple[FeatureStore, StoredMap, str]],
    limit: float = math.inf,
) -> None:
    """Write a store of these maps under these class names; the former one stays until then.

    What the files of pictures hold comes as far as `limit` bytes allow: they can be read again.
    """
    partial = temporary_name(path)
    try:
        remove_leftovers(path)
        open_new(partial).close()
        try:
            with FeatureStore(partial, manifest) as target:
                for source, stored, name in rows:
                    source.copy(stored, target, name)
                for source in {id(source): source for source, _, _ in rows}.values():
                    source.copy_files(target, limit)
                target.flush()
            partial.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise _cannot_keep(path, error) from error


def _cannot_keep(path: Path, error: OSError) -> NoSpace:
    instead = "keep none with --replay-mb 0"
    return cannot_write("the feature maps for replay", path, error, instead)
