"""Pictures come whole into class folders that `open_dataset` reads, and never fill the disk."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import pytest

from mobiletl.device.bundle import replacing
from mobiletl.device.capturing.photo_folder import PhotoFolder
from mobiletl.device.errors import NoSpace, UsageError
from mobiletl.device.pictures.dataset import open_dataset
from runtime_tests.support.board.scenes import scene

PIXELS = np.array(scene(1))


def fill(folder: PhotoFolder, pictures: int) -> None:
    noise = np.random.default_rng(0)
    for second in range(pictures):
        folder.keep(noise.integers(0, 256, (48, 64, 3), np.uint8), "cat", second, {})


def provenance(root: Path) -> list[dict[str, Any]]:
    lines = (root / ".mobiletl" / "provenance.jsonl").read_text("ascii").splitlines()
    return [json.loads(line) for line in lines]


def test_a_data_set_with_a_line_for_each_picture(tmp_path: Path) -> None:
    folder = PhotoFolder(tmp_path / "new" / "photos")
    for seed in range(3):
        for name in ("cat", "Grün"):
            path = folder.keep(np.array(scene(seed)), name, 1e9 + seed / 8, {"camera": "c"})
            assert path.is_file()
    assert path.name.startswith("20010909-014640-250-")
    assert [folder.count(name) for name in ("cat", "Grün", "dog")] == [3, 3, 0]
    dataset = open_dataset(folder.root, 0.3, 0)
    assert dataset.class_names == ("Grün", "cat")
    assert dataset.skipped == ()
    rows = provenance(folder.root)
    assert {row["file"] for row in rows} == {p.path for p in (*dataset.train, *dataset.val)}
    assert [row["class"] for row in rows] == ["cat", "Grün"] * 3
    assert len(list(PhotoFolder(folder.root).smalls("cat"))) == 3


def test_a_torn_line_is_ended_first(tmp_path: Path) -> None:
    folder = PhotoFolder(tmp_path)
    (tmp_path / ".mobiletl" / "provenance.jsonl").write_text('{"file": "cat/1')
    folder.keep(PIXELS, "cat", 1e9, {})
    torn, line = (tmp_path / ".mobiletl" / "provenance.jsonl").read_text("ascii").splitlines()
    assert torn == '{"file": "cat/1'
    assert json.loads(line)["class"] == "cat"


def test_what_a_killed_process_has_left_is_removed(tmp_path: Path) -> None:
    PhotoFolder(tmp_path).keep(PIXELS, "cat", 0, {})
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    cat = tmp_path / "cat"
    own, other = (cat / f".a.jpg.{process}-00c0ffee.tmp" for process in (os.getpid(), gone.pid))
    persons = cat / f".notes.{gone.pid}.tmp"
    for file in (own, other, persons):
        file.write_bytes(b"half")
    PhotoFolder(tmp_path)
    hidden = {file.name for file in cat.glob(".*")}
    assert hidden == {own.name, persons.name}


def test_classes_in_train_get_their_pictures_there(tmp_path: Path) -> None:
    (tmp_path / "train" / "cat").mkdir(parents=True)
    folder = PhotoFolder(tmp_path)
    assert folder.class_names() == ["cat"]
    assert folder.keep(PIXELS, "dog", 1e9, {}).parent == tmp_path / "train" / "dog"


@pytest.mark.parametrize("name", ["../x", "CAT", "val", ""])
def test_names_are_checked_beside_those_that_are_there(tmp_path: Path, name: str) -> None:
    (tmp_path / "cat").mkdir()
    with pytest.raises(UsageError, match="class name"):
        PhotoFolder(tmp_path).check_class(name, [])


def test_a_limit_of_its_own(tmp_path: Path) -> None:
    folder = PhotoFolder(tmp_path, limit_bytes=4_000, reserve_bytes=0)
    with pytest.raises(NoSpace, match=r"--max-mb allows 0\.004"):
        fill(folder, 100)
    assert 0 < sum(path.stat().st_size for path in (tmp_path / "cat").iterdir()) <= 4_000
    large = np.tile(PIXELS, (4, 4, 1))
    with pytest.raises(NoSpace, match="--max-mb"):
        PhotoFolder(tmp_path, limit_bytes=4_000).keep(large, "cat", 200, {})


def test_a_reserve_stays_free(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(NoSpace, match="stay free for training"):
        PhotoFolder(tmp_path, reserve_bytes=2 * free).keep(PIXELS, "cat", 1e9, {})
    assert list((tmp_path).glob("cat/*")) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB, where this user may mount one."""
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only root may mount")
    words = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)]
    if subprocess.run(words, stderr=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_a_full_disk_leaves_whole_pictures_only(small_disk: Path) -> None:
    folder = PhotoFolder(small_disk, reserve_bytes=0)
    with pytest.raises(NoSpace):
        fill(folder, 1000)
    names = [path.name for path in (small_disk / "cat").iterdir()]
    assert names
    assert all(name.endswith(".jpg") and not name.startswith(".") for name in names)
    assert len(list(folder.smalls("cat"))) == len(names)


def test_a_disk_that_fails_while_writing(tmp_path: Path, monkeypatch: Any) -> None:
    folder = PhotoFolder(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(replacing.os, "fsync", full)
    with pytest.raises(NoSpace, match="No space left"):
        folder.keep(PIXELS, "cat", time.time(), {})
    assert list((tmp_path / "cat").iterdir()) == []


def test_places_that_are_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        PhotoFolder(tmp_path / "file")
    with pytest.raises(NoSpace, match="cannot be written"):
        PhotoFolder(tmp_path / "file" / "below")
