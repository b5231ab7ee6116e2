"""`mobiletl inspect --state`: what a state knows, the view of its pictures among it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.state_file import StateInfo, save_state
from mobiletl.device.bundle.view import View
from mobiletl.device.inspect_bundle import main
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle

VIEW = View(90, (0.25, 0.0, 0.5, 1.0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "tiny", graphs=False)


def write_state(folder: Path, view: View | None) -> str:
    bundle = open_bundle(folder)
    info = StateInfo(bundle.manifest.fit, ("cat\n", "dog"), epoch=3, step=40, seed=0, view=view)
    path = folder.parent / "state.safetensors"
    save_state(path, bundle.initial_state(2, 0), info)
    return str(path)


def test_says_what_a_state_knows(folder: Path, capsys: Any) -> None:
    state = write_state(folder, VIEW)
    assert main(["--bundle", str(folder), "--state", state]) == 0
    text = capsys.readouterr().out
    for part in ("cat\\n, dog", "3 epochs, 40 steps", "not evaluated", "--rotate 90 --roi 0.25,0,"):
        assert part in text
    write_state(folder, None)
    assert main(["--bundle", str(folder), "--state", state]) == 0
    assert "none kept" in capsys.readouterr().out


def test_says_it_to_programs(folder: Path, capsys: Any) -> None:
    assert main(["--bundle", str(folder), "--state", write_state(folder, VIEW), "--json"]) == 0
    state = json.loads(capsys.readouterr().out)["state"]
    assert state["view"] == {"rotate": 90, "region": [0.25, 0.0, 0.5, 1.0]}
    assert state["classes"] == ["cat\n", "dog"]
    assert main(["--bundle", str(folder), "--json"]) == 0
    assert "state" not in json.loads(capsys.readouterr().out)


def test_a_state_that_is_none_is_one_line(folder: Path, capsys: Any) -> None:
    (folder.parent / "noise").write_bytes(b"noise")
    assert main(["--bundle", str(folder), "--state", str(folder.parent / "noise")]) == 5
    assert len(capsys.readouterr().err.splitlines()) == 1
