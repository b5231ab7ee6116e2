"""The releases that `importlib.metadata` names, without it."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from mobiletl.device.installed import installed_release

ENDINGS = ("onnxruntime-1.31.1.dist-info", "OnnxRuntime-1.31.1-py3.8.egg-info")


def test_every_package_here_has_the_release_that_python_names() -> None:
    names = {each.metadata["Name"] for each in metadata.distributions()}
    assert len(names) > 5
    assert {name: installed_release(name) for name in names} == {
        name: metadata.version(name) for name in names
    }


@pytest.mark.parametrize("left", ENDINGS)
def test_what_installers_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str) -> None:
    (tmp_path / "onnxruntime_training-9.9.dist-info").mkdir()
    (tmp_path / left).mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path / "gone"), str(tmp_path)])
    assert installed_release("onnxruntime") == "1.31.1"
    assert installed_release("onnxruntime-training") == "9.9"
    assert installed_release("onnx") == installed_release("") == ""


def test_training_does_without_modules_that_cost_megabytes() -> None:
    needless = loaded("mobiletl.device.train_on_board") - loaded("numpy, PIL.Image")
    assert not needless & {"importlib.metadata", "email", "numpy.ma"}


def loaded(modules: str) -> set[str]:
    """Return what a process has loaded that has imported `modules`."""
    code = f"import sys, {modules}; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, text=True
    )
    return set(result.stdout.split())
