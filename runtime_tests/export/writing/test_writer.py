"""A bundle on disk is whole, or it is the one that was there before."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from mobiletl.core.errors import NoSpace, UsageError
from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.export.writing import writer as bundle_writer
from mobiletl.export.writing.writer import created_by, put_in_place, write_bundle
from runtime_tests.support.exported_bundles import Case, exported

GRAPHS = {"onnxruntime/features.onnx": b"features", "onnxruntime/train_step.onnx": b"step"}
STATE = {"features.18.1.bias": np.arange(5, dtype=np.float32)}
SMALL = Case("ft-last", None)


def write(out: Path, name: str = "first", force: bool = True) -> None:
    manifest = {"model": {"name": name}, "memory": {"runtime": 45_000_000}}
    write_bundle(out, manifest, GRAPHS, STATE, force)


def manifest(out: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((out / "manifest.json").read_text("utf-8"))
    return document


def test_files_are_there_and_listed_with_their_hashes(tmp_path: Path) -> None:
    out = tmp_path / "made" / "on" / "the" / "way"
    write(out)
    found = {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
    assert manifest(out)["files"] == {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in found.items()
    }
    assert {name: found[name] for name in GRAPHS} == GRAPHS
    assert np.array_equal(load_file(out / "state.safetensors")[next(iter(STATE))], [0, 1, 2, 3, 4])
    assert "device/train_on_board.py" in found
    assert not any("__pycache__" in name for name in found)


def test_requirements_are_the_base_install(tmp_path: Path) -> None:
    write(tmp_path / "bundle")
    text = (tmp_path / "bundle" / "requirements.txt").read_text("utf-8")
    names = {line.split(">")[0] for line in text.splitlines() if not line.startswith("#")}
    assert {"onnxruntime", "numpy", "pillow", "safetensors"} <= {n.split("!")[0] for n in names}
    assert "torch" not in text


def test_id_is_the_hash_of_the_manifest_without_it(tmp_path: Path) -> None:
    """And without what was measured."""
    write(tmp_path / "bundle")
    document = manifest(tmp_path / "bundle")
    assert document["created_by"] == created_by()
    found, document["id"] = document["id"], ""
    document["memory"].update(runtime=0, runtime_release="")
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    assert found == hashlib.sha256(canonical.encode()).hexdigest()


def test_older_bundle_is_replaced_whole(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    write(out)
    (out / "old.onnx").write_bytes(b"of the older bundle")
    write(out, "second")
    assert manifest(out)["model"]["name"] == "second"
    assert not (out / "old.onnx").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_older_bundle_is_kept_unless_forced(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    write(out, force=False)
    with pytest.raises(UsageError, match=r"holds a bundle already, .* with --force"):
        write(out, "second", force=False)
    assert manifest(out)["model"]["name"] == "first"


def test_empty_folder_may_be_filled(tmp_path: Path) -> None:
    write(tmp_path)
    assert manifest(tmp_path)["model"]["name"] == "first"


def test_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="holds something that is no bundle"):
        write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    with pytest.raises(UsageError, match="is a file, expected a folder"):
        write(tmp_path / "file")
    with pytest.raises(UsageError, match="is a file, expected a folder"):
        write(tmp_path / "file" / "bundle")
    assert (tmp_path / "file").read_text() == "here"


@pytest.mark.parametrize(
    "code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES], ids=errno.errorcode.get
)
@pytest.mark.parametrize("after", ["_fill", "_seal"])
def test_full_disk_leaves_the_older_bundle(
    after: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No disk of ours is full, so the write that would fail is told to, half-way and at the end."""
    out = tmp_path / "bundle"
    write(out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    work = getattr(bundle_writer, after)

    def fail(*arguments: object) -> None:
        work(*arguments)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(bundle_writer, after, fail)
    with pytest.raises(NoSpace, match=f"{os.strerror(code)}; free some space") as caught:
        write(out, "second")
    assert caught.value.exit_code == 6
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_bug_while_writing_is_no_lack_of_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(bundle_writer, "_seal", fail)
    with pytest.raises(OSError, match="Input/output error"):
        write(tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(NoSpace, match="Permission denied"):
        write(tmp_path / "bundle")
    tmp_path.chmod(0o700)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_state_on_a_full_disk_is_an_os_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """safetensors' own writer would raise an error of its own."""
    plain_mkdir = Path.mkdir

    def mkdir(path: Path, *arguments: Any, **options: Any) -> None:
        plain_mkdir(path, *arguments, **options)
        state = path.parent / bundle_writer.STATE_FILE
        if path.name == "onnxruntime" and not state.is_symlink():
            state.symlink_to("/dev/full")

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(NoSpace, match="No space left on device"):
        write(tmp_path / "bundle")


def test_exported_bundle_opens_and_moves(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    written = exported(tmp_path_factory, SMALL)
    moved = tmp_path / "with spaces"
    shutil.copytree(written, moved)
    bundle = open_bundle(moved)
    assert bundle.manifest.id == manifest(written)["id"]
    assert [e.name for e in bundle.manifest.state if e.role == "parameter"] == [
        "classifier.1.weight",
        "classifier.1.bias",
    ]
    assert bundle.manifest.feature.shape == (1280, 1, 1)


def test_what_was_there_comes_back_if_the_new_one_cannot_be_put_there(tmp_path: Path) -> None:
    out, scratch = tmp_path / "bundle", tmp_path / "scratch"
    out.mkdir()
    scratch.mkdir()
    (out / "manifest.json").write_text("{}")
    with pytest.raises(FileNotFoundError):
        put_in_place(scratch / "nothing", out, scratch)
    assert (out / "manifest.json").read_text() == "{}"
    assert list(scratch.iterdir()) == []
