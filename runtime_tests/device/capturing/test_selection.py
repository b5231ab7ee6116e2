"""Blurred frames, repeated ones and black ones are not kept; light and noise make none new."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mobiletl.device.capturing.looks import difference, look_at, small_of
from mobiletl.device.capturing.selection import Rules, Selection
from runtime_tests.support.board.scenes import scene

RULES = Rules()


def pixels(seed: int, blur: float = 0.0) -> np.ndarray:
    return np.array(scene(seed, blur))


def test_the_same_scene_is_kept_once_whatever_noise_and_light_do() -> None:
    noise = np.random.default_rng(0)
    selection = Selection()
    first = look_at(pixels(1))
    assert selection.judge(first, RULES).kept
    selection.add(first.small)
    for light in (0.6, 0.8, 1.0, 1.2):
        changed = np.clip(light * pixels(1) + noise.normal(0, 5, (72, 96, 3)), 0, 255)
        judgement = selection.judge(look_at(changed.astype(np.uint8)), RULES)
        assert not judgement.kept
        assert judgement.reason == "like a kept one"
    assert selection.judge(look_at(pixels(2)), RULES).kept


def test_many_are_compared_and_the_nearest_counts() -> None:
    selection = Selection(look_at(pixels(seed)).small for seed in range(200))
    judgement = selection.judge(look_at(pixels(137)), RULES)
    assert judgement.difference == pytest.approx(0.0, abs=1e-5)
    other = selection.judge(look_at(pixels(777)), RULES)
    assert other.difference is not None
    assert other.difference > 0.8


def test_blur_is_told_whatever_the_contrast_is() -> None:
    for seed in range(10):
        for contrast in (0.3, 1.0):
            sharp, blurred = (
                look_at((contrast * pixels(seed, blur)).astype(np.uint8)).sharpness
                for blur in (0.0, 2.5)
            )
            assert sharp > RULES.sharpness > 1.5 * blurred


def test_a_blurred_frame_says_why() -> None:
    look = look_at(pixels(1, blur=2.5))
    judgement = Selection().judge(look, RULES)
    assert (judgement.kept, judgement.reason) == (False, "not sharp")
    assert Selection().judge(look, Rules(0.0, 0.0)).kept


def test_black_and_flat_frames() -> None:
    black = np.random.default_rng(0).integers(0, 5, (72, 96, 3), np.uint8)
    assert Selection().judge(look_at(black), Rules(0.0, 0.0)).reason == "black"
    flat = look_at(np.full((72, 96, 3), 128, np.uint8))
    assert flat.sharpness == 0.0
    selection = Selection([flat.small])
    grain = np.random.default_rng(1).normal(128, 3, (72, 96, 3)).astype(np.uint8)
    assert not selection.judge(look_at(grain), Rules(sharpness=0.0)).kept


@pytest.mark.parametrize("size", [(1, 1), (2, 500), (640, 480), (3000, 40)])
def test_any_size_is_looked_at(size: tuple[int, int]) -> None:
    look = look_at(np.array(Image.new("RGB", size, (200, 10, 10))))
    assert look.sharpness == 0.0
    assert np.isfinite(look.small).all()


def test_difference_has_the_scale_that_is_documented() -> None:
    smalls = np.stack([small_of(scene(seed)) for seed in range(40)])
    apart = difference(smalls[0], smalls)
    assert apart[0] == 0.0
    assert 1.2 < np.median(apart[1:]) < 1.6
