"""The end of a run: which state is kept of it, with which classifier, and how sure its answers are.

A run that began from a classifier in closed form is judged (solving/keeping.py): it keeps the
network it began with, the one halfway to its best epoch, or that of its best epoch, and a
classifier that is solved for anew. How well that does, and how sure it may be, is measured with one
that was solved for without the validation pictures. Any other run keeps its best epoch as it is.

All of this follows from what is on the disk, and is saved at once: a run that is stopped here does
it again when it is resumed.
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from typing import Any, Callable, Iterator, Mapping

from mobiletl.device.bundle.answers import Answers
from mobiletl.device.bundle.arrays import Floats
from mobiletl.device.bundle.bundle import Bundle
from mobiletl.device.bundle.state_file import BEST, LAST, open_state
from mobiletl.device.heads.calibration import Reals
from mobiletl.device.run.checkpoints import Position, RunFolder, Settings
from mobiletl.device.run.evaluation import Score, evaluate
from mobiletl.device.run.limits import RANDOM
from mobiletl.device.run.trainer import Job
from mobiletl.device.sessions.freed import return_all
from mobiletl.device.solving.answers import fit_answers, observe
from mobiletl.device.solving.closed_form import with_head
from mobiletl.device.solving.keeping import (
    SHARES,
    STANDARD_ERRORS,
    Examples,
    Mixed,
    Solution,
    losses,
    solve,
    solve_with_all,
    standard_errors,
)

CLOSED_FORM = "closed form"
NAMES = {0.0: CLOSED_FORM, 0.5: "halfway", 1.0: "best epoch"}


@dataclass(frozen=True)
class Kept:
    """What is kept, one of NAMES: the network of the beginning, the mean of it and of the best
    epoch's, or the latter.

    `score` is that of the validation pictures under a classifier that was solved for without them,
    with this `penalty` and `scale` (heads/ridge.py).
    """

    what: str
    score: Score
    penalty: float
    scale: float
    gain: float | None = None
    """By how many standard errors it was better than the one before it; where it is the first of
    them, the next one than it."""

    def document(self) -> dict[str, Any]:
        """What JSON says of it."""
        return {
            "what": self.what,
            "gain": self.gain,
            "accuracy": self.score.accuracy,
            **asdict(self.score),
        }


def kept_of(document: Mapping[str, Any]) -> Kept:
    """Read what a state says of it."""
    score = document["score"]
    return Kept(
        document["what"],
        Score(score["loss"], tuple(score["class_correct"]), tuple(score["class_seen"])),
        document["penalty"],
        document["scale"],
        document["gain"],
    )


# Called with a part's name, and pictures done and in all; may raise to stop.
Show = Callable[[str, int, int], None]


@dataclass(frozen=True)
class JudgedPictures:
    """`rows` are those of the training part, each picture once; `views` is how many of each judge.

    Where the validation part was `drawn` from the pictures, the classifier that is kept is solved
    for on it, too; one in a folder of its own is left alone.
    """

    rows: list[int]
    views: int
    seed: int
    drawn: bool


class Settling:
    """Settles one run, whose last epoch is trained."""

    def __init__(self, job: Job, bundle: Bundle, pictures: JudgedPictures, show: Show) -> None:
        """`job.session` may hold any state of the run."""
        self._job = job
        self._bundle = bundle
        self._drawn = pictures.drawn
        self._show = show
        self._examples = Examples(
            job.session,
            bundle.manifest.embedding.size,
            job.classes,
            job.train,
            job.val,
            pictures.rows,
            pictures.views,
            job.buffer,
            pictures.seed,
        )

    def settle(self, position: Position, judged: bool) -> tuple[Kept | None, Answers | None]:
        """Save what is kept, and return it with its answers; None where nothing could be found out.

        Whether it is `judged` at all follows from how the run began. Raises NoSpace, BadState.
        """
        job = self._job
        epoch = position.epoch if position.best is None else position.best.epoch
        document, known = job.checkpoints.ended(epoch)
        if document is not None or known is not None:
            return None if document is None else kept_of(document), known
        # All that a step takes is in memory still, so what this takes has to be free first.
        return_all()
        kept = None
        if judged:
            kept = self._judge(position, epoch)
        elif epoch != position.epoch:
            with job.checkpoints.open(BEST, epoch) as stored:
                job.session.load(stored)
        return_all()
        calibrating = self._progress("calibrating")
        one = self._examples
        seen = observe(job.session, one.size, job.train, job.val, one.seed, job.buffer, calibrating)
        closed = kept is not None and kept.what == CLOSED_FORM
        answers = None if seen is None else fit_answers(*seen, solved=closed)
        del seen
        return_all()
        if kept is not None and self._drawn:
            progress = self._progress("solving")
            head = solve_with_all(self._examples, kept.penalty, kept.scale, closed, progress)
            job.session.load(with_head(job.session.state(), self._bundle.manifest, head))
        if kept is not None or answers is not None:
            said = None if kept is None else asdict(kept)
            job.checkpoints.end(job.session.state(), said, answers, epoch)
            job.checkpoints.keep_began(None)
        return kept, answers

    def _judge(self, position: Position, epoch: int) -> Kept:
        """Load the network that is kept, with a classifier solved for on training pictures."""
        job, kept, gain = self._job, 0.0, None
        # Where no epoch looked better than the beginning, the last one is compared with it.
        kind, of = (BEST, epoch) if epoch else (LAST, position.epoch)
        with self._states(kind, of) as (began, trained):
            job.session.load(Mixed(began, trained, kept))
            found, before = self._compared()
            for share in SHARES:
                job.session.load(Mixed(began, trained, share))
                other, after = self._compared()
                more = standard_errors(before, after)
                if more < STANDARD_ERRORS:
                    gain = more if gain is None else gain
                    job.session.load(Mixed(began, trained, kept))
                    break
                kept, found, before, gain = share, other, after, more
        job.session.load(with_head(job.session.state(), self._bundle.manifest, found.head))
        score = evaluate(
            job.session,
            job.val.source,
            job.val.labels,
            job.classes,
            job.buffer,
            self._progress("evaluating"),
        )
        return Kept(NAMES[kept], score, found.penalty, found.scale, gain)

    def _compared(self) -> tuple[Solution, Reals]:
        found = solve(self._examples, self._progress("solving"))
        return found, losses(self._examples, found.head, self._progress("comparing"))

    @contextlib.contextmanager
    def _states(
        self, kind: str, epoch: int
    ) -> Iterator[tuple[Mapping[str, Floats], Mapping[str, Floats]]]:
        """Open the network that the run began with, and the trained one."""
        job = self._job
        with contextlib.ExitStack() as opened:
            trained = opened.enter_context(job.checkpoints.open(kind, epoch))
            file = job.checkpoints.folder.began
            if file.is_file():
                began, _ = open_state(file, self._bundle.manifest)
            else:
                began = self._bundle.open_state()
            opened.enter_context(began)
            yield _without_classes(began, self._bundle), trained

    def _progress(self, name: str) -> Callable[[int, int], None]:
        return lambda done, total: self._show(name, done, total)


def _without_classes(began: Mapping[str, Floats], bundle: Bundle) -> Mapping[str, Floats]:
    """Leave a classifier and slots out, which belong to the training."""
    taken = {
        entry.name
        for entry in bundle.manifest.state
        if entry.role != "slot" and "K" not in entry.shape
    }
    return _Part(began, taken & set(began))


class _Part(Mapping[str, Floats]):
    """Some entries of a state that is read when it is asked for."""

    def __init__(self, whole: Mapping[str, Floats], names: set[str]) -> None:
        self._whole = whole
        self._names = names

    def __getitem__(self, name: str) -> Floats:
        if name not in self._names:
            raise KeyError(name)
        return self._whole[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._whole if name in self._names)

    def __len__(self) -> int:
        return len(self._names)


def is_judged(bundle: Bundle, settings: Settings, folder: RunFolder) -> bool:
    """Whether a run began from a classifier that was solved for, and changes embeddings below it.

    What else a run may begin from is known by then: the bundle's state, or that in its folder.
    """
    trained = (entry for entry in bundle.manifest.state if entry.role != "slot")
    changes = bundle.manifest.classifier is not None and any("K" not in e.shape for e in trained)
    known = not settings.begins or folder.began.is_file()
    return changes and known and settings.start != RANDOM
