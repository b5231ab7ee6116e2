"""The studio on a Raspberry Pi 4 that is not there; `make emulate-studio` has the Zero 2 W, too."""

from __future__ import annotations

import pytest

from emulation.engine import choose
from emulation.errors import CannotEmulate
from emulation.machine import machine
from emulation.studio import EXTRA, checks, pack_studio, run_studio
from tools.own_wheel import build_wheel


@pytest.mark.slow
def test_a_visitor_gets_everything_in_the_memory_that_was_stated(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    board = machine("pi4", extra=EXTRA)
    try:
        engine = choose(board)
    except CannotEmulate as error:
        pytest.skip(f"no emulated board: {error}")
    installed = engine.install(board, build_wheel(tmp_path_factory.mktemp("wheel") / "wheel"))
    found = checks(run_studio(installed, pack_studio(tmp_path_factory.mktemp("board"))))
    assert len(found) == 6
    assert all(check.holds for check in found), found
