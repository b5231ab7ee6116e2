"""The command `mobiletl finish`: bad input gets one line, its exit code, and leaves no file."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.state_file import StateInfo, save_state
from mobiletl.device.commands.table import main
from mobiletl.export.finish import files
from runtime_tests.support.exported_bundles import Case, exported

SMALL = Case("ft-last", None)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory, SMALL)


def write_state(bundle: Path, path: Path, **changed: Any) -> Path:
    opened = open_bundle(bundle)
    info = {"fit": opened.manifest.fit, "class_names": ("a", "b"), **changed.pop("info", {})}
    tensors = {**opened.initial_state(2, 0), **changed}
    save_state(path, tensors, StateInfo(epoch=1, step=1, seed=0, **info))
    return path


@pytest.fixture
def state(bundle: Path, tmp_path: Path) -> Path:
    return write_state(bundle, tmp_path / "state.safetensors")


def run(bundle: Path, state: Path, *more: str) -> int:
    return main(["finish", "--bundle", str(bundle), "--state", str(state), *more])


def refused(capsys: pytest.CaptureFixture[str], code: int, wanted: int, words: str) -> None:
    printed = capsys.readouterr()
    assert code == wanted, printed.err
    assert printed.out == ""
    assert printed.err.startswith("mobiletl: ")
    assert len(printed.err.splitlines()) == 1
    assert words in printed.err


def test_writes_and_says_so(
    bundle: Path, state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new folder" / "pets.onnx"
    assert run(bundle, state, "--to", "onnx", "--out", str(out), "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == {
        "files": [str(out), str(out.with_suffix(".labels.txt"))],
        "classes": ["a", "b"],
    }
    assert {p.name for p in out.parent.iterdir()} == {"pets.onnx", "pets.labels.txt"}
    assert run(bundle, state, "--to", "onnx", "--out", str(out)) == 2
    assert "exists; remove it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--to", "tflite"], "expected one of onnx, executorch, torchscript, torchvision"),
        (["--to", "torchscript", "--int8"], "--int8 does not go with --to torchscript"),
        (["--to", "onnx", "--data", "photos"], "add --int8"),
        (["--to", "onnx", "--out", "pets.pte"], "expected a name that ends in .onnx"),
    ],
)
def test_flags_that_make_no_sense(
    flags: list[str], words: str, bundle: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, run(bundle, state, *flags), 2, words)


def test_no_pictures_to_calibrate_on(
    bundle: Path, state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    flags = ["--to", "onnx", "--int8", "--data", str(tmp_path / "empty")]
    refused(capsys, run(bundle, state, *flags), 3, "no picture")
    assert not (tmp_path / "state.onnx").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: shutil.rmtree(folder / "onnxruntime"), "cannot be read"),
        (lambda folder: (folder / "manifest.json").unlink(), "is not a bundle"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "is not valid JSON"),
        (
            lambda folder: (folder / "manifest.json").write_text("[]"),
            "expected an object, found []",
        ),
        (lambda folder: edit(folder, version=99), "has format version 99"),
        (lambda folder: edit(folder, model={"name": "mbv2"}), "model.width: missing"),
        (lambda folder: edit(folder, created_by="somebody"), "the content hashes to"),
        (
            lambda folder: (folder / "onnxruntime" / "predict.onnx").write_bytes(b"x"),
            "another SHA-256",
        ),
    ],
)
def test_bundles_that_are_none(
    change: Any,
    words: str,
    bundle: Path,
    state: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(bundle, copied)
    change(copied)
    refused(capsys, run(copied, state, "--to", "onnx"), 4, words)


def edit(folder: Path, **changed: Any) -> None:
    file = folder / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), **changed}))


def test_a_state_that_is_missing_damaged_or_something_else(
    bundle: Path, state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(
        capsys,
        run(bundle, tmp_path / "no.safetensors", "--to", "onnx"),
        5,
        "no.safetensors does not exist",
    )
    content = bytearray(state.read_bytes())
    content[-1] ^= 1
    state.write_bytes(content)
    refused(capsys, run(bundle, state, "--to", "onnx"), 5, "another SHA-256")
    state.write_bytes(content[:100])
    refused(capsys, run(bundle, state, "--to", "onnx"), 5, "is damaged")
    shutil.copy(bundle / "state.safetensors", state)
    refused(capsys, run(bundle, state, "--to", "onnx"), 5, "is not a state of mobiletl")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"info": {"fit": "0" * 64}}, "trained with another network than this bundle's"),
        ({"info": {"class_names": ("a", "b", "c")}}, "float32 [2, 1280], not float32 [3, 1280]"),
        ({"classifier.1.bias": np.array([0, np.nan], np.float32)}, "NaN or infinity"),
        ({"more": np.zeros(1, np.float32)}, "more is unknown"),
    ],
)
def test_a_state_of_another_bundle(
    changed: dict[str, Any],
    words: str,
    bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    state = write_state(bundle, tmp_path / "other.safetensors", **changed)
    refused(capsys, run(bundle, state, "--to", "onnx"), 5, words)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS], ids=errno.errorcode.get)
def test_a_full_disk_leaves_nothing(
    code: int,
    bundle: Path,
    state: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No disk of ours is full, so the write that would fail is told to, at its end."""
    write = files._write

    def fail(path: Path, content: bytes) -> None:
        write(path, content)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files, "_write", fail)
    before = set(tmp_path.iterdir())
    refused(capsys, run(bundle, state, "--to", "onnx"), 6, os.strerror(code))
    assert set(tmp_path.iterdir()) == before


def test_a_file_where_a_folder_should_be(
    bundle: Path, state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("here")
    out = str(tmp_path / "file" / "pets.onnx")
    refused(capsys, run(bundle, state, "--to", "onnx", "--out", out), 6, "can't write")


def test_a_state_is_never_written_over(bundle: Path, state: Path) -> None:
    before = state.read_bytes()
    assert run(bundle, state, "--to", "torchvision", "--out", str(state)) == 2
    assert run(bundle, state, "--to", "torchvision") == 0
    assert state.read_bytes() == before
