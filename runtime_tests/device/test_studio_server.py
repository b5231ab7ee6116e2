"""`mobiletl studio`: flags that make no sense, what is missing, and the systemd unit."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mobiletl.device.commands import table as commands
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle

# Everything that means something to a shell or to systemd.
ODD = "my 50% $HOME 'pics' \"x\" \\n;"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--port", "-1"], "--port is -1"),
        (["--port", "70000"], "--port is 70000"),
        (["--camera", "0", "--camera-rate", "0", "--roi", "1"], "--roi is '1'"),
        (["--camera-size", "640x480"], "--camera-size is of a camera"),
        (["--camera", "0", "--camera-size", "0x2", "--threads", "-2"], "--threads is -2"),
        (["--camera", "0", "--rotate", "90", "--unit"], "--unit takes no --rotate"),
        (["--hots", "0.0.0.0"], "did you mean --host"),
        (["--host", "192.0.2.77", "--port", "0"], "192.0.2.77"),
        (["--host", "no such name", "--port", "0"], "no such name"),
    ],
)
def test_flags_that_make_no_sense(tmp_path: Path, capsys: Any, words: list[str], said: str) -> None:
    for package in ("starlette", "uvicorn"):
        pytest.importorskip(package)
    pytest.importorskip("onnx")
    bundle = write_tiny_bundle(tmp_path / "bundle")
    given = ["studio", "--bundle", str(bundle), "--project", str(tmp_path / "project")]
    assert commands.main([*given, *words]) == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert printed.count("\n") == 1


def test_a_port_that_is_taken_is_said(tmp_path: Path, capsys: Any) -> None:
    for package in ("starlette", "uvicorn", "onnx"):
        pytest.importorskip(package)
    bundle = write_tiny_bundle(tmp_path / "bundle")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        given = ["--bundle", str(bundle), "--project", str(tmp_path / "project"), "--port", port]
        assert commands.main(["studio", *given]) == 2
    assert f"port {port}" in capsys.readouterr().err


def test_a_missing_package_is_said_with_what_to_type(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_bundle(tmp_path / "bundle", graphs=False)
    for name in [name for name in sys.modules if name.startswith("mobiletl.device.studio.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "starlette", None)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.setitem(sys.modules, "anyio.to_thread", None)
    assert commands.main(["studio", "--bundle", str(tmp_path / "bundle")]) == 8
    assert 'pip install "mobiletl[studio]"' in capsys.readouterr().err


def test_a_bundle_that_is_none(tmp_path: Path, capsys: Any) -> None:
    for package in ("starlette", "uvicorn"):
        pytest.importorskip(package)
    given = ["--bundle", str(tmp_path), "--project", str(tmp_path / "project")]
    assert commands.main(["studio", *given]) == 4
    assert commands.main(["studio", *given, "--unit"]) == 4
    assert "manifest.json" in capsys.readouterr().err


def test_the_unit_starts_this_command_from_any_folder(tmp_path: Path, capsys: Any) -> None:
    bundle = write_tiny_bundle(tmp_path / ODD, graphs=False)
    project = tmp_path / "project"
    given = ["--bundle", str(bundle), "--project", str(project), "--camera", "nv ! appsink"]
    given += ["--host", "0.0.0.0", "--allow-host", "kitchen.example", "--camera-rate", "5"]
    given += ["--camera-size", "640x480", "--lock-exposure"]
    assert commands.main(["studio", *given, "--unit"]) == 0
    unit = capsys.readouterr().out
    line = re.findall(r"^ExecStart=(.*)$", unit, re.M)[0].replace("%%", "%").replace("$$", "$")
    words = shlex.split(line)
    assert Path(words[1]).name == "studio_server.py"
    assert words[words.index("--bundle") + 1] == str(bundle)
    assert words[words.index("--camera") + 1] == "nv ! appsink"
    assert words[words.index("--allow-host") + 1] == "kitchen.example"
    assert words[words.index("--camera-rate") + 1] == "5.0"
    assert words[words.index("--camera-size") + 1] == "640x480"
    assert "--lock-exposure" in words
    assert not project.exists()
    if shutil.which("systemd-analyze"):
        file = tmp_path / "mobiletl-studio.service"
        file.write_text(unit, encoding="utf-8")
        checked = subprocess.run(
            ["systemd-analyze", "verify", str(file)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        # Of other units on this machine it may complain as it likes.
        assert "mobiletl-studio.service" not in checked.stdout
    helped = subprocess.run([*words[:2], "--help"], cwd="/", capture_output=True, check=False)
    assert helped.returncode == 0


def test_the_view_is_the_projects(tmp_path: Path) -> None:
    for package in ("starlette", "uvicorn", "onnx"):
        pytest.importorskip(package)
    from mobiletl.device.bundle.view import AskedView, View
    from mobiletl.device.errors import UsageError
    from mobiletl.device.studio.studio import Asked, Studio

    bundle, project = write_tiny_bundle(tmp_path / "bundle"), tmp_path / "project"
    for asked in (AskedView(90), AskedView(), AskedView(90, (0.0, 0.0, 1.0, 1.0))):
        with Studio(Asked(bundle, project, view=asked)) as studio:
            assert studio.feed.view == View(90)
    with pytest.raises(UsageError, match="taken with --rotate 90"):
        Studio(Asked(bundle, project, view=AskedView(180)))
    # Nothing holds the project after a refusal.
    with Studio(Asked(bundle, project)) as studio:
        studio.look(View(180))
    with Studio(Asked(bundle, project, view=AskedView(180))) as studio:
        assert studio.feed.view == View(180)
