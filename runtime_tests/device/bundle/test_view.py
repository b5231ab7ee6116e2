"""A view turns clockwise, cuts out shares of the turned frame, and survives JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mobiletl.device.bundle.view import TURNS, View, view_of


def frame(height=6, width=8):
    return np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)


@pytest.mark.parametrize("rotate", TURNS)
def test_turns_as_pillow_does(rotate):
    # Pillow counts against the clock.
    expected = np.asarray(Image.fromarray(frame()).rotate(-rotate, expand=True))
    assert np.array_equal(View(rotate).apply(frame()), expected)


def test_cuts_out_of_the_turned_frame():
    turned = np.rot90(frame(), -1)
    found = View(90, (0.5, 0.25, 0.5, 0.5)).apply(frame())
    assert np.array_equal(found, turned[2:6, 3:6])
    assert found.flags.c_contiguous


@given(
    st.tuples(*[st.floats(0, 0.9)] * 2),
    st.tuples(*[st.floats(1e-6, 0.1)] * 2),
    st.integers(1, 9),
    st.integers(1, 9),
)
def test_leaves_at_least_a_pixel(corner, size, height, width):
    found = View(0, (*corner, *size)).apply(frame(height, width))
    assert min(found.shape) >= 1


@pytest.mark.parametrize(
    ("rotate", "region"),
    [(45, (0, 0, 1, 1)), (0, (0, 0, 0, 1)), (0, (0.5, 0, 0.6, 1)), (0, (float("nan"), 0, 1, 1))],
)
def test_refuses_what_makes_no_sense(rotate, region):
    with pytest.raises(ValueError, match="expected"):
        View(rotate, region)


def test_survives_json():
    view = View(270, (0.1, 0.2, 0.3, 0.4))
    problems: list[str] = []
    assert view_of(json.loads(json.dumps(view.document())), "view", problems) == view
    assert view_of(None, "view", problems) is None
    assert problems == []


@pytest.mark.parametrize(
    "document", [[], {"rotate": 1, "region": [0, 0, 1, 1]}, {"rotate": 0, "region": [0, 0, 2, 1]}]
)
def test_reports_a_document_that_is_none(document):
    problems: list[str] = []
    assert view_of(document, "view", problems) is None
    assert problems
    assert all(line.startswith("view") for line in problems)
