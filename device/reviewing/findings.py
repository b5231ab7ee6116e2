"""All that a review finds out, as one object, and as JSON.

Letters: P pictures, K classes.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Sequence

import numpy as np

from mobiletl.device.bundle.arrays import Floats, Labels, Pixels
from mobiletl.device.heads.softmax import softmax
from mobiletl.device.pictures.dataset import Picture, Skipped
from mobiletl.device.reviewing.curve import Curve, learning_curve, sentence
from mobiletl.device.reviewing.duplicates import ALIKE, Pair, candidates, confirmed
from mobiletl.device.reviewing.evidence import contradicted, held_out
from mobiletl.device.reviewing.looking import Looked
from mobiletl.device.reviewing.opened import Opened
from mobiletl.device.reviewing.scores import Share, confusion, shares, worst
from mobiletl.device.reviewing.thumbnails import grey_of

TRAIN, VAL = "train", "val"
# Candidates of copies whose pictures are decoded to confirm them.
MOST_CONFIRMED = 4000


@dataclass(frozen=True)
class Answer:
    """What was said of a picture, with what probability, and what its own label got."""

    picture: Picture
    part: str
    label: str
    said: str
    probability: float
    label_probability: float


@dataclass(frozen=True)
class Copies:
    """Two pictures that are nearly the same, and the parts they are in."""

    first: Picture
    second: Picture
    parts: tuple[str, str]
    labels: tuple[str, str]
    pair: Pair

    @property
    def across(self) -> bool:
        """Whether one trains and the other validates."""
        return self.parts[0] != self.parts[1]


@dataclass(frozen=True)
class ClassFinding:
    """How one class fares: pictures of both parts, the best state, and held-out answers."""

    name: str
    train: int
    val: int
    best: Share
    held_out: Share


@dataclass(frozen=True)
class Findings:
    """What there is to say of a run."""

    opened: Opened
    pictures: tuple[int, int]
    """To train and to validate on."""
    computed: int
    best: Share
    """Of the validation pictures, by which the best epoch was chosen."""
    held_out: Share
    """Of all pictures, each by a closed-form head that was fitted without it."""
    classes: tuple[ClassFinding, ...]
    confusion: Labels
    """i64[K,K]"""
    worst: tuple[Answer, ...]
    """Of the validation pictures, the worst first."""
    suspects: tuple[Answer, ...]
    """All pictures whose held-out answer is another class, the most contradicted first."""
    copies: tuple[Copies, ...]
    unconfirmed: int
    """Candidates of copies that were too many to look at."""
    alike: bool
    """Whether even pictures of two classes are so alike that copies are hard to tell."""
    curve: Curve
    skipped: tuple[Skipped, ...]

    @property
    def sentence(self) -> str:
        """What the learning curve says."""
        return sentence(self.curve, self.opened.dataset.class_names)

    def document(self, page: Path) -> dict[str, Any]:
        """Return it for a program; docs/review.md is the schema."""
        opened = self.opened
        return {
            "version": 1,
            "run": str(opened.folder.path),
            "bundle": str(opened.bundle.path),
            "data": str(opened.dataset.root),
            "state": str(opened.state),
            "page": str(page),
            "epoch": opened.info.epoch,
            "notes": list(opened.notes),
            "pictures": {
                TRAIN: self.pictures[0],
                VAL: self.pictures[1],
                "computed": self.computed,
                "skipped": [asdict(entry) for entry in self.skipped],
            },
            "accuracy": {"best": _share(self.best), "held_out": _share(self.held_out)},
            "classes": [self._class(label) for label in range(len(self.classes))],
            "confusion": self.confusion.tolist(),
            "worst": [_answer(answer) for answer in self.worst],
            "suspects": [_answer(answer) for answer in self.suspects],
            "duplicates": {
                **counted(self.copies),
                "alike": self.alike,
                "pairs": [_copies(c) for c in self.copies],
            },
            "curve": {
                "shares": list(self.curve.shares),
                "pictures": list(self.curve.pictures),
                "accuracy": _numbers(self.curve.accuracy),
                "sentence": self.sentence,
            },
        }

    def _class(self, label: int) -> dict[str, Any]:
        found, curve = self.classes[label], self.curve.classes[label]
        gain, error = _numbers((curve.gain, curve.error))
        return {
            "name": found.name,
            TRAIN: found.train,
            VAL: found.val,
            "best": _share(found.best),
            "held_out": _share(found.held_out),
            "curve": _numbers(curve.accuracy),
            "gain": gain,
            "gain_error": error,
            "verdict": curve.verdict,
        }


def find(opened: Opened, looked: Looked) -> Findings:
    """Work out everything from what was looked at; small copies of a few pictures are decoded."""
    names, labels = opened.dataset.class_names, looked.labels
    classes = len(names)
    evidence = held_out(looked.described, labels, classes)
    validating = np.arange(looked.training, len(labels))
    said = softmax(looked.logits).astype(np.float32)
    counts = confusion(labels[validating], said[validating].argmax(axis=1), classes)
    best, of_class = shares(counts)
    by_head = confusion(labels, evidence.probabilities.argmax(axis=1), classes)
    all_held_out, held_of_class = shares(by_head)
    features = evidence.kernel.features(looked.described.parts(evidence.rows))
    curve = learning_curve(features, labels[evidence.rows], classes, evidence.penalty)
    near = candidates(looked.described.embeddings)
    copies, least = _find_copies(opened, looked, near[:MOST_CONFIRMED])
    trains = np.bincount(labels[: looked.training], minlength=classes)
    ranked = contradicted(evidence.probabilities, labels)
    suspects = [row for row in ranked if evidence.probabilities[row].argmax() != labels[row]]
    return Findings(
        opened=opened,
        pictures=(looked.training, len(validating)),
        computed=looked.computed,
        best=best,
        held_out=all_held_out,
        classes=tuple(
            ClassFinding(name, int(trains[k]), of_class[k].total, of_class[k], held_of_class[k])
            for k, name in enumerate(names)
        ),
        confusion=counts,
        worst=tuple(
            _answered(looked, names, said, looked.training + row)
            for row in worst(said[validating], labels[validating])
        ),
        suspects=tuple(_answered(looked, names, evidence.probabilities, row) for row in suspects),
        copies=copies,
        unconfirmed=max(len(near) - MOST_CONFIRMED, 0),
        alike=least > ALIKE,
        curve=curve,
        skipped=looked.skipped,
    )


def counted(copies: Sequence[Copies]) -> dict[str, int]:
    """Count pairs by where their pictures are, and those with two labels."""
    within = [copy.parts[0] for copy in copies if not copy.across]
    return {
        "across": len(copies) - len(within),
        "within_train": within.count(TRAIN),
        "within_val": within.count(VAL),
        "two_labels": sum(copy.labels[0] != copy.labels[1] for copy in copies),
    }


def _answered(looked: Looked, names: Sequence[str], shares: Floats, row: int) -> Answer:
    label, said = int(looked.labels[row]), int(shares[row].argmax())
    return Answer(
        looked.pictures[row],
        _part(looked, row),
        names[label],
        names[said],
        float(shares[row, said]),
        float(shares[row, label]),
    )


def _part(looked: Looked, row: int) -> str:
    return TRAIN if row < looked.training else VAL


def _find_copies(
    opened: Opened, looked: Looked, near: list[tuple[int, int, float]]
) -> tuple[tuple[Copies, ...], float]:
    """Return which of `near` are copies, those between the parts first, and how alike they are."""
    pictures, names = looked.pictures, opened.dataset.class_names
    kept: dict[int, Pixels | None] = {}

    def grey(row: int) -> Pixels | None:
        if row not in kept:
            kept[row] = grey_of(opened.dataset.root / pictures[row].path)
        return kept[row]

    pairs, least = confirmed(near, looked.labels, grey)
    copies = [
        Copies(
            pictures[pair.first],
            pictures[pair.second],
            (_part(looked, pair.first), _part(looked, pair.second)),
            (names[pictures[pair.first].label], names[pictures[pair.second].label]),
            pair,
        )
        for pair in pairs
    ]
    copies.sort(key=lambda copy: not copy.across)
    return tuple(copies), least


def _share(share: Share) -> dict[str, Any]:
    return {
        "right": share.right,
        "total": share.total,
        "share": share.share,
        "low": share.low,
        "high": share.high,
    }


def _answer(answer: Answer) -> dict[str, Any]:
    return {
        "path": answer.picture.path,
        "part": answer.part,
        "label": answer.label,
        "said": answer.said,
        "probability": answer.probability,
        "label_probability": answer.label_probability,
    }


def _copies(copies: Copies) -> dict[str, Any]:
    return {
        "paths": [copies.first.path, copies.second.path],
        "parts": list(copies.parts),
        "labels": list(copies.labels),
        "cosine": copies.pair.cosine,
        "correlation": copies.pair.correlation,
    }


def _numbers(values: Sequence[float]) -> list[float | None]:
    """JSON knows no number that is none."""
    return [None if math.isnan(value) else float(value) for value in values]
