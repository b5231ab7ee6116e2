"""Parameters on their way: sizes, and what rounding loses comes along the next time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mobiletl.device.fleet.coding import (
    BLOCK,
    ENCODINGS,
    FLOAT16,
    FLOAT32,
    INT8,
    SCALES,
    downwards,
    quantised,
    received,
    restored,
    sent_bytes,
    upwards,
)

ROUNDS = 40


def tensors(seed: int, spread: float = 1.0) -> dict[str, Any]:
    draw = np.random.default_rng(seed)
    return {
        "kernel": draw.normal(0, spread, (3, 50, 5)).astype(np.float32),
        "bias": draw.normal(0, spread, 7).astype(np.float32),
        "scalar": np.float32(draw.normal()).reshape(()),
    }


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_is_received_and_what_is_left_make_up_the_whole_change(encoding: str) -> None:
    began, ended, left = tensors(0), tensors(1), {}
    sent, left = upwards(began, ended, left, encoding)
    found = received(began, sent, encoding)
    assert set(found) == set(ended)
    for name, tensor in ended.items():
        assert found[name].shape == tensor.shape
        assert found[name].dtype == np.float32
        # To the rounding of two float32 sums.
        np.testing.assert_allclose(found[name] + left.get(name, 0.0), tensor, atol=2e-6)


@pytest.mark.parametrize(("encoding", "most"), [(FLOAT16, 1e-3), (INT8, 1.0 / 127)])
def test_over_many_rounds_no_change_is_lost(encoding: str, most: float) -> None:
    """The sum of what arrives stays within one rounding of the sum of what was meant: without
    feedback the errors of changes that are all alike would add up.
    """
    zero = {"kernel": np.zeros(600, np.float32)}
    change = np.random.default_rng(2).normal(0, 1, 600).astype(np.float32)
    arrived, lossy, left = np.zeros(600), np.zeros(600), {}
    for _ in range(ROUNDS):
        sent, left = upwards(zero, {"kernel": change}, left, encoding)
        arrived += received(zero, sent, encoding)["kernel"]
        alone, _ = upwards(zero, {"kernel": change}, {}, encoding)
        lossy += received(zero, alone, encoding)["kernel"]
    scale = np.abs(change).max()
    assert np.abs(arrived - ROUNDS * change).max() < most * scale
    assert np.abs(lossy - ROUNDS * change).max() > 5 * np.abs(arrived - ROUNDS * change).max()


def test_eight_bits_are_those_of_a_plain_reference() -> None:
    values = np.random.default_rng(3).normal(0, 2, (4, 200)).astype(np.float32)
    small, scales = quantised(values)
    flat = values.reshape(-1)
    for block, scale in enumerate(scales):
        part = flat[block * BLOCK : (block + 1) * BLOCK]
        expected = max(abs(float(one)) for one in part) / 127
        assert scale == pytest.approx(expected, rel=1e-6)
        for one, found in zip(part, small.reshape(-1)[block * BLOCK :]):
            assert abs(float(one) / expected - int(found)) <= 0.5 + 1e-3
    np.testing.assert_allclose(restored(small, scales), values, atol=float(scales.max()) / 1.99)


def test_no_change_takes_no_scale_and_divides_by_nothing() -> None:
    small, scales = quantised(np.zeros((2, 300), np.float32))
    assert not small.any()
    assert not scales.any()
    assert not restored(small, scales).any()


def test_bytes_of_a_round_are_as_stated() -> None:
    began, ended = tensors(0), tensors(1)
    numbers = sum(tensor.size for tensor in ended.values())
    sizes = {one: sent_bytes(upwards(began, ended, {}, one)[0]) for one in ENCODINGS}
    blocks = sum(-(-tensor.size // BLOCK) for tensor in ended.values())
    assert sizes == {FLOAT32: 4 * numbers, FLOAT16: 2 * numbers, INT8: numbers + 4 * blocks}
    assert sent_bytes(downwards(began, FLOAT32)) == 4 * numbers
    assert sent_bytes(downwards(began, INT8)) == 2 * numbers


def test_what_float16_cannot_hold_stays_float32() -> None:
    began = {"wide": np.zeros(3, np.float32), "small": np.zeros(3, np.float32)}
    ended = {"wide": np.float32([1, 2, 1e6]), "small": np.float32([1, 2, 3])}
    sent, left = upwards(began, ended, {}, FLOAT16)
    assert (sent["wide"].dtype, sent["small"].dtype) == (np.float32, np.float16)
    np.testing.assert_array_equal(received(began, sent, FLOAT16)["wide"], ended["wide"])
    assert not left["wide"].any()


def test_what_is_left_of_another_network_counts_as_nothing() -> None:
    began, ended = tensors(0), tensors(1)
    plain, _ = upwards(began, ended, {}, INT8)
    other, _ = upwards(began, ended, {"kernel": np.ones(3, np.float32)}, INT8)
    for name, array in plain.items():
        np.testing.assert_array_equal(array, other[name])
    assert "kernel" + SCALES in plain
