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
    expected = set()
    for row, line in enumerate(cosines(x)):
        near = [int(other) for other in np.argsort(-line) if other != row][: duplicates.NEAREST]
        expected |= {
            (min(row, other), max(row, other))
            for other in near
            if line[other] >= duplicates.LEAST_COSINE
        }
    found = candidates(x)
    assert {pair[:2] for pair in found} == expected
    assert {(3, 41), (49, 50)} <= expected
    assert found == sorted(found, key=lambda pair: -pair[2])


def test_where_classes_are_alike_more_is_asked() -> None:
    """Pictures of two classes that are alike show how alike pictures are that are no copies."""
    base = np.asarray(grey_copy(picture(0)), np.float32)
    draws = np.random.default_rng(0)
    blobs = [np.asarray(grey_copy(picture(seed)), np.float32) for seed in range(1, 31)]
    greys = [np.clip(base + 0.2 * (blob - 128), 0, 255).astype(np.uint8) for blob in blobs]
    greys.append(np.clip(greys[0] + draws.normal(0, 4, (64, 64)), 0, 255).astype(np.uint8))
    pairs = [(0, row, 0.9) for row in range(1, 31)]
    of_one, least = confirmed(pairs, np.zeros(31, np.int64), greys.__getitem__)
    assert least == duplicates.LEAST_CORRELATION
    labels = np.arange(31) % 2
    of_two, least = confirmed(pairs, labels, greys.__getitem__)
    assert least > duplicates.LEAST_CORRELATION
    assert (of_two[0].first, of_two[0].second) == (0, 30)
    assert len(of_two) < len(of_one)


def test_candidates_are_confirmed_by_pixels() -> None:
    greys = {0: grey_copy(picture(0)), 1: grey_copy(picture(0)), 2: grey_copy(picture(2)), 3: None}
    near = [(0, 2, 0.9), (0, 1, 0.8), (0, 3, 0.7)]
    pairs, _ = confirmed(near, np.zeros(4, np.int64), greys.__getitem__)
    assert [(pair.first, pair.second) for pair in pairs] == [(0, 1)]
    assert pairs[0].correlation == pytest.approx(1, abs=1e-5)
