"""Conjugate gradients find the head that the eigenvectors give, in less memory."""

from __future__ import annotations

import numpy as np
import pytest

from mobiletl.device.heads.many import solve_many
from mobiletl.device.heads.ridge import fit_ridge, solve_ridge


@pytest.mark.parametrize(("pictures", "size"), [(40, 90), (300, 24), (7, 3)])
@pytest.mark.parametrize("factor", [0.01, 1.0, 30.0])
def test_it_agrees_with_the_eigenvectors(pictures: int, size: int, factor: float) -> None:
    generator = np.random.default_rng(pictures)
    labels = np.sort(generator.integers(0, 3, pictures))
    labels[:3] = range(3)
    means = generator.normal(size=(3, size))
    x = (generator.normal(size=(pictures, size)) + means[labels] + 2.0).astype(np.float32)
    penalty = factor * fit_ridge(x, labels, 3).penalty
    expected, before = solve_ridge(x, labels, 3, penalty), x.copy()
    found = solve_many(x.copy(), labels, 3, penalty)
    scale = float(np.abs(before @ expected.weight.T).max())
    np.testing.assert_allclose(
        before @ found.weight.T + found.bias,
        before @ expected.weight.T + expected.bias,
        rtol=0,
        atol=5e-3 * scale,
    )
    assert found.weight.dtype == found.bias.dtype == np.float32


def test_embeddings_that_are_all_the_same() -> None:
    """Nothing can be told apart; every class is as likely."""
    head = solve_many(np.ones((6, 4), np.float32), np.array([0, 0, 0, 0, 1, 1]), 2, 1.0)
    assert not head.weight.any()
    np.testing.assert_allclose(head.bias, [0.0, 0.0], atol=1e-6)
