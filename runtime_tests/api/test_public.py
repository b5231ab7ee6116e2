"""What a program may rely on: the names, what they load, and the script of docs/python.md."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import mobiletl
from runtime_tests.support.board.picture_folders import write_pictures
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
PUBLIC = {
    "Bundle",
    "Continued",
    "Ended",
    "Epoch",
    "Event",
    "Former",
    "Frame",
    "Listener",
    "MobileTLError",
    "Note",
    "Outcome",
    "Part",
    "Paused",
    "Prediction",
    "Predictor",
    "Saved",
    "Start",
    "Started",
    "StateInfo",
    "Step",
    "StopFlag",
    "StopRequested",
    "Teacher",
    "UnreadablePicture",
    "load_state",
    "open_bundle",
    "open_predictor",
    "prepare",
    "state_start",
    "train",
}


def test_the_surface_is_this_list() -> None:
    assert set(mobiletl.__all__) == PUBLIC
    assert list(mobiletl.__all__) == sorted(mobiletl.__all__)
    assert set(dir(mobiletl)) >= PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_name_is_there_and_documented(name: str) -> None:
    found = getattr(mobiletl, name)
    assert found is getattr(mobiletl, name)
    assert f"`{name}`" in PAGE.read_text(encoding="utf-8")
    if isinstance(found, type):
        assert found.__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = mobiletl.nonsense


def run(script: str, folder: Path) -> str:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=str(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_importing_it_loads_nothing_heavy(tmp_path: Path) -> None:
    shown = run(
        "import mobiletl, sys; print('numpy' in sys.modules); from mobiletl import train; "
        "print(sorted({'torch', 'onnx', 'onnxruntime', 'matplotlib'} & set(sys.modules)))",
        tmp_path,
    )
    assert shown.split("\n")[:2] == ["False", "[]"]


def test_the_script_of_the_page_runs(tmp_path: Path) -> None:
    """As it stands on the page, on a tiny bundle and small pictures."""
    script = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert script is not None
    write_tiny_bundle(tmp_path / "mbv2")
    write_pictures(tmp_path / "photos", {"cube": 12, "ball": 12})
    shown = run(script[1], tmp_path).splitlines()
    assert any(line.startswith("epoch 1: ") for line in shown)
    assert re.fullmatch(r"(cube|ball) \d+ %", shown[-2])
    assert shown[-1] == "ball, cube: 5 arrays"
    assert (tmp_path / "runs" / "robot" / "events.jsonl").is_file()
