"""What becomes of a picture folder: classes, split, skipped files, refusals."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from mobiletl.device.bundle.left_out import HIDDEN, OF_THE_SYSTEM
from mobiletl.device.errors import BadPictures
from mobiletl.device.pictures.dataset import open_dataset, validation_rows
from mobiletl.device.pictures.needs import Needs
from runtime_tests.support.board.picture_folders import damage, write_pictures


def test_one_folder_per_class(tmp_path: Path) -> None:
    found = open_dataset(write_pictures(tmp_path, {"cat": 10, "ant": 5}), 0.2, 0)
    assert found.class_names == ("ant", "cat")
    assert Counter(picture.label for picture in found.train) == {0: 4, 1: 8}
    assert Counter(picture.label for picture in found.val) == {0: 1, 1: 2}
    assert not {p.path for p in found.train} & {p.path for p in found.val}
    assert all(p.path.startswith(found.class_names[p.label] + "/") for p in found.train)
    assert found.skipped == ()
    assert found.notes == ()


def test_split_follows_the_seed(tmp_path: Path) -> None:
    write_pictures(tmp_path, {"a": 20, "b": 20})
    first = open_dataset(tmp_path, 0.2, 0)
    assert first == open_dataset(tmp_path, 0.2, 0)
    assert first.val != open_dataset(tmp_path, 0.2, 1).val


def test_split_of_one_class_does_not_depend_on_another(tmp_path: Path) -> None:
    before = open_dataset(write_pictures(tmp_path, {"a": 20, "b": 5}), 0.2, 0)
    after = open_dataset(write_pictures(tmp_path, {"a": 20, "b": 30}), 0.2, 0)
    assert [p.path for p in before.val if p.label == 0] == [
        p.path for p in after.val if p.label == 0
    ]


@pytest.mark.parametrize(
    ("count", "share", "size"),
    [(1, 0.2, 0), (2, 0.2, 1), (2, 0.99, 1), (3, 0.01, 1), (10, 0.2, 2), (10, 0.99, 9)],
)
def test_each_part_gets_one_where_two_are(count: int, share: float, size: int) -> None:
    rows = validation_rows([f"{index}.png" for index in range(count)], share, seed=3)
    assert len(rows) == len(set(rows)) == size
    assert all(0 <= row < count for row in rows)


def validated(names: Sequence[str], seed: int = 0) -> set[str]:
    return {names[row] for row in validation_rows(names, 0.2, seed)}


def test_split_does_not_depend_on_the_order_of_the_pictures() -> None:
    names = [f"{index}.png" for index in range(30)]
    assert validated(names) == validated(names[::-1])
    assert validated(names) != validated(names, seed=1)


def test_added_pictures_move_few_that_were_trained_on() -> None:
    """16 of 20 are trained on; 10 more come. A new draw of 6 in 30 takes 3.2 of the 16."""
    moved = 0
    for seed in range(50):
        before = [f"{index}.png" for index in range(20)]
        after = validated([*before, *(f"new{index}.png" for index in range(10))], seed)
        assert len(after) == 6
        moved += len(after & set(before) - validated(before, seed))
    assert moved <= 50 * 0.6


def test_a_picture_that_goes_moves_at_most_one() -> None:
    names = [f"{index}.png" for index in range(20)]
    for name in names:
        left = validated([other for other in names if other != name])
        assert len(left - validated(names)) == (name in validated(names))


def test_split_goes_by_the_path_inside_the_class_folder(tmp_path: Path) -> None:
    """A class folder that is renamed, or lies in train/, splits as before."""
    first = open_dataset(write_pictures(tmp_path / "one", {"a": 20, "b": 5, "c": 9}), 0.2, 0)
    write_pictures(tmp_path / "two" / "train", {"b": 5, "z": 20})
    second = open_dataset(tmp_path / "two", 0.2, 0)
    assert [path.path[2:] for path in first.val if path.label == 0] == [
        path.path[len("train/z/") :] for path in second.val if path.label == 1
    ]


def test_classes_that_need_no_folder(tmp_path: Path) -> None:
    found = open_dataset(write_pictures(tmp_path, {"b": 5}), 0.2, 0, ("c", "a", "b"))
    assert found.class_names == ("a", "b", "c")
    assert {picture.label for picture in found.train + found.val} == {1}
    with pytest.raises(BadPictures, match="needs two or more class folders and has only 'b'"):
        open_dataset(tmp_path, 0.2, 0)


def test_single_picture_trains_and_is_noted(tmp_path: Path) -> None:
    found = open_dataset(write_pictures(tmp_path, {"many": 5, "one": 1}), 0.2, 0)
    assert [p.path for p in found.train if p.label == 1] == ["one/000.png"]
    assert found.notes == ("class 'one' has one picture only; it is never validated",)


def test_one_picture_per_class_cannot_be_validated(tmp_path: Path) -> None:
    write_pictures(tmp_path, {"a": 1, "b": 1})
    with pytest.raises(BadPictures, match="one picture per class"):
        open_dataset(tmp_path, 0.2, 0)


@pytest.mark.parametrize("second", ["val", "validation", "valid", "test"])
def test_given_split_is_kept(tmp_path: Path, second: str) -> None:
    write_pictures(tmp_path / "train", {"a": 3, "b": 1})
    write_pictures(tmp_path / second, {"a": 2, "b": 2})
    found = open_dataset(tmp_path, 0.5, 0)
    assert found.class_names == ("a", "b")
    assert [p.path for p in found.train] == [
        "train/a/000.png",
        "train/a/001.png",
        "train/a/002.png",
        "train/b/000.png",
    ]
    assert {p.path.split("/")[0] for p in found.val} == {second}
    assert len(found.val) == 4


def test_val_comes_before_test_and_the_rest_is_noted(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        write_pictures(tmp_path / part, {"a": 2, "b": 2})
    found = open_dataset(tmp_path, 0.2, 0)
    assert {p.path.split("/")[0] for p in found.val} == {"val"}
    assert found.notes == (f"not used: 'test' in {tmp_path}",)


def test_different_classes_in_the_two_parts(tmp_path: Path) -> None:
    write_pictures(tmp_path / "train", {"a": 2, "b": 2})
    write_pictures(tmp_path / "val", {"a": 2, "c": 2})
    with pytest.raises(BadPictures, match="different classes: 'b', 'c'"):
        open_dataset(tmp_path, 0.2, 0)


def test_train_alone_is_split(tmp_path: Path) -> None:
    write_pictures(tmp_path / "train", {"a": 5, "b": 5})
    found = open_dataset(tmp_path, 0.2, 0)
    assert found.class_names == ("a", "b")
    assert (len(found.train), len(found.val)) == (8, 2)


def test_classes_may_be_called_train_and_test(tmp_path: Path) -> None:
    found = open_dataset(write_pictures(tmp_path, {"car": 2, "test": 2, "train": 2}), 0.2, 0)
    assert found.class_names == ("car", "test", "train")


def test_folders_inside_a_class_belong_to_it(tmp_path: Path) -> None:
    write_pictures(tmp_path, {"a": 2, "b": 2, "b/more/still": 2})
    found = open_dataset(tmp_path, 0.2, 0)
    assert found.class_names == ("a", "b")
    assert Counter(p.label for p in found.train + found.val) == {0: 2, 1: 4}


def test_hidden_files_pipes_and_broken_links_are_left_out_with_a_reason_each(
    tmp_path: Path,
) -> None:
    write_pictures(tmp_path, {"a": 2, "b": 2, ".thumbnails": 2, "b/.trash": 2})
    (tmp_path / "a" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "a" / "broken.png").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "a" / "pipe.png")
    found = open_dataset(tmp_path, 0.2, 0)
    assert found.class_names == ("a", "b")
    assert len(found.train + found.val) == 4
    assert {entry.path: entry.reason for entry in found.skipped} == {
        ".thumbnails": OF_THE_SYSTEM,
        "a/.DS_Store": OF_THE_SYSTEM,
        "a/broken.png": "link leads nowhere",
        "a/pipe.png": "not a regular file",
        "b/.trash": HIDDEN,
    }


def test_other_files_are_listed(tmp_path: Path) -> None:
    write_pictures(tmp_path, {"a": 2, "b": 2})
    (tmp_path / "a" / "notes.txt").write_text("hello")
    (tmp_path / "a" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0" * 200)
    (tmp_path / "loose.png").write_bytes((tmp_path / "a" / "000.png").read_bytes())
    found = open_dataset(tmp_path, 0.2, 0)
    assert {entry.path: entry.reason for entry in found.skipped} == {
        "a/notes.txt": "not a picture in a known format",
        "a/Thumbs.db": OF_THE_SYSTEM,
        "loose.png": "not in a class folder",
    }
    assert len(found.train + found.val) == 4


def test_empty_class_is_named(tmp_path: Path) -> None:
    write_pictures(tmp_path, {"a": 2, "b": 2})
    (tmp_path / "c\nd").mkdir()
    with pytest.raises(BadPictures, match=r"class folder 'c\\nd' \(it is empty\)"):
        open_dataset(tmp_path, 0.2, 0)


def test_many_empty_classes_are_counted_not_listed(tmp_path: Path) -> None:
    for name in "abcdefgh":
        (tmp_path / name).mkdir()
    with pytest.raises(BadPictures, match=r"'a' .*'b' .*'c' .* and 5 more of") as raised:
        open_dataset(tmp_path, 0.2, 0)
    assert "'d'" not in str(raised.value)


def test_class_of_unreadable_files_is_named_with_their_number(tmp_path: Path) -> None:
    write_pictures(tmp_path, {"a": 2, "b": 2})
    for name in ("000.png", "001.png"):
        (tmp_path / "b" / name).write_text("no picture")
    with pytest.raises(
        BadPictures, match=r"class folder 'b' \(unreadable files: 2, the first: not a picture"
    ):
        open_dataset(tmp_path, 0.2, 0)


@pytest.mark.parametrize(
    ("counts", "message"), [({"only": 3}, "has only 'only'"), ({}, "has none")]
)
def test_too_few_classes(tmp_path: Path, counts: dict, message: str) -> None:
    write_pictures(tmp_path, counts)
    with pytest.raises(BadPictures, match=message):
        open_dataset(tmp_path, 0.2, 0)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x")
    with pytest.raises(BadPictures, match=r"photo\.jpg is a file; name the folder that has"):
        open_dataset(tmp_path / "photo.jpg", 0.2, 0)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(BadPictures, match="no folder"):
        open_dataset(tmp_path / "none", 0.2, 0)


def test_odd_class_names(tmp_path: Path) -> None:
    names = ['it\'s "quoted"', "Grün 日本", "two\nlines", "a b", "\udcff\udcfe"]
    found = open_dataset(write_pictures(tmp_path, dict.fromkeys(names, 2)), 0.2, 0)
    assert found.class_names == tuple(sorted(names))
    assert len(found.fingerprint()) == 64


def test_headers_only_are_read_at_first(tmp_path: Path) -> None:
    write_pictures(tmp_path, {"a": 2, "b": 2})
    damage(tmp_path / "a" / "000.png")
    assert len(open_dataset(tmp_path, 0.2, 0).train) == 2


def test_fingerprint(tmp_path: Path) -> None:
    write_pictures(tmp_path, {"a": 3, "b": 3})
    first = open_dataset(tmp_path, 0.2, 0).fingerprint()
    os.utime(tmp_path / "a" / "000.png", (1, 1))
    assert open_dataset(tmp_path, 0.2, 0).fingerprint() == first
    Image.new("RGB", (50, 50)).save(tmp_path / "a" / "000.png")
    changed = open_dataset(tmp_path, 0.2, 0).fingerprint()
    assert changed != first
    (tmp_path / "a" / "000.png").rename(tmp_path / "a" / "9.png")
    assert open_dataset(tmp_path, 0.2, 0).fingerprint() not in (first, changed)


@pytest.mark.parametrize(
    "name", ["__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"]
)
def test_folders_of_the_system_are_no_classes(tmp_path: Path, name: str) -> None:
    write_pictures(tmp_path, {"a": 2, "b": 2, name: 2, f"b/{name}": 2})
    found = open_dataset(tmp_path, 0.2, 0)
    assert found.class_names == ("a", "b")
    assert len(found.train + found.val) == 4
    assert {entry.path: entry.reason for entry in found.skipped} == {
        name: OF_THE_SYSTEM,
        f"b/{name}": OF_THE_SYSTEM,
    }


def test_links_to_pictures_and_class_folders_are_followed_but_not_inside(tmp_path: Path) -> None:
    elsewhere = write_pictures(tmp_path / "elsewhere", {"c": 3})
    data = write_pictures(tmp_path / "data", {"a": 2, "b": 2})
    (data / "c").symlink_to(elsewhere / "c")
    (data / "a" / "one.png").symlink_to(elsewhere / "c" / "000.png")
    (data / "a" / "more").symlink_to(elsewhere / "c")
    (data / "a" / "loop.png").symlink_to(data / "a" / "loop.png")
    found = open_dataset(data, 0.2, 0)
    assert {name: sum(both) for name, both in found.counts().items()} == {"a": 3, "b": 2, "c": 3}
    assert {entry.path: entry.reason for entry in found.skipped} == {
        "a/loop.png": "link leads nowhere",
        "a/more": "link to a folder, which is not followed",
    }


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root can be another user")
def test_what_this_user_may_not_read_has_its_own_reason(tmp_path: Path) -> None:
    write_pictures(tmp_path, {"a": 3, "b": 2, "b/closed": 2})
    (tmp_path / "a" / "000.png").chmod(0)
    (tmp_path / "b" / "closed").chmod(0)
    program = (
        "import os, sys; from pathlib import Path\n"
        "from mobiletl.device.pictures.dataset import open_dataset\n"
        "os.chdir(sys.argv[1]); os.setuid(65534)\n"
        "for one in open_dataset(Path('.'), 0.2, 0).skipped: print(one.path, '|', one.reason)"
    )
    # Each folder above has to let that user through.
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        folder.chmod(0o755)
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    assert done.stdout.decode().splitlines() == [
        "a/000.png | Permission denied",
        "b/closed | folder cannot be read (Permission denied)",
    ]


def test_the_heaviest_picture_is_known_and_a_heavier_one_is_left_out(tmp_path: Path) -> None:
    write_pictures(tmp_path, {"a": 2, "b": 3})
    Image.new("RGB", (900, 600)).save(tmp_path / "b" / "large.gif")
    found = open_dataset(tmp_path, 0.2, 0, needs=Needs(400))
    assert found.heaviest == "b/large.gif"
    # It is smaller than twice 400, so the pixels are there in its own colours and in RGB.
    assert found.decoding_bytes >= 2 * 4 * 900 * 600
    less = open_dataset(tmp_path, 0.2, 0, needs=Needs(400, 1_000_000))
    assert less.heaviest != "b/large.gif"
    ((path, reason),) = [(entry.path, entry.reason) for entry in less.skipped]
    assert path == "b/large.gif"
    assert "takes 6 MB to decode where 1 are planned; make it smaller" in reason
