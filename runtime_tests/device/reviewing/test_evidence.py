"""Held-out answers: what a head fitted without a picture says of it, and planted wrong labels."""

from __future__ import annotations

import numpy as np
import pytest

from mobiletl.device.heads.ridge import fit_ridge, solve_ridge
from mobiletl.device.reviewing import evidence
from mobiletl.device.reviewing.evidence import contradicted, held_out
from mobiletl.device.reviewing.kernel import (
    LEAST_EIGENVALUE,
    SHARPNESS,
    WEIGHTS,
    Described,
    channel_statistics,
    fit_kernel,
    rooted,
)

CLASSES = 4


def clusters(count: int, seed: int = 0) -> tuple[Described, np.ndarray]:
    draws = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES

    def part(width: int) -> np.ndarray:
        centres = draws.normal(size=(CLASSES, width))
        values = centres[labels] + draws.normal(scale=0.4, size=(count, width))
        return np.maximum(values, 0).astype(np.float32)

    return Described(part(12), part(5), part(5)), labels


def alike(count: int) -> Described:
    return Described(*(np.ones((count, width), np.float32) for width in (3, 2, 2)))


def test_products_of_features_are_the_sum_of_kernels() -> None:
    described, _ = clusters(40)
    parts = described.parts(slice(None))
    kernel = fit_kernel(parts)
    expected = np.zeros((40, 40))
    for x, scale, weight in zip(parts, kernel.scales, WEIGHTS):
        squared = ((x[:, None].astype(np.float64) - x) ** 2).sum(axis=2)
        # At the median distance a kernel is exp(-SHARPNESS).
        between = np.median(squared[np.triu_indices(40, 1)])
        assert scale * SHARPNESS == pytest.approx(between, rel=1e-4)
        expected += weight * np.exp(-squared / scale)
    found = kernel.features(parts)
    np.testing.assert_allclose(found @ found.T, expected, atol=50 * LEAST_EIGENVALUE)


def test_statistics_are_of_channels() -> None:
    maps = np.random.default_rng(0).normal(size=(5, 3, 4, 4)).astype(np.float32)
    means, deviations = channel_statistics(maps)
    np.testing.assert_allclose(means, maps.mean(axis=(2, 3)), atol=1e-6)
    np.testing.assert_allclose(deviations, maps.std(axis=(2, 3)), atol=1e-6)
    assert means.dtype == deviations.dtype == np.float32


def test_roots_keep_signs() -> None:
    np.testing.assert_array_equal(rooted(np.array([[4.0, -9.0, 0.0]], np.float32)), [[2, -3, 0]])


def test_pictures_that_are_all_the_same_are_answered() -> None:
    found = held_out(alike(6), np.array([0, 1, 0, 1, 0, 1]), 2)
    assert np.isfinite(found.probabilities).all()


def test_a_class_without_pictures_is_hardly_likely() -> None:
    x, labels = clusters(40)
    found = held_out(x, labels, CLASSES + 1)
    assert np.isfinite(found.probabilities).all()
    assert (found.probabilities.argmax(axis=1) != CLASSES).all()


def test_a_known_penalty_gives_the_head_that_was_chosen() -> None:
    described, labels = clusters(60)
    x = described.embeddings
    fit = fit_ridge(x, labels, CLASSES)
    head = solve_ridge(x, labels, CLASSES, fit.penalty)
    np.testing.assert_allclose(head.weight * fit.scale, fit.head.weight, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(head.bias * fit.scale, fit.head.bias, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("most", [1024, 50])
def test_planted_wrong_labels_come_first(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where most pictures are no landmarks."""
    monkeypatch.setattr(evidence, "MOST_LANDMARKS", most)
    described, truth = clusters(160, seed=3)
    wrong = np.array([5, 30, 77, 99, 120, 143])
    labels = truth.copy()
    labels[wrong] = (truth[wrong] + 1) % CLASSES
    found = held_out(described, labels, CLASSES)
    ranked = contradicted(found.probabilities, labels)
    assert sorted(ranked) == list(range(160))
    assert set(ranked[:8]) >= set(wrong.tolist())
    assert len(found.rows) == min(most, 160)
