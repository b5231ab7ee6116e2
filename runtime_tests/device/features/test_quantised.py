"""Maps in 8 bits come back within half a step of their group's range."""

import numpy as np
import pytest

from mobiletl.device.features.quantised import NARROW, Codec


@pytest.mark.parametrize("shape", [(16, 7, 7), (3, 5, 4), (1280, 1, 1), (7, 3, 3), (1, 1, 1)])
def test_what_comes_back_is_half_a_step_away_at_most(shape):
    h = np.random.default_rng(0).normal(0, 3, shape).astype(np.float32)
    codec = Codec(shape)
    content = codec.encode(h)
    assert len(content) == codec.size
    back = np.empty(shape, np.float32)
    codec.decode(content, back)
    assert np.abs(back - h).max() <= (h.max() - h.min()) / 510 * 1.001


@pytest.mark.parametrize("shape", [(16, 7, 7), (3, 5, 7), (160, 2, 2), (1, 1, 1)])
def test_four_bits_are_half_a_size_and_half_a_step_away_at_most(shape):
    h = np.random.default_rng(0).normal(0, 3, shape).astype(np.float32)
    codec = Codec(shape, NARROW)
    content = codec.encode(h)
    assert len(content) == codec.size <= Codec(shape).size / 2 + 1
    back = np.empty(shape, np.float32)
    codec.decode(content, back)
    # Lowest values and steps are of 16 bits.
    most = (h.max() - h.min()) / 30 * 1.02 + np.abs(h).max() / 1000
    assert np.abs(back - h).max() <= most


def test_a_channel_has_a_range_of_its_own():
    h = np.stack([np.full((8, 8), 0.01), np.full((8, 8), 1000.0)]).astype(np.float32)
    h[0, 0, 0], h[1, 0, 0] = 0.02, 2000
    back = np.empty_like(h)
    Codec(h.shape).decode(Codec(h.shape).encode(h), back)
    assert np.abs(back[0] - h[0]).max() < 1e-4


def test_a_map_of_one_value_comes_back_as_it_was():
    h = np.full((4, 6, 6), -2.5, np.float32)
    back = np.empty_like(h)
    Codec(h.shape).decode(Codec(h.shape).encode(h), back)
    np.testing.assert_array_equal(back, h)


def test_what_was_decoded_is_encoded_to_the_same_map_again():
    h = np.random.default_rng(1).normal(size=(8, 7, 7)).astype(np.float32)
    codec = Codec(h.shape)
    once, twice = np.empty_like(h), np.empty_like(h)
    codec.decode(codec.encode(h), once)
    codec.decode(codec.encode(once), twice)
    np.testing.assert_allclose(twice, once, rtol=0, atol=1e-6)


def test_an_8_bit_map_is_at_most_a_third_of_a_float_one():
    for shape in ((160, 7, 7), (96, 14, 14), (1280, 1, 1)):
        assert Codec(shape).size < 4 * np.prod(shape) / 3


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_map_that_is_not_finite_comes_back_so(broken):
    h = np.ones((4, 6, 6), np.float32)
    h[2, 3, 3] = broken
    back = np.empty_like(h)
    Codec(h.shape).decode(Codec(h.shape).encode(h), back)
    assert not np.isfinite(back[2]).all()
    np.testing.assert_array_equal(back[[0, 1, 3]], h[[0, 1, 3]])
