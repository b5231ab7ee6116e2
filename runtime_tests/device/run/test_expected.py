"""The time a run is expected to take: what it is made of, what it leaves alone, what it refuses."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Sequence

import numpy as np
import pytest

from mobiletl.device.bundle.arrays import Floats, Labels
from mobiletl.device.features.live import FeatureSource
from mobiletl.device.features.parts import Pictures
from mobiletl.device.run import expected, trainer
from mobiletl.device.run.events import Event, Expected
from mobiletl.device.run.expected import Timing, TooLong, Work, check_time, parse_seconds
from mobiletl.device.run.listener import Listener
from mobiletl.device.run.schedule import Schedule
from mobiletl.device.sessions.fake import FakeSession
from mobiletl.device.sessions.runtimes import open_session
from mobiletl.device.sessions.session import StepResult
from runtime_tests.support.board.training_workshop import Workshop, assert_same_run

TEN_EPOCHS = Work(Schedule(80, 8, 10, 0.1, 0), passes=480, validated=20)
TIMING = Timing(a_pass=0.1, a_step=0.2, a_prediction=0.01)


class Heard(Listener):
    def __init__(self) -> None:
        self.seconds: list[float] = []

    def hear(self, event: Event) -> None:
        if isinstance(event, Expected):
            self.seconds.append(event.seconds)


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """A workshop whose runs are really timed."""
    made = Workshop(tmp_path, monkeypatch)
    monkeypatch.setattr(trainer, "time_batch", expected.time_batch)
    return made


def test_passes_steps_and_validations_add_up() -> None:
    assert TIMING.seconds(TEN_EPOCHS) == pytest.approx(480 * 0.1 + 100 * 0.2 + 10 * 20 * 0.01)
    assert TIMING.seconds(TEN_EPOCHS, 5) == pytest.approx(TIMING.seconds(TEN_EPOCHS) / 2)


def test_the_line_names_the_epochs_that_fit() -> None:
    check_time(70.0, TIMING, TEN_EPOCHS)
    with pytest.raises(TooLong) as refused:
        check_time(36.0, TIMING, TEN_EPOCHS)
    assert str(refused.value) == (
        "the run is expected to take 1:10, more than the 0:36 of --max-time; "
        "--epochs 5 would take 0:35"
    )
    with pytest.raises(TooLong, match="mobiletl teach"):
        check_time(1.0, TIMING, TEN_EPOCHS)


@pytest.mark.parametrize(
    ("text", "seconds"), [("10m", 600), ("90s", 90), ("1.5h", 5400), ("600", 600), ("2 min", 120)]
)
def test_times_are_read(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "10x", "-5s", "1e3", "10m5s"])
def test_other_words_are_no_times(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - what argparse asks of a type
        parse_seconds(text)


def test_timing_changes_no_bit(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    workshop.train(workshop.options("timed"))
    monkeypatch.setattr(trainer, "time_batch", lambda *_: TIMING)
    workshop.train(workshop.options("untimed"))
    assert_same_run(workshop, "untimed", "timed")


class SixMapsEach(FeatureSource):
    """Computes each picture's maps of six epochs at once, 10 ms each."""

    def fill(self, rows: Sequence[int], epoch: int, out: Floats) -> list[int]:
        time.sleep(0.06 * len(rows))
        self.computed += 6 * len(rows)
        out[: len(rows)] = 0.5
        return list(rows)


def test_a_pass_is_one_of_the_maps_that_were_computed(workshop: Workshop) -> None:
    bundle = workshop.bundle
    schedule = Schedule(pictures=8, batch=4, epochs=1, lr=0.1, seed=0)
    buffer = np.empty((4, *bundle.manifest.feature.shape), np.float32)
    pictures = Pictures(SixMapsEach(), np.arange(8) % 2)
    with open_session(bundle, 2, bundle.initial_state(2, 0), 1, "fake") as session:
        timing = expected.time_batch(session, pictures, schedule, buffer)
    # 10 ms, where a picture takes 60; machines stall.
    assert 0.009 <= timing.a_pass < 0.04


def test_a_slow_step_is_expected_and_then_taken(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = FakeSession.train_step

    def slow(self: FakeSession, h: Floats, labels: Labels, lr: float) -> StepResult:
        time.sleep(0.05)
        return step(self, h, labels, lr)

    monkeypatch.setattr(FakeSession, "train_step", slow)
    heard = Heard()
    workshop.listeners.append(heard)
    began = time.monotonic()
    workshop.train(workshop.options("run"))
    took = time.monotonic() - began
    (seconds,) = heard.seconds
    # 12 steps of 50 ms; the rest is small, and machines stall.
    assert 0.6 <= seconds < took + 1.0
    lines = (workshop.folder / "run" / "events.jsonl").read_text().splitlines()
    told = [json.loads(line) for line in lines if json.loads(line)["event"] == "expected"]
    assert told[0]["seconds"] == seconds


def test_a_run_that_takes_too_long_leaves_no_run_behind(workshop: Workshop) -> None:
    options = replace(workshop.options("run"), max_seconds=1e-6)
    with pytest.raises(TooLong):
        workshop.train(options)
    left = sorted(path.name for path in (workshop.folder / "run").iterdir())
    assert all(name.startswith("maps-") for name in left)
    workshop.train(workshop.options("run"))
    workshop.train(workshop.options("afresh"))
    assert_same_run(workshop, "afresh", "run")


def test_a_resumed_run_is_not_refused(workshop: Workshop) -> None:
    workshop.interrupt(workshop.options("run"), "train_step", 8)
    options = replace(workshop.options("run"), resume=True, max_seconds=1e-6)
    workshop.train(options)
    workshop.train(workshop.options("whole"))
    assert_same_run(workshop, "whole", "run")


def test_rows_of_a_short_batch_are_made_up(workshop: Workshop) -> None:
    workshop.static_batch = 5
    workshop.train(workshop.options("run"))
    assert workshop.session is not None
    assert set(workshop.session.batches) == {5}
    assert np.isfinite(workshop.metrics("run")[-1]["val_loss"])
