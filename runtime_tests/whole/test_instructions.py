"""Instructions on an emulated Raspberry Pi 4: of a step on floats, and of one on bytes."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from emulation.chroot import Chroot
from emulation.instructions import COUNT, Counter, build_plugin, counter, objection
from emulation.machine import machine
from tools.own_wheel import build_wheel

pytestmark = pytest.mark.slow

PI4 = machine("pi4")
LOOP = """
#include <stdlib.h>
int main(int count, char **words)
{
    long rounds = atol(words[1]);
    __asm__ volatile("1: dec %0\\n jnz 1b" : "+r"(rounds));
    return 0;
}
"""


@pytest.fixture(scope="module")
def pi4(tmp_path_factory: pytest.TempPathFactory) -> Counter:
    problem = objection() or Chroot().objection(PI4)
    if problem:
        pytest.skip(f"no counting emulator: {problem}")
    scratch = tmp_path_factory.mktemp("counter")
    return counter(PI4, build_wheel(scratch / "wheel"), scratch)


def exported(folder: Path, step: str) -> Path:
    command = [str(Path(sys.executable).with_name("mobiletl")), "export", "--weights", "demo"]
    command += ["--step", step, "--out", str(folder / step)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / step


def test_a_step_on_bytes_takes_fewer_than_one_on_floats(pi4: Counter, tmp_path: Path) -> None:
    floats, again = (pi4.count(exported(tmp_path / name, "float32")) for name in ("one", "two"))
    assert again.step == pytest.approx(floats.step, rel=0.01)
    assert again.features == pytest.approx(floats.features, rel=0.01)
    bytes_ = pi4.count(exported(tmp_path / "three", "int8"))
    assert bytes_.step < floats.step
    # What is frozen is the same.
    assert bytes_.features == pytest.approx(floats.features, rel=0.02)


def test_the_plugin_counts_every_time_round(tmp_path: Path) -> None:
    """A loop of two instructions, in a program of this machine's own kind."""
    emulator = f"qemu-{platform.machine()}"
    if objection() or shutil.which(emulator) is None or platform.machine() != "x86_64":
        pytest.skip(objection() or f"needs {emulator}, and an x86-64 processor")
    (tmp_path / "loop.c").write_text(LOOP, "ascii")
    subprocess.run(["cc", "-o", tmp_path / "loop", tmp_path / "loop.c"], check=True)
    plugin = build_plugin(tmp_path)

    def executed(rounds: int) -> int:
        command = [emulator, "-plugin", plugin, tmp_path / "loop", str(rounds)]
        found = COUNT.search(
            subprocess.run(command, capture_output=True, text=True, check=True).stderr
        )
        assert found is not None
        return int(found[1])

    # Where the stack begins is drawn anew, which may cost the loader an instruction or two.
    assert executed(1_900_000) - executed(1_000_000) == pytest.approx(2 * 900_000, abs=100)
