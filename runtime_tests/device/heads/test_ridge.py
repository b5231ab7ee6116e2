"""The closed form against a plain solution of the normal equations, with no code in common."""

import numpy as np
import pytest

from mobiletl.device.heads.ridge import fit_ridge

CLASSES = 3


def blobs(per_class, size, seed=0, spread=1.0):
    """Pictures around a centre per class: embeddings f32[P,D] and labels i64[P]."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(CLASSES, size))
    labels = np.repeat(np.arange(CLASSES), per_class)
    noise = generator.normal(size=(len(labels), size)) * spread
    return (centres[labels] + noise).astype(np.float32), labels


def plain(x, labels, penalty, scale):
    """Weighted ridge with an unpenalised intercept, by the normal equations of [x, 1]."""
    counts = np.bincount(labels, minlength=CLASSES)
    weights = len(labels) / (CLASSES * counts[labels])
    y = np.where(labels[:, None] == np.arange(CLASSES), 1.0, -1.0)
    one = np.hstack([x.astype(np.float64), np.ones((len(x), 1))])
    ridge = penalty * np.eye(one.shape[1])
    ridge[-1, -1] = 0.0
    solved = np.linalg.solve(
        one.T @ (weights[:, None] * one) + ridge, one.T @ (weights[:, None] * y)
    )
    return solved[:-1].T * scale, solved[-1] * scale


@pytest.mark.parametrize(("per_class", "size"), [(4, 40), (30, 8)], ids=["dual", "primal"])
def test_it_solves_the_normal_equations(per_class, size):
    x, labels = blobs(per_class, size)
    fit = fit_ridge(x, labels, CLASSES)
    weight, bias = plain(x, labels, fit.penalty, fit.scale)
    np.testing.assert_allclose(fit.head.weight, weight, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(fit.head.bias, bias, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("per_class", "size"), [(5, 40), (30, 8)], ids=["dual", "primal"])
def test_held_out_answers_are_those_of_a_head_fitted_without_the_picture(per_class, size):
    x, labels = blobs(per_class, size)
    fit = fit_ridge(x, labels, CLASSES)
    weights = len(labels) / (CLASSES * np.bincount(labels)[labels])
    for left_out in (0, per_class, len(labels) - 1):
        others = np.arange(len(labels)) != left_out
        y = np.where(labels[:, None] == np.arange(CLASSES), 1.0, -1.0)
        one = np.hstack([x.astype(np.float64), np.ones((len(x), 1))])
        ridge = fit.penalty * np.eye(one.shape[1])
        ridge[-1, -1] = 0.0
        # The weights stay what they were: there is one picture less, and no other difference.
        kept = weights[others][:, None]
        solved = np.linalg.solve(
            one[others].T @ (kept * one[others]) + ridge, one[others].T @ (kept * y[others])
        )
        np.testing.assert_allclose(
            fit.held_out[left_out], one[left_out] @ solved * fit.scale, rtol=1e-3, atol=1e-3
        )


def test_logits_are_calibrated_on_new_pictures():
    x, labels = blobs(200, 16, spread=3.0)
    fit = fit_ridge(x, labels, CLASSES)
    new, truth = blobs(2000, 16, seed=1, spread=3.0)
    logits = new @ fit.head.weight.T + fit.head.bias
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    right = (logits.argmax(1) == truth).mean()
    assert 0.5 < right < 0.95
    assert abs(shares.max(1).mean() - right) < 0.03


def test_a_class_with_few_pictures_counts_as_much_as_the_others():
    x, labels = blobs(60, 8, spread=2.0)
    kept = np.r_[0:60, 60:65, 120:180]
    fit = fit_ridge(x[kept], labels[kept], CLASSES)
    new, truth = blobs(500, 8, seed=2, spread=2.0)
    found = (new @ fit.head.weight.T + fit.head.bias).argmax(1)
    rare = truth == 1
    assert (found[rare] == 1).mean() > 0.5


def test_pictures_that_are_all_right_give_no_certainty():
    x, labels = blobs(3, 64, spread=0.01)
    fit = fit_ridge(x, labels, CLASSES)
    logits = x @ fit.head.weight.T + fit.head.bias
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    assert 0.8 < shares.max(1).min() < 0.9999


@pytest.mark.parametrize("size", [1, 5])
def test_embeddings_that_are_all_the_same_are_no_error(size):
    x = np.ones((6, size), np.float32)
    fit = fit_ridge(x, np.array([0, 0, 1, 1, 2, 2]), CLASSES)
    assert np.isfinite(fit.head.weight).all()
    assert np.isfinite(fit.held_out).all()


def test_one_picture_per_class_is_enough():
    x, labels = blobs(1, 30, spread=0.1)
    fit = fit_ridge(x, labels, CLASSES)
    assert ((x @ fit.head.weight.T + fit.head.bias).argmax(1) == labels).all()
