"""Every wheel that a Jetson Nano (Ubuntu 18.04, Python 3.8) would get runs on its C library."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest

from emulation.host import index_answers
from mobiletl.device.diagnosis.boards import board_named
from runtime_tests.support.board.shared_files import REPOSITORY

JETSON = board_named("jetson-nano")
OLDEST_ON_AARCH64 = (2, 17)


@pytest.mark.slow
def test_a_jetson_nano_has_the_glibc_that_its_wheels_ask_for() -> None:
    if shutil.which("readelf") is None:
        pytest.skip("no readelf (binutils) to look into libraries with")
    if not index_answers():
        pytest.skip("the package index does not answer")
    command = [sys.executable, str(REPOSITORY / "tools" / "board_wheels.py"), JETSON.python]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    asked = re.search(r"needs glibc (\d+)\.(\d+)", done.stdout)
    assert asked is not None, done.stdout
    most = tuple(int(number) for number in JETSON.glibc.split("."))
    assert OLDEST_ON_AARCH64 <= tuple(map(int, asked.groups())) <= most
