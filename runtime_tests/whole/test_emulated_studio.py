"""The studio on boards that are not there: a Raspberry Pi 4, and a Zero 2 W with its 512 MB."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from emulation.chroot import Place
from emulation.engine import Installed, choose
from emulation.errors import CannotEmulate
from emulation.machine import machine
from emulation.studio import EXTRA, pack_studio, run_studio
from emulation.studio_checks import checks
from runtime_tests.support.memory_group import NoMemoryGroups, memory_group
from tools.own_wheel import build_wheel

ZERO_BYTES = 512 << 20
# Of the server and the training, each with an emulator of its own.
LEAST_BYTES = 150_000_000

pytestmark = pytest.mark.slow


def installed_on(name: str, wheel: Path, engine: str = "") -> Installed:
    board = machine(name, extra=EXTRA)
    try:
        return choose(board, engine).install(board, build_wheel(wheel))
    except CannotEmulate as error:
        pytest.skip(f"no emulated board: {error}")


def holds(installed: Installed, folder: Path) -> None:
    folder.mkdir()
    found = checks(run_studio(installed, pack_studio(folder)), folder)
    assert len(found) == 8
    assert [check for check in found if not check.holds] == []


def test_a_visitor_gets_everything_in_the_memory_that_was_stated(tmp_path: Path) -> None:
    holds(installed_on("pi4", tmp_path / "wheel"), tmp_path / "board")


def test_the_same_in_the_memory_that_a_zero_has(tmp_path: Path) -> None:
    """The server and its training are in a group of 512 MB, their emulators included."""
    place = installed_on("pi-zero2", tmp_path / "wheel", "chroot")
    assert isinstance(place, Place)
    try:
        with memory_group(ZERO_BYTES) as group:
            holds(replace(place, group=group.folder), tmp_path / "board")
            peak = group.peak_bytes()
    except NoMemoryGroups as error:
        pytest.skip(f"no memory control group to be had: {error}")
    assert peak is None or LEAST_BYTES < peak <= ZERO_BYTES
    print(f"the group held {peak} bytes at most")
