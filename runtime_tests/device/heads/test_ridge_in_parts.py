"""Held-out answers in parts are those of the head that has all pictures in memory."""

from __future__ import annotations

import numpy as np
import pytest

from mobiletl.device.heads import ridge_in_parts
from mobiletl.device.heads.ridge import fit_ridge, solve_ridge
from mobiletl.device.heads.ridge_in_parts import held_out_in_parts

CLASSES = 3


def pictures(count: int, width: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Of classes of unequal size, far from the origin."""
    draws = np.random.default_rng(count)
    labels = np.minimum(np.arange(count) % 5, CLASSES - 1)
    centres = draws.normal(size=(CLASSES, width))
    x = 7 + centres[labels] + draws.normal(scale=0.9, size=(count, width))
    return x.astype(np.float32), labels


@pytest.mark.parametrize("count", [8, 60, 300])
def test_all_pictures_choosing_give_what_one_array_of_all_gives(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ridge_in_parts, "AT_ONCE", 16)
    x, labels = pictures(count)
    whole = fit_ridge(x, labels, CLASSES)
    found = held_out_in_parts(lambda rows: x[rows], labels, CLASSES, np.arange(count))
    # One takes the eigenvalues of P x P products where P is the smaller, so their mean differs.
    if count > x.shape[1]:
        assert found.penalty == pytest.approx(whole.penalty, rel=1e-4)
        np.testing.assert_allclose(found.logits, whole.held_out, rtol=1e-3, atol=5e-3)
    assert np.isfinite(found.logits).all()


def test_a_picture_is_answered_by_a_head_fitted_without_it() -> None:
    """As many heads as pictures; each class weighs the same in the fit to all, so it does here."""
    x, labels = pictures(45)
    x, labels = x[labels.argsort(kind="stable")], np.sort(labels)
    even = np.concatenate([np.flatnonzero(labels == k)[:9] for k in range(CLASSES)])
    x, labels = x[even], labels[even]
    found = held_out_in_parts(lambda rows: x[rows], labels, CLASSES, np.arange(27))
    ratios = []
    for left in range(27):
        rest = np.delete(np.arange(27), left)
        # A weight of 1 for each picture, as among all 27: classes are not balanced anew.
        centred, y = x[rest] - x[rest].mean(axis=0), np.eye(CLASSES)[labels[rest]] * 2 - 1
        gram = centred.T @ centred + found.penalty * np.eye(x.shape[1])
        weight = np.linalg.solve(gram, centred.T @ (y - y.mean(axis=0)))
        expected = (x[left] - x[rest].mean(axis=0)) @ weight + y.mean(axis=0)
        ratios.append(found.logits[left] / expected)
    # All logits have one scale.
    np.testing.assert_allclose(ratios, np.median(ratios), rtol=2e-2)


def test_some_pictures_choose_for_all() -> None:
    x, labels = pictures(300)
    found = held_out_in_parts(lambda rows: x[rows], labels, CLASSES, np.arange(0, 300, 7))
    accuracy = (found.logits.argmax(axis=1) == labels).mean()
    head = solve_ridge(x, labels, CLASSES, found.penalty)
    fitted = ((x @ head.weight.T + head.bias).argmax(axis=1) == labels).mean()
    assert fitted - 0.1 < accuracy <= fitted + 0.02
