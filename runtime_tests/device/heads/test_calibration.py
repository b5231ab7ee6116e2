"""A temperature from held-out pictures, and how far probabilities are off."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobiletl.device.heads.calibration import (
    SOLVED_PRIOR,
    TRAINED_PRIOR,
    Prior,
    Reals,
    calibration_error,
    errors_by_chance,
    fit_temperature,
)
from mobiletl.device.heads.search import least
from mobiletl.device.heads.softmax import softmax


def drawn(pictures: int, classes: int, temperature: float, seed: int = 0) -> tuple[Reals, Reals]:
    """Logits that are too large by `temperature`, and labels that the true ones draw."""
    rng = np.random.default_rng(seed)
    true = rng.normal(0, 2, (pictures, classes))
    gumbel = rng.gumbel(size=true.shape)
    return true * temperature, (true + gumbel).argmax(axis=1)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_it_finds_what_the_logits_were_multiplied_by(temperature: float) -> None:
    logits, labels = drawn(5000, 5, temperature)
    found = fit_temperature(logits, labels.astype(np.int64), TRAINED_PRIOR)
    assert found == pytest.approx(temperature, rel=0.06)
    assert calibration_error(logits / found, labels.astype(np.int64)) < 0.02


def test_a_few_pictures_all_right_are_no_proof() -> None:
    logits = 6.0 * np.eye(4)
    found = fit_temperature(logits, np.arange(4), Prior(1.0, 0.5))
    assert 0.3 < found <= 1.0


@pytest.mark.parametrize("prior", [TRAINED_PRIOR, SOLVED_PRIOR])
def test_without_pictures_it_is_what_is_expected(prior: Prior) -> None:
    found = fit_temperature(np.zeros((0, 4)), np.zeros(0, np.int64), prior)
    assert found == pytest.approx(prior.centre, abs=0.01)


def test_a_narrow_prior_moves_less() -> None:
    logits, labels = drawn(30, 5, 3.0)
    wide, narrow = (
        fit_temperature(logits, labels.astype(np.int64), Prior(1.0, width)) for width in (0.5, 0.2)
    )
    assert 1.0 < narrow < wide < 3.5


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 40), st.integers(2, 6))
def test_no_label_changes(seed: int, pictures: int, classes: int) -> None:
    logits, labels = drawn(pictures, classes, 2.0, seed)
    found = fit_temperature(logits, labels.astype(np.int64), TRAINED_PRIOR)
    assert 0.05 <= found <= 20.0
    assert np.array_equal((logits / found).argmax(axis=1), logits.argmax(axis=1))


def test_the_error_is_the_mean_gap_of_scikit_learns_curve() -> None:
    calibration = pytest.importorskip("sklearn.calibration")
    logits, labels = drawn(3000, 2, 2.5)
    shares = softmax(logits)
    sure, right = shares.max(axis=1), shares.argmax(axis=1) == labels
    true, said = calibration.calibration_curve(right, sure, n_bins=15, strategy="uniform")
    counts = np.histogram(sure, np.linspace(0, 1, 16))[0]
    expected = float((counts[counts > 0] * np.abs(true - said)).sum() / len(labels))
    assert calibration_error(logits, labels.astype(np.int64)) == pytest.approx(expected, abs=1e-9)


def test_certain_and_right_is_no_error() -> None:
    assert calibration_error(100 * np.eye(3), np.arange(3)) == pytest.approx(0.0, abs=1e-9)
    assert calibration_error(100 * np.eye(3), np.array([1, 2, 0])) == pytest.approx(1.0)


@pytest.mark.parametrize("pictures", [40, 400])
def test_errors_by_chance_are_those_of_probabilities_that_are_true(pictures: int) -> None:
    logits, _ = drawn(pictures, 4, 1.0)
    found = errors_by_chance(logits)
    again = np.random.default_rng(5)
    labels = [(logits + again.gumbel(size=logits.shape)).argmax(axis=1) for _ in range(200)]
    expected = [calibration_error(logits, some.astype(np.int64)) for some in labels]
    assert found.mean() == pytest.approx(np.mean(expected), rel=0.06)
    assert np.quantile(found, 0.95) == pytest.approx(np.quantile(expected, 0.95), rel=0.15)
    np.testing.assert_array_equal(found, errors_by_chance(logits))


def test_the_search_finds_a_valley() -> None:
    place, value = least(lambda x: (x - math.e) ** 2 + 1, 0.0, 10.0)
    assert place == pytest.approx(math.e, abs=0.01)
    assert value == pytest.approx(1.0, abs=1e-4)
