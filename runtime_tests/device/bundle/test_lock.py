"""One writer at a time: who holds a lock is said, and a dead one holds none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mobiletl.device.bundle.lock import locked
from mobiletl.device.errors import InUse, NoSpace

HOLD = """
import sys, time
from pathlib import Path
from mobiletl.device.bundle.lock import locked
with locked(Path(sys.argv[1]), "the run", "wait"):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=60)


def test_the_second_hears_who_the_first_is(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    process = holder(path)
    try:
        with pytest.raises(InUse) as caught, locked(path, "the run", "go away"):
            pass
    finally:
        end(process)
    said = str(caught.value)
    assert said.startswith(f"the run is in use by process {process.pid} on ")
    assert " since 20" in said
    assert said.endswith("; wait for it, or go away")
    assert not path.exists()
    with locked(path, "the run", "go away"):
        assert path.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_dead_holder_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    process = holder(path)
    process.send_signal(signal.SIGKILL)
    end(process)
    assert path.exists()
    with locked(path, "the run", "wait"):
        pass
    assert not path.exists()


def test_who_signed_nonsense_is_another_process(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    process = holder(path)
    try:
        for text in ("", "x", "[]", '{"pid": {}}', '{"pid": 1, "since": 1e400}', "[" * 9000):
            path.write_text(text)
            with pytest.raises(InUse, match="another process"), locked(path, "it", "wait"):
                pass
    finally:
        end(process)


def test_text_of_a_lock_is_made_printable(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    process = holder(path)
    try:
        path.write_text('{"pid": 1, "since": 0, "host": "\\u001b[2J", "command": "a\\nb"}')
        with pytest.raises(InUse) as caught, locked(path, "it", "wait"):
            pass
    finally:
        end(process)
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_link_is_followed(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("precious")
    (tmp_path / ".lock").symlink_to(target)
    with pytest.raises(NoSpace, match="none is followed"), locked(tmp_path / ".lock", "it", "x"):
        pass
    assert target.read_text() == "precious"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do everything")
def test_a_folder_of_somebody_else(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(NoSpace, match="this user may not"), locked(tmp_path / "x", "it", "y"):
            pass
    finally:
        tmp_path.chmod(0o700)
