"""A classifier in closed form, without training: one look at every picture, then one solution.

Letters: P pictures, D numbers in an embedding, K classes, C x h x w a feature map.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Sequence

import numpy as np

from mobiletl.device.bundle.answers import Answers
from mobiletl.device.bundle.arrays import Floats
from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.bundle.state_file import BEST, StateInfo, save_state
from mobiletl.device.errors import BadBundle
from mobiletl.device.features.parts import Pictures, SourcePlan, open_parts
from mobiletl.device.features.replay import (
    begin_memory,
    discard_memory,
    keep_memory,
    memory_path,
)
from mobiletl.device.features.store import store_path
from mobiletl.device.features.views import ONLY_CENTRAL
from mobiletl.device.heads.ridge import fit_ridge
from mobiletl.device.memory.measured import peak_bytes
from mobiletl.device.pictures.skipped import SkippedFiles
from mobiletl.device.run.beginning import first_state
from mobiletl.device.run.checkpoints import RunFolder
from mobiletl.device.run.claim import Claim
from mobiletl.device.run.evaluation import Score, score_of
from mobiletl.device.run.events import Part
from mobiletl.device.run.listener import Listener, Listeners
from mobiletl.device.run.opening import Opened, open_run
from mobiletl.device.run.options import Options
from mobiletl.device.run.stop import StopFlag
from mobiletl.device.sessions.runtimes import open_session
from mobiletl.device.sessions.session import Session
from mobiletl.device.solving.answers import (
    answers_in_turn,
    answers_of_others,
    familiar_of,
    look_at,
)
from mobiletl.device.solving.closed_form import Embeddings, embed, with_head

# One at a time: it takes no longer, and no memory for a batch.
_BATCH = 1


@dataclass(frozen=True)
class Taught:
    """A classifier that was solved for and saved.

    `held_out` scores every picture by the classifier that is solved for without it; `validation`
    scores the pictures of a folder of their own, None where there is none.
    """

    opened: Opened
    pictures: int
    held_out: Score
    validation: Score | None
    skipped: SkippedFiles
    peak_bytes: int
    seconds: float

    @property
    def folder(self) -> RunFolder:
        """Where the state is."""
        return self.opened.folder


def teach(
    options: Options, listeners: Sequence[Listener] = (), stop: StopFlag | None = None
) -> Taught:
    """Solve for a classifier of the pictures that `options` name, and save it as a run's state.

    Pictures that `train` would hold back are used as well: here each is held out in turn.
    Raises MobileTLError, and StopRequested once `stop` is set; nothing is saved then.
    """
    with Claim(RunFolder(options.run)) as claim:
        return _teach(options, claim, listeners, stop)


def _teach(
    options: Options, claim: Claim, listeners: Sequence[Listener], stop: StopFlag | None
) -> Taught:
    began = time.monotonic()
    bundle = open_bundle(options.bundle, options.trust, options.key)
    if bundle.manifest.classifier is None:
        raise BadBundle(
            "the network's last layer has no bias, so that no classifier can be solved for; "
            "train it instead"
        )
    opened = open_run(options, bundle, may_go_on=False)
    bundle = opened.bundle
    begin = first_state(bundle, opened)
    claim.take()
    discard_memory(opened.folder.path, bundle.manifest)
    if opened.former is not None:
        former = opened.former
        begin_memory(former.run, opened.folder.path, bundle.manifest, former.renamed)
    names, settings = opened.dataset.class_names, opened.settings
    session = open_session(bundle, len(names), begin.tensors, options.threads, settings.runtime)
    # The session has a copy; what a former run's state takes would come on top of it.
    del begin
    opened = replace(opened, former=None)
    flag = StopFlag() if stop is None else stop
    teaching = _Teaching(
        options, bundle, opened, session, SkippedFiles(opened.dataset), Listeners(listeners), flag
    )
    with session:
        pictures, held_out, validation = teaching.solve()
    teaching.leave()
    seconds = time.monotonic() - began
    return Taught(opened, pictures, held_out, validation, teaching.skipped, peak_bytes(), seconds)


@dataclass(frozen=True)
class _Teaching:
    """The parts of a call that are settled when its session is open."""

    options: Options
    bundle: Bundle
    opened: Opened
    session: Session
    skipped: SkippedFiles
    voice: Listener
    stop: StopFlag

    def solve(self) -> tuple[int, Score, Score | None]:
        """Look, solve, save; return how many pictures there were, and both scores."""
        manifest, dataset = self.bundle.manifest, self.opened.dataset
        classes, seed = len(dataset.class_names), self.opened.settings.seed
        buffer = np.empty((_BATCH, *manifest.feature.shape), np.float32)
        validation = None
        with open_parts(self._sources(), dataset, self.skipped) as parts:
            looked_at = [parts.train, parts.val] if dataset.drawn else [parts.train]
            found = [self._embed(part, buffer) for part in looked_at]
            labels = np.concatenate([one.labels for one in found])
            values = np.concatenate([one.values for one in found])
            fit = fit_ridge(values, labels, classes)
            self.session.load(with_head(self.session.state(), manifest, fit.head))
            answers = None
            if not dataset.drawn:
                familiar = familiar_of(values, labels, seed)
                total = len(parts.val.labels)
                others = look_at(
                    self.session,
                    parts.val,
                    familiar,
                    buffer,
                    lambda done: self._show("validating", done, total),
                )
                if len(others.labels):
                    validation = score_of(others.logits, others.labels, classes)
                answers = answers_of_others(others, familiar)
        held_out = score_of(fit.held_out, labels, classes)
        if answers is None:
            answers = answers_in_turn(values, labels, fit.held_out, seed)
        self._save(held_out, answers)
        return len(labels), held_out, validation

    def _embed(self, part: Pictures, buffer: Floats) -> Embeddings:
        rows = list(range(len(part.labels)))
        size = self.bundle.manifest.embedding.size
        show = partial(self._show, "embedding")
        return embed(self.session, size, part, rows, buffer, show)

    def _show(self, name: str, done: int, total: int) -> None:
        self.stop.raise_if_requested()
        self.voice.hear(Part(name, done, total))

    def _sources(self) -> SourcePlan:
        manifest = self.bundle.manifest
        memory = memory_path(self.opened.folder.path, manifest)
        return SourcePlan(
            session=self.session,
            manifest=manifest,
            views=ONLY_CENTRAL,
            micro_batch=self.opened.settings.micro_batch,
            cache=self._cache() if self.options.use_cache else None,
            memory=memory if memory.is_file() else None,
            kept=self.opened.kept,
        )

    def _save(self, held_out: Score, answers: Answers) -> None:
        info = StateInfo(
            fit=self.bundle.manifest.fit,
            class_names=self.opened.dataset.class_names,
            epoch=0,
            step=0,
            seed=self.opened.settings.seed,
            best_accuracy=held_out.accuracy,
            settings={"taught": asdict(self.opened.settings)},
            answers=answers,
            view=self.opened.dataset.view,
            role=BEST,
        )
        save_state(self.opened.folder.best, self.session.state(), info)

    def leave(self) -> None:
        """Leave behind what the next run may use, and what a person should see."""
        folder, manifest = self.opened.folder, self.bundle.manifest
        self.skipped.write(folder.skipped)
        cache = store_path(self._cache(), manifest)
        dataset, limit = self.opened.dataset, self.options.replay_bytes
        keep_memory(folder.path, manifest, cache, dataset, limit)
        if self.options.cache is None:
            with contextlib.suppress(OSError):
                cache.unlink()

    def _cache(self) -> Path:
        return self.options.cache or self.opened.folder.path
