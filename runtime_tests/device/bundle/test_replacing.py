"""Files that take their name once they are whole, whatever lies in the folder."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mobiletl.device.bundle.replacing import leftovers, remove_leftovers, replacing


def test_the_former_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    with replacing(path) as stream:
        stream.write(b"two")
        stream.flush()
        assert path.read_bytes() == b"one"
    assert path.read_bytes() == b"two"

    def fail() -> None:
        with replacing(path) as stream:
            stream.write(b"three")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_bytes() == b"two"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("links", [True, False])
def test_the_former_file_becomes_the_previous_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def refuse(*names: str) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    if not links:  # as FAT does
        monkeypatch.setattr(os, "link", refuse)
    path, previous = tmp_path / "file", tmp_path / "previous"
    for content in (b"1", b"2", b"3"):
        with replacing(path, previous) as stream:
            stream.write(content)
    assert (path.read_bytes(), previous.read_bytes()) == (b"3", b"2")
    assert len(list(tmp_path.iterdir())) == 2


def test_two_names_of_one_file_are_no_leftover(tmp_path: Path) -> None:
    """As a crash between the two renames leaves them."""
    path, previous = tmp_path / "file", tmp_path / "previous"
    path.write_bytes(b"1")
    os.link(str(path), str(previous))
    with replacing(path, previous) as stream:
        stream.write(b"2")
    assert (path.read_bytes(), previous.read_bytes()) == (b"2", b"1")
    assert len(list(tmp_path.iterdir())) == 2


def test_leftovers_are_found_by_the_name_they_were_for(tmp_path: Path) -> None:
    for name in (".a.b.1-ff.tmp", ".a.b.tmp", ".a.c.1-ff.tmp", "a.b"):
        (tmp_path / name).touch()
    os.utime(str(tmp_path / ".a.b.tmp"), (1, 1))
    assert [file.name for file in leftovers(tmp_path / "a.b")] == [".a.b.1-ff.tmp", ".a.b.tmp"]
    remove_leftovers(tmp_path / "a.b")
    assert sorted(file.name for file in tmp_path.iterdir()) == [".a.c.1-ff.tmp", "a.b"]


def test_a_link_in_place_of_the_file_is_replaced_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_bytes(b"precious")
    path = tmp_path / "file"
    path.symlink_to(target)
    with replacing(path) as stream:
        stream.write(b"mine")
    assert target.read_bytes() == b"precious"
    assert not path.is_symlink()
