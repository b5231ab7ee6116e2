"""Scores of how much a picture looks like those of the classes, and the least that is accepted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobiletl.device.heads.unknown import (
    fit_familiar,
    fit_threshold,
    score,
    strangeness,
    student_quantile,
)


def embeddings(pictures: int, seed: int = 0, width: int = 60) -> np.ndarray:
    """Around a point, along 5 directions, and a little in all."""
    rng = np.random.default_rng(seed)
    along = np.random.default_rng(99).normal(size=(5, width))
    x = 3 + rng.normal(size=(pictures, 5)) @ along + 0.1 * rng.normal(size=(pictures, width))
    return x.astype(np.float32)


def test_directions_are_scikit_learns_principal_components() -> None:
    decomposition = pytest.importorskip("sklearn.decomposition")
    x = embeddings(50)
    familiar = fit_familiar(x, 5)
    expected = decomposition.PCA(5, svd_solver="full").fit(x)
    np.testing.assert_allclose(familiar.centre, expected.mean_, rtol=1e-5)
    overlap = np.abs((familiar.directions * expected.components_).sum(axis=1))
    np.testing.assert_allclose(overlap, 1.0, atol=1e-3)
    left = x - expected.inverse_transform(expected.transform(x))
    lengths = np.linalg.norm(left, axis=1) / np.linalg.norm(x, axis=1)
    np.testing.assert_allclose(strangeness(x, familiar), lengths, atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(0, 1000))
def test_rows_are_orthonormal_and_few(pictures: int, seed: int) -> None:
    familiar = fit_familiar(embeddings(pictures, seed))
    rows = familiar.directions
    assert len(rows) <= max(pictures // 3, 1)
    np.testing.assert_allclose(rows @ rows.T, np.eye(len(rows)), atol=2e-3)
    strange = strangeness(embeddings(7, seed + 1), familiar)
    assert (strange >= 0).all()
    assert np.isfinite(strange).all()


def test_pictures_all_alike_have_no_direction() -> None:
    familiar = fit_familiar(np.ones((6, 8), np.float32))
    assert familiar.directions.shape == (0, 8)
    assert strangeness(np.ones((2, 8), np.float32), familiar) == pytest.approx([0, 0])


def test_another_kind_of_picture_scores_lower() -> None:
    familiar = fit_familiar(embeddings(60))
    odd = embeddings(20, 5) + np.random.default_rng(1).normal(size=(20, 60)).astype(np.float32)
    logits = np.zeros((20, 3))
    usual = score(logits, strangeness(embeddings(20, 4), familiar), 1.0, 20.0)
    assert usual.min() > score(logits, strangeness(odd, familiar), 1.0, 20.0).max()


def test_a_lower_logit_scores_lower_the_less_the_hotter() -> None:
    logits, strange = np.array([[1.0, 4.0], [0.0, 2.0]]), np.zeros(2)
    assert score(logits, strange, 1.0, 20.0) == pytest.approx([4, 2])
    assert score(logits, strange, 2.0, 20.0) == pytest.approx([2, 1])


@pytest.mark.parametrize("pictures", [4, 8, 20, 99, 100, 400])
def test_the_stated_share_is_accepted_on_average(pictures: int) -> None:
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(300):
        threshold = fit_threshold(rng.normal(size=pictures), 0.95)
        assert threshold is not None
        shares.append((rng.normal(size=1000) >= threshold).mean())
    assert np.mean(shares) == pytest.approx(0.95, abs=0.012)


def test_many_scores_need_not_be_normal() -> None:
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(200):
        threshold = fit_threshold(-rng.exponential(size=200), 0.95)
        shares.append((-rng.exponential(size=1000) >= threshold).mean())
    assert np.mean(shares) == pytest.approx(0.95, abs=0.01)


def test_too_few_pictures_give_no_threshold() -> None:
    assert fit_threshold(np.zeros(3)) is None
    assert fit_threshold(np.zeros(4)) == 0.0


@pytest.mark.parametrize(("degrees", "value"), [(3, 2.3534), (5, 2.0150), (20, 1.7247)])
def test_quantiles_of_the_tables(degrees: int, value: float) -> None:
    assert student_quantile(0.95, degrees) == pytest.approx(value, rel=0.004)
