"""A folder of pictures that goes away while it is trained on, for a moment or for good."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from mobiletl.device.errors import PicturesAway
from mobiletl.device.pictures import outage
from runtime_tests.support.board.training_workshop import Workshop, assert_same_run

# No feature maps are kept, so every step reads its pictures.
PLAIN = {"epochs": 2, "views": 0}


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    return Workshop(tmp_path, monkeypatch)


def goes_at_step(workshop: Workshop, number: int, back_after_s: float | None) -> None:
    """Rename the pictures away at a step, and perhaps back a while later."""
    photos = Path(workshop.options("any").data)
    away = photos.with_name("away")

    def on_call(name: str, count: int) -> None:
        if name == "train_step" and count == number:
            photos.rename(away)
            if back_after_s is not None:
                threading.Timer(back_after_s, lambda: away.rename(photos)).start()

    workshop.on_call = on_call


def test_a_moment_costs_no_picture_and_no_bit(workshop: Workshop) -> None:
    workshop.train(workshop.options("whole", **PLAIN))
    goes_at_step(workshop, 6, back_after_s=0.5)
    outcome = workshop.train(workshop.options("torn", **PLAIN))
    assert outcome.skipped.entries() == ()
    assert_same_run(workshop, "whole", "torn")


def test_for_good_the_state_is_saved_and_the_run_goes_on_later(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop.train(workshop.options("whole", **PLAIN))
    monkeypatch.setattr(outage, "PATIENCE_S", 0.2)
    photos = Path(workshop.options("any").data)
    goes_at_step(workshop, 6, back_after_s=None)
    with pytest.raises(PicturesAway, match=r"cannot be read .* --resume"):
        workshop.train(workshop.options("torn", **PLAIN))
    assert not (workshop.folder / "torn" / "skipped.txt").exists()
    workshop.on_call = lambda name, count: None
    photos.with_name("away").rename(photos)
    outcome = workshop.train(replace(workshop.options("torn", **PLAIN), resume=True))
    assert outcome.skipped.entries() == ()
    assert_same_run(workshop, "whole", "torn")
