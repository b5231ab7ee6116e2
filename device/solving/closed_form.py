"""The classifier a run begins with: solved for on the embeddings of its own pictures.

Letters: P pictures, D numbers in an embedding, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

import numpy as np

from mobiletl.device.bundle.arrays import Floats, Labels, Tensors
from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.features.parts import Pictures
from mobiletl.device.heads.ridge import Head, RidgeFit, fit_ridge
from mobiletl.device.sessions.freed import return_all
from mobiletl.device.sessions.session import Session

# So many pictures are enough to begin training from, and solving for them takes less memory than a
# step: 7 MB for 256 pictures of 1280 numbers, 18 MB for 512.
MOST_PICTURES = 256
# Calibrated logits leave little to learn where all pictures are right already. Smaller ones say the
# same, less surely, and training gains more (docs/defaults.md).
START_SCALE = 0.1

# Called with pictures done and in all; may raise to stop.
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Embeddings:
    """Embeddings f32[P,D] and labels i64[P] of the pictures that could be decoded, by row."""

    values: Floats
    labels: Labels
    rows: list[int]


def embed(
    session: Session,
    size: int,
    pictures: Pictures,
    rows: list[int],
    buffer: Floats,
    on_progress: OnProgress,
    out: Floats | None = None,
) -> Embeddings:
    """Embed the central crops of `rows` in D = `size` numbers, in batches of `buffer`
    f32[N,C,h,w]; into the first rows of `out` f32[.,D], if that is given.
    """
    values = np.empty((len(rows), size), np.float32) if out is None else out
    seen: list[int] = []
    for start in range(0, len(rows), len(buffer)):
        on_progress(start, len(rows))
        written = pictures.source.fill(rows[start : start + len(buffer)], 0, buffer)
        if written:
            found = session.embed(buffer[: len(written)]).embeddings
            values[len(seen) : len(seen) + len(written)] = found
            seen += written
    on_progress(len(rows), len(rows))
    return Embeddings(values[: len(seen)], pictures.labels[seen], seen)


def load_head(
    session: Session,
    manifest: Manifest,
    pictures: Pictures,
    rows: list[int],
    classes: int,
    buffer: Floats,
    on_progress: OnProgress,
) -> RidgeFit | None:
    """Give `session` a closed-form classifier of the pictures `rows` to begin training from.

    Returns None, and changes nothing, for a network whose classifier has no bias.
    """
    if manifest.classifier is None:
        return None
    size = manifest.embedding.size
    found = embed(session, size, pictures, rows, buffer, on_progress)
    fit = fit_ridge(found.values, found.labels, classes)
    session.load(with_head(session.state(), manifest, fit.head, START_SCALE))
    # What solving took is free again, but scattered, and training comes on top of it.
    del found
    return_all()
    return fit


def with_head(state: Tensors, manifest: Manifest, head: Head, scale: float = 1.0) -> Tensors:
    """Return `state` with the classifier of `head`, its logits times `scale`."""
    assert manifest.classifier is not None
    weight, bias = manifest.classifier
    factor = np.float32(scale)
    return {**state, weight: head.weight * factor, bias: head.bias * factor}
