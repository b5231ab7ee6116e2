"""A classifier that was solved for on embeddings, with how sure it may be.

Letters: P pictures, D numbers in an embedding, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np

from mobiletl.device.bundle.answers import Answers
from mobiletl.device.bundle.arrays import Floats, Labels
from mobiletl.device.errors import BadPictures
from mobiletl.device.heads.ridge import Head, fit_ridge
from mobiletl.device.pictures.balanced import balanced_rows
from mobiletl.device.solving.answers import answers_in_turn
from mobiletl.device.starting import multiplying


@dataclass(frozen=True)
class Solved:
    """A head, its classes, and what it is worth on pictures that it was solved for without."""

    head: Head
    class_names: tuple[str, ...]
    answers: Answers
    accuracy: float
    """The share of pictures that is right, each held out in turn."""
    pictures: int
    """How many it was solved for with."""


def solve_for(
    embeddings: Sequence[Floats], names: Sequence[str], seed: int = 0, most: int | None = None
) -> Solved:
    """Solve for a classifier of P `embeddings` f32[D] of classes called `names`.

    `most` bounds how many pictures are used, as many of each class as there are. Raises BadPictures
    for fewer than two classes.
    """
    classes = tuple(sorted(set(names)))
    if len(classes) < 2:
        raise BadPictures(
            f"pictures of {len(classes)} class(es) are known, and a classifier needs two or more"
        )
    place = {name: label for label, name in enumerate(classes)}
    labels: Labels = np.array([place[name] for name in names], np.int64)
    rows = list(range(len(labels)))
    if most is not None and len(rows) > most:
        rows = balanced_rows(labels, rows, seed, most)
        labels = labels[rows]
    values = np.stack([embeddings[row] for row in rows])
    fit = fit_ridge(values, labels, len(classes))
    return Solved(
        head=fit.head,
        class_names=classes,
        answers=answers_in_turn(values, labels, fit.held_out, seed),
        accuracy=float((fit.held_out.argmax(axis=1) == labels).mean()),
        pictures=len(labels),
    )


def logits_of(head: Head, embeddings: Floats) -> Floats:
    """Return what `head` says f32[P,K] of `embeddings` f32[P,D]."""
    with multiplying():
        return embeddings @ head.weight.T + head.bias
