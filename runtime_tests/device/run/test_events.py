"""Every listener hears the same run; the file of events outlives whatever happens to the run."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mobiletl.device.errors import Diverged, NoSpace
from mobiletl.device.neighbour.changes import LOAD, Continued, Paused
from mobiletl.device.run import events_file
from mobiletl.device.run.events import (
    NAMES,
    Ended,
    Epoch,
    Event,
    Note,
    Part,
    Saved,
    Started,
    Step,
)
from mobiletl.device.run.events_file import EventsFile, read_events
from mobiletl.device.run.listener import Listener
from mobiletl.device.run.righting import MOST_CUTS
from mobiletl.device.sessions.session import StepResult
from runtime_tests.support.board.picture_folders import write_pictures
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle
from runtime_tests.support.board.training_workshop import STEPS, Workshop

DOCS = Path(__file__).parents[3] / "docs" / "events.md"


class Heard(Listener):
    def __init__(self) -> None:
        self.events: list[Event] = []

    def hear(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    return Workshop(tmp_path, monkeypatch)


@pytest.fixture
def heard(workshop: Workshop) -> Heard:
    listener = Heard()
    workshop.listeners = [listener]
    return listener


def lines(workshop: Workshop, run: str = "run") -> list[dict[str, Any]]:
    return read_events(workshop.folder / run / "events.jsonl")


def test_a_run_from_start_to_end(workshop: Workshop, heard: Heard) -> None:
    outcome = workshop.train(workshop.options("run"))
    assert isinstance(heard.events[0], Started)
    assert isinstance(heard.events[-1], Ended)
    assert [event.step for event in heard.of(Step)] == list(range(1, 3 * STEPS + 1))
    assert [event.metrics.epoch for event in heard.of(Epoch)] == [0, 1, 2, 3]
    saved = [(event.kind, event.epoch) for event in heard.of(Saved)]
    assert saved[:2] == [("last", 0), ("best", 0)]
    assert saved.count(("last", 3)) == 1
    assert [kind for kind, _ in saved].count("last") == 1 + 3
    assert {event.name for event in heard.of(Part)} == {
        "calibrating",
        "comparing",
        "embedding",
        "evaluating",
        "solving",
    }
    ended = heard.events[-1]
    assert ended.position == outcome.position
    assert (ended.outcome, ended.message, ended.exit_code) == ("finished", "", 0)


def test_the_file_holds_what_the_listeners_heard(
    workshop: Workshop, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_file, "SECONDS_BETWEEN", 0.0)
    workshop.train(workshop.options("run"))
    found = lines(workshop)
    assert [line["event"] for line in found] == [NAMES[type(event)] for event in heard.events]
    for line, event in zip(found, heard.events):
        told = json.loads(json.dumps(event.document()))
        assert {key: line[key] for key in told} == told
        assert line["version"] == 1
        assert abs(line["time"] - time.time()) < 600
    metrics = [line for line in found if line["event"] == "epoch"]
    rows = workshop.metrics("run")
    assert [{key: line[key] for key in row} for line, row in zip(metrics, rows)] == rows


def test_steps_are_written_at_most_once_a_second(workshop: Workshop, heard: Heard) -> None:
    workshop.train(workshop.options("run"))
    frequent = [line for line in lines(workshop) if line["event"] in ("step", "part")]
    assert len(heard.of(Step)) == 3 * STEPS
    assert 1 <= len(frequent) <= 3


def test_a_resumed_run_goes_on_in_the_same_file(workshop: Workshop, heard: Heard) -> None:
    options = workshop.options("run")
    workshop.interrupt(options, "train_step", STEPS + 2)
    assert lines(workshop)[-1]["outcome"] == "stopped"
    assert lines(workshop)[-1]["exit_code"] == 130
    first = len(lines(workshop))
    workshop.train(replace(options, resume=True, given={}))
    second = lines(workshop)[first:]
    assert (second[0]["event"], second[0]["origin"]) == ("started", "resume")
    assert second[0]["step"] == STEPS + 2
    assert second[-1]["outcome"] == "finished"


def test_a_failed_run_says_why(workshop: Workshop, heard: Heard) -> None:
    workshop.change = lambda number, result: StepResult(float("nan"), 0) if number > 5 else result
    with pytest.raises(Diverged) as raised:
        workshop.train(workshop.options("run"))
    last = lines(workshop)[-1]
    assert (last["outcome"], last["exit_code"]) == ("failed", 7)
    assert last["message"] == str(raised.value)
    assert heard.of(Ended)[0].message == str(raised.value)


def test_a_listener_that_fails_ends_the_run_with_the_last_save_kept(workshop: Workshop) -> None:
    class Broken(Listener):
        def hear(self, event: Event) -> None:
            if isinstance(event, Step) and event.epoch == 2:
                raise ZeroDivisionError

    workshop.listeners = [Broken()]
    options = workshop.options("run")
    with pytest.raises(ZeroDivisionError):
        workshop.train(options)
    workshop.listeners = []
    workshop.train(replace(options, resume=True, given={}))


def test_a_torn_line_keeps_to_itself(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for text in ("first", "second"):
        listener = EventsFile(path)
        listener.hear(Note(text))
        listener.close()
        with path.open("ab") as file:
            file.write(b'{"version": 1, "event": "st')
    assert [event["text"] for event in read_events(path)] == ["first", "second"]
    assert path.read_bytes().count(b"\n") == 3


def test_lines_that_are_no_events_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'\xff\n[1]\n{"a": 1}\nnull\n{"event": "note", "text": "x"}\n')
    assert [event["text"] for event in read_events(path)] == ["x"]
    assert read_events(tmp_path / "none") == []


def test_a_full_disk_is_said(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write

    def full(descriptor: int, content: bytes) -> int:
        if content.startswith(b'{"version"'):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, content)

    monkeypatch.setattr(events_file.os, "write", full)
    with pytest.raises(NoSpace, match=r"events cannot be written to .*No space left"):
        workshop.train(workshop.options("run"))


def test_events_of_a_full_disk_do_not_hide_why_a_run_failed(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def spoil(number: int, result: StepResult) -> StepResult:
        if number > MOST_CUTS:
            monkeypatch.setattr(events_file.os, "write", full)
        return StepResult(float("nan"), 0)

    workshop.change = spoil
    with pytest.raises(Diverged):
        workshop.train(workshop.options("run"))


def test_a_killed_process_loses_no_line(tmp_path: Path) -> None:
    """SIGKILL at a moment of its choosing: all lines up to then are whole and in order."""
    bundle = write_tiny_bundle(tmp_path / "bundle", graphs=False)
    photos = write_pictures(tmp_path / "photos", {"ant": 12, "bee": 12})
    run = tmp_path / "run"
    command = [sys.executable, "-m", "mobiletl.device.train_on_board", "--runtime", "fake"]
    command += ["--bundle", str(bundle), "--data", str(photos), "--out", str(run)]
    process = subprocess.Popen([*command, "--epochs", "5000"], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while len(read_events(run / "events.jsonl")) < 40 and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    content = (run / "events.jsonl").read_bytes()
    found = read_events(run / "events.jsonl")
    assert len(found) >= 40
    assert content.count(b"\n") == len(found)
    assert content.endswith(b"\n")
    epochs = [event["epoch"] for event in found if event["event"] == "epoch"]
    assert epochs == list(range(len(epochs)))


def test_the_schema_names_every_key_of_every_event(workshop: Workshop, heard: Heard) -> None:
    workshop.train(workshop.options("run"))
    heard.events.append(Note("x"))
    heard.events += [Paused(LOAD, 1.5, 1.0, "x"), Continued(LOAD, 9.0, 0.0, "x")]
    text = DOCS.read_text(encoding="utf-8")
    sections = dict(part.split("\n", 1) for part in text.split("\n## ")[1:])
    assert {type(event) for event in heard.events} == set(NAMES)
    for event in heard.events:
        section = sections[f"`{NAMES[type(event)]}`"]
        for key in event.document():
            assert f"| `{key}` |" in section, (NAMES[type(event)], key)
