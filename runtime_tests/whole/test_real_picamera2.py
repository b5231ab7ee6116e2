"""The tests of picamera2 on its own package, in a Debian 13 that is unpacked for them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from emulation.errors import CannotEmulate
from emulation.ribbon import run_tests
from tools.own_wheel import build_wheel

HELD = "the_stand_in_has_no_method_and_no_parameter_that_the_real_package_lacks"


@pytest.mark.slow
def test_the_real_package_has_what_is_called_and_finds_no_camera(tmp_path: Path) -> None:
    (tmp_path / "board").mkdir()
    try:
        printed = run_tests(tmp_path / "board", build_wheel(tmp_path / "wheel"))
    except CannotEmulate as error:
        pytest.skip(f"no picamera2: {error}")
    assert re.search(rf"^PASSED .*::test_{HELD}$", printed, re.MULTILINE), printed
    # It was imported, asked libcamera, and was told that there is none.
    assert "no camera is found on the ribbon" in printed, printed
    assert "none found" in printed, printed
    assert not re.search(r"^(FAILED|ERROR) ", printed, re.MULTILINE), printed
