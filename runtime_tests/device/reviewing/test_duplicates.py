"""Copies: cropped, mirrored and brightened ones are found, other pictures are not."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mobiletl.device.reviewing import duplicates
from mobiletl.device.reviewing.duplicates import candidates, confirmed, grey_copy, likeness


def picture(seed: int, size: tuple[int, int] = (200, 150)) -> Image.Image:
    """Smooth blobs, as photographs have more of than of noise."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def test_copies_are_alike_and_others_are_not() -> None:
    original = picture(0)
    copies = {
        "same": original,
        "cropped": original.crop((8, 4, 192, 142)),
        "mirrored": original.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        "brighter": original.point(lambda value: min(value + 30, 255)),
        "smaller": original.resize((70, 52)),
    }
    grey = grey_copy(original)
    for name, copy in copies.items():
        assert likeness(grey, grey_copy(copy)) > duplicates.LEAST_CORRELATION, name
        assert likeness(grey, grey_copy(copy)) == pytest.approx(
            likeness(grey_copy(copy), grey), abs=0.02
        )
    for seed in range(1, 20):
        assert likeness(grey, grey_copy(picture(seed))) < duplicates.LEAST_CORRELATION


def test_a_picture_of_one_grey_is_like_none() -> None:
    flat = np.full((64, 64), 7, np.uint8)
    assert likeness(flat, flat) == 0
    assert likeness(flat, grey_copy(picture(0))) == 0


def cosines(x: np.ndarray) -> np.ndarray:
    roots = np.sqrt(x.astype(np.float64))
    centred = roots - roots.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    return centred @ centred.T


@pytest.mark.parametrize("at_once", [7, 1000])
def test_candidates_are_the_close_ones(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_AT_ONCE", at_once)
    draws = np.random.default_rng(0)
    x = draws.random((60, 40)).astype(np.float32)
    x[41] = x[3] * 1.02
    x[50] = x[49]
    labels = np.arange(60) % 3
    expected = np.argwhere(np.triu(cosines(x) >= duplicates.LEAST_COSINE, 1))
    found = candidates(x, labels)
    assert {pair[:2] for pair in found} == {tuple(row) for row in expected}
    assert {(3, 41), (49, 50)} <= {pair[:2] for pair in found}
    assert found == sorted(found, key=lambda pair: -pair[2])


def test_where_classes_are_alike_more_is_asked() -> None:
    """Pictures of two classes that are close show how close pictures are that are no copies."""
    draws = np.random.default_rng(0)
    kinds = draws.random((4, 40))
    x = (kinds[np.arange(80) // 20] + 0.35 * draws.random((80, 40))).astype(np.float32)
    x[1] = x[0]
    of_kind = candidates(x, np.arange(80) // 20)
    # The same pictures, but of each kind there are two classes.
    mixed = candidates(x, np.arange(80) % 2)
    assert len(mixed) < len(of_kind) / 3
    assert mixed[0][:2] == (0, 1)
    assert mixed[0][2] >= duplicates.MOST_COSINE


def test_candidates_are_confirmed_by_pixels() -> None:
    greys = {0: grey_copy(picture(0)), 1: grey_copy(picture(0)), 2: grey_copy(picture(2)), 3: None}
    pairs = confirmed([(0, 2, 0.9), (0, 1, 0.8), (0, 3, 0.7)], greys.__getitem__)
    assert [(pair.first, pair.second) for pair in pairs] == [(0, 1)]
    assert pairs[0].correlation == pytest.approx(1, abs=1e-5)
