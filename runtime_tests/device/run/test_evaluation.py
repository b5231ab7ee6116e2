"""Scores against sums written out by hand."""

from __future__ import annotations

from typing import Sequence

import numpy as np
import pytest

from mobiletl.device.bundle.arrays import Floats, Labels, Tensors
from mobiletl.device.features.live import FeatureSource
from mobiletl.device.heads.softmax import log_softmax
from mobiletl.device.run.evaluation import Score, cross_entropy, evaluate
from mobiletl.device.sessions.session import Embedded, Session, StepResult


class Table(FeatureSource):
    """Row r has the feature map r; row 3 is unreadable."""

    def fill(self, rows: Sequence[int], epoch: int, out: Floats) -> list[int]:
        written = [row for row in rows if row != 3]
        out[: len(written), 0, 0, 0] = written
        return written

    def close(self) -> None:
        pass


class Parity(Session):
    """Logits that favour class (row mod 2) by the row's number."""

    def features(self, images: Floats) -> Floats:
        raise AssertionError("not needed")

    def train_step(self, h: Floats, labels: Labels, lr: float) -> StepResult:
        raise AssertionError("not needed")

    def embed(self, h: Floats) -> Embedded:
        row = h[:, 0, 0, 0]
        logits = np.zeros((len(h), 3), np.float32)
        logits[np.arange(len(h)), row.astype(int) % 2] = row
        return Embedded(logits, h[:, :, 0, 0])

    def state(self) -> Tensors:
        return {}

    def load(self, state: Tensors) -> None:
        raise AssertionError("not needed")

    def close(self) -> None:
        pass


@pytest.mark.parametrize("batch", [1, 2, 4, 16])
def test_score_does_not_depend_on_the_batch(batch: int) -> None:
    labels = np.array([0, 1, 1, 0, 0, 2], np.int64)
    calls: list[int] = []
    score = evaluate(
        Parity(),
        Table(),
        labels,
        3,
        np.empty((batch, 1, 1, 1), np.float32),
        lambda done, total: calls.append(done),
    )
    # Row 3 is left out; rows 0, 1 and 4 are right, row 2 says 0, row 5 says 1.
    assert score.class_seen == (2, 2, 1)
    assert score.class_correct == (2, 1, 0)
    assert score.accuracy == 0.6
    rows = ((0, 0), (1, 1), (2, 1), (4, 0), (5, 2))
    losses = [np.log(np.exp(r) + 2) - (r if r % 2 == k else 0) for r, k in rows]
    assert score.loss == pytest.approx(np.mean(losses), rel=1e-12)
    assert calls == list(range(0, 6, batch))


def test_large_logits_do_not_overflow() -> None:
    logits = np.array([[1e30, 0, -1e30], [88, 89, 90]], np.float32)
    found = cross_entropy(logits, np.array([0, 2]))
    np.testing.assert_allclose(found, [0, np.log(np.exp([-2.0, -1.0, 0.0]).sum())], rtol=1e-6)
    np.testing.assert_allclose(np.exp(log_softmax(logits)).sum(axis=1), 1, rtol=1e-12)


def test_broken_logits_give_a_broken_loss() -> None:
    logits = np.array([[np.nan, 0], [np.inf, 0]], np.float32)
    assert not np.isfinite(cross_entropy(logits, np.array([0, 0]))).any()


def test_no_picture_at_all() -> None:
    assert Score(0.0, (0, 0), (0, 0)).accuracy == 0.0
