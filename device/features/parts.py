"""The training and the validation part of a data set as feature maps, kept where that pays."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Callable, Iterator, Mapping, Sequence

import numpy as np

from mobiletl.device.bundle.arrays import Labels
from mobiletl.device.bundle.decode import UnreadablePicture, unreadable
from mobiletl.device.bundle.frame import Frame
from mobiletl.device.bundle.lock import locked
from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.errors import NoSpace
from mobiletl.device.features.live import (
    Ahead,
    FeatureSource,
    Keeping,
    KnownPicture,
    LiveFeatures,
    OnUnreadable,
)
from mobiletl.device.features.maps import Maps
from mobiletl.device.features.quantised import Codec
from mobiletl.device.features.replay import Kept, KeptParts, kept_parts
from mobiletl.device.features.store import FeatureStore, store_path
from mobiletl.device.features.views import FRESH, Views, judged
from mobiletl.device.pictures.dataset import Dataset, Picture
from mobiletl.device.pictures.outage import patiently
from mobiletl.device.pictures.skipped import SkippedFiles
from mobiletl.device.printable import printable
from mobiletl.device.refusals import cannot_write
from mobiletl.device.sessions.session import Session

OTHER_CACHE = "name another folder with --cache DIR, or train with --no-cache"


@dataclass(frozen=True)
class Pictures:
    """Pictures to train or to validate on: their feature maps and labels [P], by row."""

    source: FeatureSource
    labels: Labels


@dataclass(frozen=True)
class SourcePlan:
    """What both parts have in common.

    `views` are those of the training part; the validation part has a central crop in epoch 0, and
    the others of `judged(views)` in the epochs from 1 on. `cache` is the folder of
    the cache, `memory` the file that an earlier run left; None for none. `kept` are the pictures of
    the memory that are gone: they come after the others, in the part that they are in.
    """

    session: Session
    manifest: Manifest
    views: Views
    micro_batch: int
    cache: Path | None
    memory: Path | None = None
    kept: KeptParts = field(default_factory=KeptParts)
    known: Mapping[str, str] = field(default_factory=dict)
    """What pictures are known to be, by path."""
    note: Callable[[Picture, str], None] | None = None
    """Hears what each other picture is, once."""
    epochs: int = 0
    """How many there will be: a picture's maps for all of them are computed when it is decoded."""
    ahead: Ahead = lambda: True
    """Asked before each map that is not wanted at once; where it is not true, that one waits."""


@dataclass(frozen=True)
class Parts:
    """Both parts of a data set."""

    train: Pictures
    val: Pictures


def worth_keeping(manifest: Manifest) -> bool:
    """Whether a feature map has fewer numbers than its picture.

    Where it has more, or is the picture itself, the frozen prefix costs little or nothing.
    """
    channels, height, width = manifest.feature.shape
    return channels * height * width < 3 * manifest.input.resolution**2


@contextlib.contextmanager
def open_parts(plan: SourcePlan, dataset: Dataset, skipped: SkippedFiles) -> Iterator[Parts]:
    """Open the training and the validation part; maps are computed when they are first needed.

    Raises NoSpace if the disk cannot hold what is to be kept.
    """
    manifest = plan.manifest
    with contextlib.ExitStack() as opened:

        def cache(path: Path) -> FeatureStore:
            make_folder(path.parent)
            shown, lock = printable(str(path)), path.with_name(f".{path.name}.lock")
            opened.enter_context(locked(lock, f"the cache {shown}", OTHER_CACHE))
            return opened.enter_context(FeatureStore(path, manifest))

        def memory(path: Path) -> FeatureStore:
            return opened.enter_context(FeatureStore(path, manifest, writes=False))

        maps = Maps()
        if worth_keeping(manifest):
            maps = Maps(
                None if plan.cache is None else cache(store_path(plan.cache, manifest)),
                None if plan.memory is None else memory(plan.memory),
            )
        if maps.cache is not None:
            _check_space(plan, dataset, maps.cache)
        rows = _Rows(manifest, dataset, maps, plan.known, plan.note)
        judges = judged(plan.views)
        judging = replace(plan, views=judges, epochs=len(judges.numbers))
        yield Parts(
            rows.part(plan, dataset.train, skipped.train_row, plan.kept.train),
            rows.part(judging, dataset.val, skipped.val_row, plan.kept.val),
        )


def find_kept(
    path: Path,
    manifest: Manifest,
    dataset: Dataset,
    renamed: Mapping[str, str | None],
    val_split: float,
) -> KeptParts:
    """Return the pictures in the memory at `path` that `dataset` has no more, but whose class.

    `renamed` is as for `begin_memory`. The share `val_split` of each class is validated on.
    """
    with FeatureStore(path, manifest, writes=False) as memory:
        rows = _Rows(manifest, dataset, Maps(memory=memory))
        present = set()
        for picture in (*dataset.train, *dataset.val):
            with contextlib.suppress(UnreadablePicture):
                present.add(patiently(partial(rows.identity, picture)))
        return kept_parts(memory, present, dataset.class_names, renamed, val_split)


def make_folder(path: Path) -> None:
    """Make the folder of a cache, if it is not there; raises NoSpace."""
    if path.is_dir():
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write("the feature maps", path, error, OTHER_CACHE) from error


class _Rows:
    """Finds out which picture a row is; a file is read for that once, as long as it stays."""

    def __init__(
        self,
        manifest: Manifest,
        dataset: Dataset,
        maps: Maps,
        known: Mapping[str, str] | None = None,
        note: Callable[[Picture, str], None] | None = None,
    ) -> None:
        self._manifest = manifest
        self._dataset = dataset
        self._maps = maps
        self._identities: dict[str, str] = dict(known or {})
        self._note = note

    def part(
        self,
        plan: SourcePlan,
        pictures: Sequence[Picture],
        on_unreadable: OnUnreadable,
        kept: Sequence[Kept],
    ) -> Pictures:
        views = plan.views

        def look(row: int) -> KnownPicture:
            if row >= len(pictures):
                one = kept[row - len(pictures)]
                return KnownPicture(one.picture, None, one.class_name, Views(one.views))
            picture = pictures[row]
            name = self._dataset.class_names[picture.label]
            frame = partial(self._frame, picture)
            return KnownPicture(self.identity(picture), frame, name, views)

        def note(row: int, reason: str) -> None:
            # Of a picture that is gone there is no file to name.
            if row < len(pictures):
                on_unreadable(row, reason)

        eight_bits = worth_keeping(self._manifest)
        maps = self._maps
        if views == FRESH:
            # A fresh crop is seen once: it is worth neither its place nor the loss to 8 bits.
            eight_bits, maps = bool(kept), Maps(memory=maps.memory)
        codec = Codec(self._manifest.feature.shape)
        source = LiveFeatures(
            plan.session,
            self._manifest.input,
            look,
            note,
            plan.micro_batch,
            Keeping(codec if eight_bits else None, maps, plan.epochs, plan.ahead),
        )
        labels = [picture.label for picture in pictures] + [one.label for one in kept]
        return Pictures(source, np.array(labels, np.int64))

    def identity(self, picture: Picture) -> str:
        """Return what the picture is known by; raises UnreadablePicture."""
        if picture.path not in self._identities:
            self._identities[picture.path] = self._identify(picture)
            if self._note is not None:
                self._note(picture, self._identities[picture.path])
        return self._identities[picture.path]

    def _frame(self, picture: Picture) -> Frame:
        path = self._dataset.root / picture.path
        return Frame(str(path), path, decode_limit=self._dataset.decode_limit)

    def _identify(self, picture: Picture) -> str:
        known = self._maps.picture_of(picture)
        if known is not None:
            return known
        frame = self._frame(picture)
        try:
            identity = frame.identity()
        except OSError as error:
            raise unreadable(frame.name, error) from error
        self._maps.remember(picture, identity)
        return identity


def _check_space(plan: SourcePlan, dataset: Dataset, store: FeatureStore) -> None:
    """Refuse to begin what the disk cannot hold, as if no map were there yet."""
    judges = len(judged(plan.views).numbers) * len(dataset.val)
    maps = judges + max(len(plan.views.numbers), 1) * len(dataset.train)
    needed = maps * store.map_bytes
    folder = store.path.parent
    free = shutil.disk_usage(str(folder)).free + store.path.stat().st_size
    if free < needed:
        raise NoSpace(
            f"the feature maps need {needed / 1e6:.1f} MB in {printable(str(folder))} "
            f"({free / 1e6:.0f} MB are free); free space, name another folder with --cache DIR, "
            "or train with --no-cache"
        )
