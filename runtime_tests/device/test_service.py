"""The systemd unit: what it promises, that systemd accepts it, and that its command line works."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mobiletl.device import errors
from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.commands import table as commands
from mobiletl.device.memory.plan import plan
from runtime_tests.support.board.picture_folders import write_pictures
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle

COUNTS = {"cat": 4, "dog": 5}
# Everything that means something to a shell or to systemd.
ODD = "my 50% $HOME 'pics' \"x\" \\n;"


def unit_of(folder: Path, capsys: Any, *flags: str) -> str:
    bundle, data = folder / "bundle", folder / "pictures"
    arguments = ["--bundle", str(bundle), "--data", str(data), "--out", str(folder / "run"), *flags]
    assert commands.main(["service", *arguments]) == 0
    return str(capsys.readouterr().out)


def value(unit: str, key: str) -> str:
    return re.findall(rf"^{key}=(.*)$", unit, re.M)[0]


def shell_line(unit: str) -> list[str]:
    """The words systemd starts, as it unquotes them."""
    words = shlex.split(value(unit, "ExecStart").replace("%%", "%").replace("$$", "$"))
    assert words[:2] == ["/bin/sh", "-c"]
    return words


@pytest.fixture(params=["plain", ODD], ids=["plain", "odd"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    home = tmp_path / request.param
    write_tiny_bundle(home / "bundle")
    write_pictures(home / "pictures", COUNTS)
    return home


def test_limits_come_from_the_plan(tmp_path: Path, capsys: Any) -> None:
    write_tiny_bundle(tmp_path / "bundle")
    write_pictures(tmp_path / "pictures", COUNTS)
    unit = unit_of(tmp_path, capsys, "--batch", "4", "--cpu-percent", "150")
    manifest, pictures = open_bundle(tmp_path / "bundle").manifest, sum(COUNTS.values())
    planned = plan(manifest, 4, len(COUNTS), pictures=pictures).total_bytes
    assert int(value(unit, "MemoryMax")) == round(planned * 1.1)
    assert value(unit, "CPUQuota") == "150%"
    assert value(unit, "Nice") == "10"
    assert value(unit, "Restart") == "on-failure"
    assert int(value(unit, "SuccessExitStatus")) == errors.Interrupted.exit_code
    hopeless = {int(code) for code in value(unit, "RestartPreventExitStatus").split()}
    assert hopeless == {2, 3, 4, 5, 6, 7, 8, 15}


def test_settings_and_resources_reach_the_command(tmp_path: Path, capsys: Any) -> None:
    write_tiny_bundle(tmp_path / "bundle")
    write_pictures(tmp_path / "pictures", COUNTS)
    flags = "--lr 0.01 --seed 3 --no-augment --threads 2 --runtime onnxruntime --save-every 50"
    line = shell_line(unit_of(tmp_path, capsys, *flags.split()))[2]
    for words in ("--lr 0.01", "--seed 3", "--no-augment", "--threads 2", "--save-every 50"):
        assert f" {words} " in line
    assert " --runtime onnxruntime " in line
    assert "--epochs" not in line, "what is not named stays the run's"


def test_systemd_accepts_it(folder: Path, tmp_path: Path, capsys: Any) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    file = tmp_path / "mobiletl.service"
    file.write_text(unit_of(folder, capsys), encoding="utf-8")
    checked = subprocess.run(
        ["systemd-analyze", "verify", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    # Of other units on this machine it may complain as it likes.
    assert "mobiletl.service" not in checked.stdout


def test_its_command_starts_resumes_and_ends(folder: Path, capsys: Any) -> None:
    pytest.importorskip("onnx")  # writes the tiny bundle's graphs
    words = shell_line(unit_of(folder, capsys, "--epochs", "2"))

    def start() -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, capture_output=True, text=True, check=False)

    first = start()
    assert first.returncode == 0, first.stderr
    assert "epoch 2/2" in first.stderr
    # Power cut between the two renames of a save: the former generation alone is left.
    (folder / "run" / "last.safetensors").rename(folder / "run" / "last.previous.safetensors")
    again = start()
    assert again.returncode == 0, again.stderr
    assert "epoch 1/2" not in again.stderr


def test_what_cannot_be_written_is_refused(tmp_path: Path, capsys: Any) -> None:
    home = tmp_path / "two\nlines"
    write_tiny_bundle(home / "bundle")
    write_pictures(home / "pictures", COUNTS)
    flags = ["--data", str(home / "pictures"), "--out", str(home / "run")]
    assert commands.main(["service", "--bundle", str(home / "bundle"), *flags]) == 2
    assert "systemd unit; rename it" in capsys.readouterr().err
    assert commands.main(["service", *flags, "--user", "pi\nExecStart=x", "--batch", "0"]) == 2
    assert "--batch is 0" in capsys.readouterr().err
