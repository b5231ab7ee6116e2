"""Streams that are closed, full or read by nobody: the exit code tells how a command went."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mobiletl.device.errors import Diverged, NoSpace, UsageError
from runtime_tests.support.board.picture_folders import write_pictures
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle

RUINOUS = "--lr 3.3e38 --start random --epochs 8"


@pytest.fixture
def command(tmp_path: Path) -> str:
    bundle = write_tiny_bundle(tmp_path / "bundle", graphs=False)
    photos = write_pictures(tmp_path / "photos", {"ant": 8, "bee": 8})
    for index in range(3):
        one, other = (photos / name / f"{index:03}.png" for name in ("ant", "bee"))
        other.write_bytes(one.read_bytes())
    words = [sys.executable, "-m", "mobiletl.device.train_on_board"]
    words += ["--bundle", bundle, "--data", photos, "--runtime", "fake", "--out", tmp_path / "run"]
    return " ".join(shlex.quote(str(word)) for word in words)


def shell(line: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash; its exit code is that of the first command of a pipe."""
    script = f"{line}; exit ${{PIPESTATUS[0]}}"
    return subprocess.run(["bash", "-c", script], check=False, capture_output=True, text=True)


def test_an_error_that_nobody_reads_is_one(command: str) -> None:
    ended = shell(f"{command} {RUINOUS} 2>&1 | head -2")
    assert ended.returncode == Diverged.exit_code
    assert "Traceback" not in ended.stdout


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_closed_stream_changes_no_exit_code(command: str, closed: str) -> None:
    ended = shell(f"{command} {RUINOUS} {closed}")
    assert ended.returncode == Diverged.exit_code
    assert "Traceback" not in ended.stdout + ended.stderr


def test_whoever_has_read_enough_is_no_error(command: str) -> None:
    ended = shell(f"{command} --epochs 1 2>/dev/null | true")
    assert (ended.returncode, ended.stderr) == (0, "")


def test_output_that_the_disk_does_not_take_is_one(command: str) -> None:
    ended = shell(f"{command} --epochs 1 >/dev/full")
    assert ended.returncode == NoSpace.exit_code
    said = [line for line in ended.stderr.splitlines() if line.startswith("mobiletl: ")]
    assert len(said) == 1
    assert "No space left on device" in said[0]
    assert "Traceback" not in ended.stderr


def test_a_plot_that_cannot_be_written_hides_nothing(command: str, tmp_path: Path) -> None:
    (tmp_path / "run" / "plot.png").mkdir(parents=True)
    ended = shell(f"{command} {RUINOUS}")
    assert ended.returncode == Diverged.exit_code
    assert ended.stderr.splitlines()[-1].startswith("mobiletl: the loss is ")


def test_thousands_of_threads_are_refused(command: str) -> None:
    ended = shell(f"{command} --threads 4000")
    assert ended.returncode == UsageError.exit_code
    assert ended.stderr == "mobiletl: --threads is 4000, expected at most 64, or 0 for all cores\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become a user without a name")
def test_a_user_without_a_name() -> None:
    program = "import os; from mobiletl.device import service; os.setuid(54321); "
    program += "print(service._parser().get_default('user'))"
    named = {"LOGNAME", "USER", "LNAME", "USERNAME"}
    environment = {name: value for name, value in os.environ.items() if name not in named}
    ended = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert (ended.returncode, ended.stdout) == (0, "54321\n")
