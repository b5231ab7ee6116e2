"""Some of many pictures, of every class as many. Letter: P pictures."""

from __future__ import annotations

from typing import Sequence

import numpy as np

from mobiletl.device.bundle.arrays import Labels

_STREAM = 0x72766577


def balanced_rows(labels: Labels, rows: Sequence[int], seed: int, most: int) -> list[int]:
    """Choose from `rows` of `labels` [P], sorted: all, or `most` of them.

    Of every class there are as many, as far as it has them, and one at least: there are more than
    `most` where there are more classes.
    """
    shuffled = np.asarray(rows)[np.random.default_rng((_STREAM, seed)).permutation(len(rows))]
    # A picture's turn: how many of its class come before it.
    turns = np.empty(len(shuffled), np.int64)
    # Labels are small numbers; np.unique would import 1.3 MB of masked arrays.
    classes = np.flatnonzero(np.bincount(labels[shuffled]))
    for label in classes:
        mine = labels[shuffled] == label
        turns[mine] = np.arange(mine.sum())
    taken = shuffled[np.argsort(turns, kind="stable")][: max(most, len(classes))]
    return sorted(int(row) for row in taken)
