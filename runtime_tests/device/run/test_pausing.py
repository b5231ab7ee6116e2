"""A run that pauses ends in the same bits, and is stopped, told of and resumed like any other."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mobiletl.device import train_on_board
from mobiletl.device.errors import UsageError
from mobiletl.device.neighbour import courtesy
from mobiletl.device.neighbour.limits import MachineLimits
from mobiletl.device.run.events import Continued, Ended, Event, Paused, Step
from mobiletl.device.run.events_file import read_events
from mobiletl.device.run.library import train
from mobiletl.device.run.listener import Listener
from mobiletl.device.run.stop import StopFlag, StopRequested
from runtime_tests.support.board.picture_folders import write_pictures
from runtime_tests.support.board.thermal_world import Part, World
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle
from runtime_tests.support.board.training_workshop import STEPS, Workshop, assert_same_run


class Seen(Listener):
    def __init__(self) -> None:
        self.events: list[Event] = []

    def hear(self, event: Event) -> None:
        self.events.append(event)


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    return Workshop(tmp_path, monkeypatch)


def machine(folder: Path, degrees: float) -> Path:
    """Return the root of a machine whose processor has so many degrees, whatever it does."""
    World(folder, [Part(0.0, 1.0)], room=degrees)
    return folder


def test_pauses_change_no_bit(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courtesy, "LOOK_S", 0.0)
    workshop.train(workshop.options("whole"))
    seen = Seen()
    workshop.listeners = [seen]
    root = machine(workshop.folder / "machine", 57.0)
    options = replace(
        workshop.options("paused"), limits=MachineLimits(60.0, when_busy=True), system_root=root
    )
    workshop.interrupt(options, "train_step", STEPS + 2)
    outcome = workshop.train(replace(options, resume=True, given={}))
    assert_same_run(workshop, "whole", "paused")
    assert outcome.position.step == 3 * STEPS
    kinds = [type(one) for one in seen.events if isinstance(one, (Paused, Continued, Ended))]
    assert kinds == [Paused, Continued, Ended] * 2
    ended = seen.events[-1]
    assert isinstance(ended, Ended)
    assert ended.stay.paused_s > 0
    assert ended.stay.highest_c == 57.0
    lines = read_events(options.run / "events.jsonl")
    (paused,) = [line for line in lines[-60:] if line["event"] == "paused"][-1:]
    assert (paused["reason"], paused["found"], paused["limit"]) == ("temperature", 57.0, 60.0)
    assert lines[-1]["highest_temperature"] == 57.0
    assert [line["event"] for line in lines][-2:] == ["continued", "ended"]


def test_a_request_to_stop_ends_a_pause(workshop: Workshop) -> None:
    """The processor stays hotter than the limit, so the pause would never end."""
    stop, seen = StopFlag(), Seen()
    root = machine(workshop.folder / "machine", 90.0)
    workshop.stop, workshop.listeners = stop, [seen]
    slow = workshop.options("run", epochs=10_000)
    timer = threading.Timer(1.5, stop.request)
    timer.start()
    began = time.monotonic()
    with pytest.raises(StopRequested):
        workshop.train(replace(slow, limits=MachineLimits(60.0), system_root=root))
    assert time.monotonic() - began < 15
    timer.join()
    assert isinstance(seen.events[-1], Ended)
    assert seen.events[-1].outcome == "stopped"
    assert [type(one) for one in seen.events if isinstance(one, (Paused, Continued))] == [
        Paused,
        Continued,
    ]


def test_a_pause_is_no_part_of_a_steps_time(workshop: Workshop) -> None:
    """The time that is left is reckoned without a pause of unknown length."""
    seen = Seen()
    workshop.listeners = [seen]
    root = machine(workshop.folder / "machine", 55.5)
    options = workshop.options("run", epochs=40)
    workshop.train(replace(options, limits=MachineLimits(60.0), system_root=root))
    steps = [one for one in seen.events if isinstance(one, Step)]
    assert all(step.pictures_per_s > 0 for step in steps)


SCRIPT = """
import sys
from pathlib import Path
import mobiletl
from mobiletl.device.run.terminal import Terminal
bundle, photos, run, root = sys.argv[1:]
stop = mobiletl.StopFlag()
with stop:
    try:
        mobiletl.train(bundle, photos, run, runtime="fake", epochs=100000, max_temp=60.0,
                       system_root=Path(root), listeners=[Terminal(sys.stderr)], stop=stop)
    except mobiletl.StopRequested:
        sys.exit(130)
"""


@pytest.mark.usefixtures("heard_signals")
def test_ctrl_c_in_a_pause(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", graphs=False)
    photos = write_pictures(tmp_path / "photos", {"ant": 8, "bee": 8})
    root = machine(tmp_path / "machine", 90.0)
    arguments = [str(path) for path in (bundle, photos, tmp_path / "run", root)]
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments], stderr=subprocess.PIPE
    ) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if b"the run pauses between steps" in line:
                break
        time.sleep(0.3)
        running.send_signal(signal.SIGINT)
        said = running.stderr.read().decode()
        assert running.wait(60) == 130
    assert "stopping after this step" in said
    assert (tmp_path / "run" / "last.safetensors").exists()


def test_a_machine_that_tells_nothing_is_refused_before_anything_is_written(
    workshop: Workshop,
) -> None:
    options = workshop.options("run")
    for limits in (MachineLimits(60.0), MachineLimits(max_load=1.0)):
        with pytest.raises(UsageError, match="leave --max-"):
            workshop.train(replace(options, limits=limits, system_root=workshop.folder / "none"))
    assert not options.run.exists()


@pytest.mark.parametrize(
    ("named", "problem"),
    [
        ({"max_temp": 5.0}, "max_temp is 5.0, expected degrees Celsius from 25 to 120"),
        ({"max_temp": float("nan")}, "max_temp is nan"),
        ({"max_load": 0.0}, "max_load is 0.0, expected a positive number of cores"),
        ({"max_load": float("inf")}, "max_load is inf"),
        ({"save_budget": -1.0}, "save_budget is -1.0"),
    ],
)
def test_limits_out_of_range(tmp_path: Path, named: dict[str, float], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        train(tmp_path, tmp_path, tmp_path / "run", **named)  # type: ignore[arg-type]


def test_flags_become_limits() -> None:
    parse = train_on_board._parser().parse_args
    flags = parse(["--data", "x", "--max-temp", "70", "--max-load", "1.5", "--pause-when-busy"])
    assert train_on_board.settings.machine_limits(flags) == MachineLimits(70.0, 1.5, True)
    words = train_on_board.settings.as_arguments(train_on_board._parser(), flags)
    assert words == ["--max-temp", "70.0", "--max-load", "1.5", "--pause-when-busy"]
    again = train_on_board.settings.as_arguments(
        train_on_board._parser(), parse(["--data", "x", "--save-budget", "none"])
    )
    assert again == ["--save-budget", "none"]
    assert train_on_board.settings.machine_limits(parse(["--data", "x"])) == MachineLimits()
