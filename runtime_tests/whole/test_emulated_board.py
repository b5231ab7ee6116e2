"""A Raspberry Pi 4 that is not there; `make emulate BOARD=all` has the other boards, too."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from emulation.chroot import Chroot, build_root
from emulation.engine import SHARED, Installed, choose
from emulation.errors import CannotEmulate
from emulation.machine import machine
from emulation.trial import Check, checks, pack, run_here, run_on
from mobiletl.device.diagnosis.boards import SIGILL_ONNXRUNTIME
from tools.own_wheel import build_wheel

pytestmark = pytest.mark.slow

PI4 = machine("pi4")
ILLEGAL_INSTRUCTION = 128 + signal.SIGILL


@dataclass(frozen=True)
class Pi4:
    installed: Installed
    shared: Path
    board: dict[str, Any]
    here: dict[str, Any]

    def python(self, code: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        return self.installed.run(self.shared, ["python", "-c", code], timeout_s)


@pytest.fixture(scope="module")
def pi4(tmp_path_factory: pytest.TempPathFactory) -> Pi4:
    try:
        engine = choose(PI4)
    except CannotEmulate as error:
        pytest.skip(f"no emulated board: {error}")
    scratch = tmp_path_factory.mktemp("pi4")
    installed = engine.install(PI4, build_wheel(scratch / "wheel"))
    here = pack(scratch / "here")
    shared = pack(scratch / "board", here / "bundle", here / "photos")
    return Pi4(installed, shared, run_on(installed, shared), run_here(here))


def named(pi4: Pi4, name: str) -> Check:
    (check,) = (check for check in checks(pi4.board, pi4.here) if check.name == name)
    return check


def test_is_the_board_that_was_asked_for(pi4: Pi4) -> None:
    assert pi4.board["machine"] == "aarch64"
    assert pi4.board["python"].rpartition(".")[0] == PI4.board.python
    assert pi4.board["versions"]["onnxruntime"] == PI4.onnxruntime
    shown = pi4.python("print(open('/proc/cpuinfo').read())").stdout
    assert shown.count(f"CPU part\t: {PI4.board.part:#05x}\n") == 4


@pytest.mark.parametrize(
    "name",
    [
        "loss after 10 steps",
        "resumed after a power cut",
        "peak memory",
        "predictions",
        "install beside NumPy",
    ],
)
def test_bar(pi4: Pi4, name: str) -> None:
    check = named(pi4, name)
    assert check.holds, check.found


def test_trained(pi4: Pi4) -> None:
    """The bars would hold for a step that changes nothing, too."""
    before, _, last = (epoch["val_loss"] for epoch in pi4.board["epochs"])
    assert last < before - 0.02


@pytest.mark.parametrize("version", SIGILL_ONNXRUNTIME)
def test_the_bad_release_dies(pi4: Pi4, version: str) -> None:
    """microsoft/onnxruntime#24112; `mobiletl doctor` names it."""
    bad = pi4.shared / "bad"
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    command += ["--no-deps", "--only-binary=:all:", "--target", str(bad)]
    command += ["--platform", "manylinux_2_28_aarch64", "--platform", "manylinux_2_27_aarch64"]
    command += ["--python-version", PI4.board.python, f"onnxruntime=={version}"]
    subprocess.run(command, check=True)
    code = f"import sys; sys.path.insert(0, '{SHARED}/bad'); import onnxruntime as o; "
    code += f"print(o.__version__); o.InferenceSession('{SHARED}/bundle/onnxruntime/features.onnx')"
    done = pi4.python(code)
    assert done.returncode == ILLEGAL_INSTRUCTION, done.stdout


def test_nothing_is_left_behind(pi4: Pi4) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        pi4.python("import time; time.sleep(600)", timeout_s=15)
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    assert "time.sleep(600)" not in running.stdout
    assert "/mobiletl/emulation/" not in Path("/proc/self/mounts").read_text("utf-8")


def test_a_half_built_system_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    objection = Chroot().objection(PI4)
    if objection:
        pytest.skip(f"no emulated board: {objection}")
    (tmp_path / "debian.partial-killed" / "usr").mkdir(parents=True)
    with pytest.raises(subprocess.CalledProcessError):
        build_root(tmp_path / "debian", "no-such-release")
    assert list(tmp_path.iterdir()) == []
