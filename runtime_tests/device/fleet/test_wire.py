"""Arrays from the network: what does not fit is refused before memory is taken for it."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
import pytest

from mobiletl.device.errors import BadRound
from mobiletl.device.fleet.coding import FLOAT16, FLOAT32, INT8, upwards
from mobiletl.device.fleet.wire import read_down, read_up

SHAPES = {"kernel": (3, 4), "bias": (3,)}


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def contents(**changed: Any) -> dict[str, bytes]:
    arrays = {name: np.full(shape, 0.5, np.float32) for name, shape in SHAPES.items()}
    return {name: npy(array) for name, array in {**arrays, **changed}.items()}


def test_what_fits_comes_through_as_it_is() -> None:
    kernel = np.arange(12, dtype=np.float32).reshape(3, 4)
    found = read_up(contents(kernel=kernel), SHAPES, FLOAT32)
    np.testing.assert_array_equal(found["kernel"], kernel)
    assert set(found) == set(SHAPES)


@pytest.mark.parametrize("encoding", [FLOAT16, INT8])
def test_what_a_board_encodes_is_read(encoding: str) -> None:
    began = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    ended = {name: np.full(shape, 0.25, np.float32) for name, shape in SHAPES.items()}
    sent, _ = upwards(began, ended, {}, encoding)
    found = read_up({name: npy(array) for name, array in sent.items()}, SHAPES, encoding)
    assert set(found) == set(sent)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"kernel": np.zeros((4, 3), np.float32)}, "expected float32 [3, 4]"),
        ({"kernel": np.zeros((3, 4), np.float64)}, "is float64"),
        ({"kernel": np.full((3, 4), np.nan, np.float32)}, "not finite"),
        ({"bias": np.array([0, 1, np.inf], np.float32)}, "not finite"),
        ({"more": np.zeros(1, np.float32)}, "more is unknown"),
        ({"kernel": np.zeros((3, 4), np.float32, order="F")}, "expected float32"),
    ],
)
def test_what_does_not_fit_is_named(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(BadRound) as caught:
        read_up(contents(**changed), SHAPES, FLOAT32)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_array_is_named() -> None:
    with pytest.raises(BadRound, match="bias is missing"):
        read_down({"kernel": contents()["kernel"]}, SHAPES)


def test_a_header_that_claims_a_terabyte_takes_no_memory() -> None:
    small = contents()["kernel"]
    claimed = small.replace(b"(3, 4), }" + b" " * 9, b"(3, 99999999999), }"[:18])
    assert claimed != small
    with pytest.raises(BadRound):
        read_down({**contents(), "kernel": claimed}, SHAPES)


def test_numbers_that_are_cut_off_are_refused() -> None:
    whole = contents()
    with pytest.raises(BadRound, match="not what it states"):
        read_down({**whole, "kernel": whole["kernel"][:-4]}, SHAPES)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"{" * 5000, b"\x93NUMPY\x01\x00\xff\xff("])
def test_what_is_no_array_is_refused(content: bytes) -> None:
    with pytest.raises(BadRound, match="no array"):
        read_down({**contents(), "kernel": content}, SHAPES)


class Trap:
    """Says when it is unpickled."""

    sprung = False

    def __reduce__(self) -> Any:
        return (setattr, (Trap, "sprung", True))


def test_no_pickle_is_loaded() -> None:
    objects = np.array([[Trap()] * 4] * 3, object)
    for content in (npy(objects), pickle.dumps(objects)):
        with pytest.raises(BadRound):
            read_down({**contents(), "kernel": content}, SHAPES)
    assert not Trap.sprung
