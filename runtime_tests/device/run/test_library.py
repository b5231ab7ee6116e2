"""A run as a library call: its settings, its listeners, and how it is stopped."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from mobiletl.device.errors import BadBundle, UsageError
from mobiletl.device.run.events import Ended, Event, Started, Step
from mobiletl.device.run.library import Named, train
from mobiletl.device.run.limits import KNOWN
from mobiletl.device.run.listener import Listener
from mobiletl.device.run.options import Former, Options
from mobiletl.device.run.stop import StopFlag, StopRequested
from runtime_tests.support.board.picture_folders import write_pictures
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path, Path]:
    bundle = write_tiny_bundle(tmp_path / "bundle", graphs=False)
    photos = write_pictures(tmp_path / "photos", {"ant": 8, "bee": 8})
    return bundle, photos, tmp_path / "run"


class StopsAt(Listener):
    def __init__(self, stop: StopFlag, step: int) -> None:
        self.heard: list[Event] = []
        self._stop, self._step = stop, step

    def hear(self, event: Event) -> None:
        self.heard.append(event)
        if isinstance(event, Step) and event.step == self._step:
            self._stop.request()


def test_settings_are_keywords(places: tuple[Path, Path, Path]) -> None:
    outcome = train(*map(str, places), runtime="fake", epochs=2, batch=4, lr=0.1, seed=7)
    settings = outcome.settings
    assert (settings.epochs, settings.batch, settings.lr, settings.seed) == (2, 4, 0.1, 7)
    assert outcome.folder.best.is_file()


def test_a_listener_stops_a_run_and_it_goes_on(places: tuple[Path, Path, Path]) -> None:
    stop = StopFlag()
    listener = StopsAt(stop, 3)
    with pytest.raises(StopRequested):
        train(*places, runtime="fake", epochs=3, batch=4, listeners=[listener], stop=stop)
    ended = listener.heard[-1]
    assert isinstance(ended, Ended)
    assert (ended.outcome, ended.position.step) == ("stopped", 3)
    again = StopsAt(StopFlag(), -1)
    outcome = train(*places, resume=True, listeners=[again])
    assert outcome.position.epoch == 3
    started = again.heard[0]
    assert isinstance(started, Started)
    assert started.position.step == 3


def test_it_trains_in_another_thread(places: tuple[Path, Path, Path]) -> None:
    """A robot goes on driving: signals stay the main thread's, a flag stops the run."""
    found: list[Any] = []
    stop = StopFlag()

    def body() -> None:
        try:
            train(*places, runtime="fake", epochs=5000, stop=stop)
        except StopRequested as error:
            found.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    stop.request()
    thread.join(60)
    assert not thread.is_alive()
    assert len(found) == 1


@pytest.mark.parametrize(
    ("named", "problem"),
    [
        ({"epochs": 0}, "epochs is 0, expected at least 1"),
        ({"lr": -1.0}, "lr is -1.0, expected a positive number"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"val_split": 1.0}, "val_split is 1.0"),
        ({"micro_batch": 0, "threads": -1}, "micro_batch is 0.*threads is -1"),
        ({"epoch": 3}, "epoch is unknown"),
        ({"views": -1}, "views is -1, expected at least 0"),
        ({"views": 3, "augment": False}, "views is 3, but without augmentation"),
        ({"start": "warm"}, "start is 'warm', expected closed-form or random"),
        ({"resume": True, "former": Former(Path("x"))}, "resumed has a state already"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_written(
    places: tuple[Path, Path, Path], named: dict[str, Any], problem: str
) -> None:
    with pytest.raises(UsageError, match=problem):
        train(*places, **named)
    assert not places[2].exists()


def test_errors_are_raised_not_printed(
    places: tuple[Path, Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadBundle):
        train(places[1], places[1], places[2])
    train(*places, runtime="fake", epochs=1)
    assert capfd.readouterr() == ("", "")


def test_what_may_be_named_is_what_a_run_knows() -> None:
    resources = {
        "threads",
        "save_every",
        "save_budget",
        "cache",
        "use_cache",
        "former",
        "replay_bytes",
    }
    machine = {"max_temp", "max_load", "pause_when_busy", "system_root"}
    trust = {"trust_bundle", "require_signature"}
    # `start` is a keyword of its own, which takes a state as well.
    assert set(Named.__annotations__) == {*KNOWN, *resources, *trust, *machine} - {"start"}
    assert resources <= set(Options.__annotations__)
