"""Every picture looked at once: what the trained state says of it, and its first embedding.

The trained network has learnt its training pictures by heart, wrong labels included; what it makes
of them is no evidence. So beside its answers each picture is described by the network that the
bundle began with, which has seen none of them (docs/review.md compares both): by its embedding,
and by the channels of the map before the trained part. One session does both, by loading one state
and then the other for some pictures at a time: no picture goes through the frozen prefix twice.

Letters: P pictures, K classes, D numbers in an embedding, C x h x w a feature map.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Mapping

import numpy as np

from mobiletl.device.bundle.arrays import Floats, Labels
from mobiletl.device.bundle.state_file import open_state
from mobiletl.device.features.live import LiveFeatures
from mobiletl.device.features.parts import Pictures, SourcePlan, open_parts
from mobiletl.device.features.replay import memory_path
from mobiletl.device.features.views import ONLY_CENTRAL
from mobiletl.device.heads.many import solve_many
from mobiletl.device.heads.ridge import Head
from mobiletl.device.pictures.balanced import balanced_rows
from mobiletl.device.pictures.dataset import Picture, Skipped
from mobiletl.device.pictures.skipped import SkippedFiles
from mobiletl.device.reviewing.kernel import Described, channel_statistics
from mobiletl.device.reviewing.opened import Opened
from mobiletl.device.run.checkpoints import KEPT
from mobiletl.device.run.start import bundle_start
from mobiletl.device.sessions.runtimes import open_session
from mobiletl.device.sessions.session import Session
from mobiletl.device.solving.keeping import MOST_BYTES, scaled
from mobiletl.device.solving.taught import logits_of

# Feature maps that wait while the other state is loaded.
WAITING_BYTES = 2_000_000
# Pictures that a session answers at a time: its activations grow with them.
AT_ONCE = 8

# Called with pictures done and in all; may raise to stop.
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Looked:
    """The pictures that could be decoded: first those that train, then those that validate."""

    pictures: tuple[Picture, ...]
    training: int
    """How many of them train."""
    labels: Labels
    """i64[P]"""
    logits: Floats
    """f32[P,K] of the trained state; those that validate are answered by a classifier that was
    solved for without them, where the state's own was solved for with them."""
    described: Described
    """By the initial network."""
    computed: int
    """How many went through the frozen prefix; of the others the run had kept the maps."""
    skipped: tuple[Skipped, ...]


def look(opened: Opened, threads: int, on_progress: OnProgress) -> Looked:
    """Look at every picture; raises BadPictures if none validates or a class has none left."""
    bundle, dataset = opened.bundle, opened.dataset
    names, manifest = dataset.class_names, bundle.manifest
    # Its classifier is not asked, so any will do.
    initial = bundle_start(bundle, names, 0).tensors
    skipped = SkippedFiles(dataset)
    trained, _ = open_state(opened.state, manifest)
    with trained, open_session(bundle, len(names), initial, threads, opened.runtime) as session:
        plan = SourcePlan(session, manifest, ONLY_CENTRAL, 1, opened.cache, _memory(opened))
        with open_parts(plan, dataset, skipped) as parts:
            looking = _Looking(opened, session, (trained, initial), on_progress)
            train = looking.through(parts.train, 0)
            looking.hold_out()
            val = looking.through(parts.val, len(dataset.train))
            computed = _computed(parts.train) + _computed(parts.val)
    return looking.found(train, val, computed, skipped.entries())


class _Looking:
    """Fills the arrays of all pictures, some at a time."""

    def __init__(
        self,
        opened: Opened,
        session: Session,
        states: tuple[Mapping[str, Floats], Mapping[str, Floats]],
        on_progress: OnProgress,
    ) -> None:
        dataset, manifest = opened.dataset, opened.bundle.manifest
        self._session = session
        self._trained, self._initial = states
        self._on_progress = on_progress
        self._pictures = (*dataset.train, *dataset.val)
        classes = len(dataset.class_names)
        self._logits = np.empty((len(self._pictures), classes), np.float32)
        shape = manifest.feature.shape
        count = len(self._pictures)
        self._described = Described(
            np.empty((count, manifest.embedding.size), np.float32),
            np.empty((count, shape[0]), np.float32),
            np.empty((count, shape[0]), np.float32),
        )
        at_once = max(WAITING_BYTES // (4 * math.prod(shape)), AT_ONCE)
        self._maps = np.empty((min(at_once, len(self._pictures)), *shape), np.float32)
        self._kept = opened.info.settings.get(KEPT)
        self._head: Head | None = None
        self._labels = np.array([picture.label for picture in dataset.train], np.int64)
        most = max(MOST_BYTES // (4 * manifest.embedding.size), classes)
        rows = range(len(dataset.train)) if self._kept else ()
        chosen = balanced_rows(self._labels, rows, 0, most) if rows else []
        self._place_of = {row: place for place, row in enumerate(chosen)}
        self._values = np.zeros((len(chosen), manifest.embedding.size), np.float32)

    def hold_out(self) -> None:
        """Solve for the classifier of pictures that validate, once the others were looked at."""
        if self._kept:
            labels = self._labels[list(self._place_of)]
            # A picture that cannot be decoded has left zeros.
            seen = self._values.any(axis=1)
            values, classes = self._values[seen], self._logits.shape[1]
            head = solve_many(values, labels[seen], classes, self._kept["penalty"])
            self._head = scaled(head, self._kept["scale"])

    def through(self, part: Pictures, offset: int) -> list[int]:
        """Look at a part whose first picture is row `offset` of all; return the rows seen."""
        seen: list[int] = []
        count = len(part.labels)
        for start in range(0, count, len(self._maps)):
            some = range(start, min(start + len(self._maps), count))
            written: list[int] = []
            for first in range(some.start, some.stop, AT_ONCE):
                self._on_progress(offset + first, len(self._pictures))
                few = range(first, min(first + AT_ONCE, some.stop))
                place = len(written)
                written += part.source.fill(few, 0, self._maps[place : place + len(few)])
            if written:
                self._answer(offset + np.array(written), self._maps[: len(written)])
            seen += [offset + row for row in written]
        return seen

    def _answer(self, rows: Labels, maps: Floats) -> None:
        """Write what both networks say of `maps` to `rows`."""
        self._session.load(self._trained)
        for start in range(0, len(rows), AT_ONCE):
            few = slice(start, start + AT_ONCE)
            answer = self._session.embed(maps[few])
            self._logits[rows[few]] = answer.logits
            if self._head is not None:
                self._logits[rows[few]] = logits_of(self._head, answer.embeddings)
            for row, values in zip(rows[few], answer.embeddings):
                if int(row) in self._place_of:
                    self._values[self._place_of[int(row)]] = values
        self._session.load(self._initial)
        for start in range(0, len(rows), AT_ONCE):
            few = slice(start, start + AT_ONCE)
            described = self._described
            described.embeddings[rows[few]] = self._session.embed(maps[few]).embeddings
            means, deviations = channel_statistics(maps[few])
            described.means[rows[few]], described.deviations[rows[few]] = means, deviations

    def found(
        self, train: list[int], val: list[int], computed: int, skipped: tuple[Skipped, ...]
    ) -> Looked:
        """Return what was seen, without the rows of pictures that cannot be decoded."""
        rows = train + val
        whole = len(rows) == len(self._pictures)
        pictures = tuple(self._pictures[row] for row in rows)
        return Looked(
            pictures,
            len(train),
            np.array([picture.label for picture in pictures], np.int64),
            self._logits if whole else self._logits[rows],
            self._described if whole else self._described.of(rows),
            computed,
            skipped,
        )


def _memory(opened: Opened) -> Path | None:
    """Return the maps that the run kept, unless its folder is read-only: a store is opened to be
    mended.
    """
    path = memory_path(opened.folder.path, opened.bundle.manifest)
    return path if path.is_file() and os.access(str(path), os.W_OK) else None


def _computed(part: Pictures) -> int:
    assert isinstance(part.source, LiveFeatures)
    return part.source.computed
