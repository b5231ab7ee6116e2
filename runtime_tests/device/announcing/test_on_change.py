"""The command that runs on a change: real programs, hostile names, failures, hangs."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from mobiletl.device.announcing.on_change import OnChange, words_of
from mobiletl.device.errors import UsageError
from runtime_tests.support.board.answers import answer

# Appends its environment to a file, and its arguments.
RECORD = """
import os, sys, time
time.sleep(float(sys.argv[2]))
with open(sys.argv[1], "a") as file:
    print(*(os.environ["MOBILETL_" + n] for n in ("LABEL", "PROBABILITY", "UNKNOWN", "TIME")),
          len(sys.argv), sep="|", file=file)
"""


class Recorder:
    def __init__(self, folder: Path) -> None:
        self.script, self.file = folder / "record.py", folder / "record.txt"
        self.script.write_text(RECORD)
        self.told: list[str] = []

    def words(self, seconds: float = 0.0) -> list[str]:
        return [sys.executable, str(self.script), str(self.file), str(seconds)]

    def rows(self) -> list[list[str]]:
        if not self.file.exists():
            return []
        return [line.split("|") for line in self.file.read_text("utf-8").splitlines()]


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path)


def wait_for(recorder: Recorder, rows: int) -> None:
    until = time.monotonic() + 20
    while len(recorder.rows()) < rows:
        assert time.monotonic() < until
        time.sleep(0.02)


def test_it_runs_on_changes_alone_with_the_answer_in_its_environment(recorder: Recorder) -> None:
    with OnChange(recorder.words(), recorder.told.append) as hearer:
        hearer.hear(answer("ant"))
        wait_for(recorder, 1)
        hearer.hear(answer("ant", changed=False))
        hearer.hear(answer(None, time_s=1234.5))
    assert recorder.rows() == [
        ["ant", "0.9000", "0", "1000.000", "3"],
        ["ant", "0.9000", "1", "1234.500", "3"],
    ]
    assert recorder.told == []


def test_a_name_is_never_run_and_never_an_argument(recorder: Recorder, tmp_path: Path) -> None:
    bad = f"$(touch {tmp_path}/pwned); `touch {tmp_path}/pwned` --help\n\x1b[0m\udcff"
    with OnChange(recorder.words(), recorder.told.append) as hearer:
        hearer.hear(answer(bad, names=(bad, "bee")))
    ((label, *_, arguments),) = recorder.rows()
    assert label == bad.replace("\n", "\\n").replace("\x1b", "\\x1b").replace("\udcff", "\\udcff")
    assert arguments == "3"
    assert not (tmp_path / "pwned").exists()


def test_never_two_at_a_time_and_the_last_change_counts(recorder: Recorder) -> None:
    names = tuple("abcdefgh")
    began = time.monotonic()
    with OnChange(recorder.words(0.5), recorder.told.append) as hearer:
        for place, name in enumerate(names):
            hearer.hear(answer(name, names=names))
            if place == 0:
                time.sleep(0.2)  # it has begun
        assert time.monotonic() - began < 0.4  # nothing has waited for it
    assert [row[0] for row in recorder.rows()] == ["a", "h"]
    assert hearer.runs == 2


def test_a_failure_is_told_once(recorder: Recorder) -> None:
    with OnChange([sys.executable, "-c", "raise SystemExit(3)"], recorder.told.append) as hearer:
        for _ in range(3):
            hearer.hear(answer())
            until = time.monotonic() + 20
            runs = hearer.runs
            while hearer.runs == runs and time.monotonic() < until:
                time.sleep(0.02)
    assert hearer.runs >= 2
    (told,) = recorder.told
    assert "failed with exit code 3" in told


def test_what_hangs_is_killed_with_all_it_started(recorder: Recorder, tmp_path: Path) -> None:
    script = tmp_path / "hang.sh"
    script.write_text(f"#!/bin/sh\nsleep 60 &\necho $! > {tmp_path}/child\nwait\n")
    script.chmod(0o755)
    began = time.monotonic()
    with OnChange([str(script)], recorder.told.append, timeout_s=1.0) as hearer:
        hearer.hear(answer())
    assert time.monotonic() - began < 10
    (told,) = recorder.told
    assert "was killed after 1 s" in told
    child = int((tmp_path / "child").read_text())
    until = time.monotonic() + 5
    while _alive(child):
        assert time.monotonic() < until
        time.sleep(0.02)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    # Nobody may have waited for an orphan yet.
    return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()


def test_a_program_that_goes_away_is_told_once(recorder: Recorder, tmp_path: Path) -> None:
    with OnChange([str(tmp_path / "gone")], recorder.told.append) as hearer:
        hearer.hear(answer())
    (told,) = recorder.told
    assert "cannot be run" in told


def test_commands_are_split_without_a_shell() -> None:
    assert words_of("sh -c 'echo $HOME; ls'") == ["sh", "-c", "echo $HOME; ls"]
    for command, why in (
        ("", "empty"),
        ("sh 'x", "cannot be split"),
        ("no-such-program --x", "there is no program no-such-program"),
    ):
        with pytest.raises(UsageError, match=why):
            words_of(command)
