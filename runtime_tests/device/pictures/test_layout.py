"""Which folders are the classes: recognised by their names, or refused with what to say."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobiletl.device.errors import BadPictures
from mobiletl.device.pictures.dataset import open_dataset
from mobiletl.device.pictures.layouts import AUTO, CLASSES, SPLIT
from runtime_tests.support.board.picture_folders import write_pictures
from runtime_tests.support.board.shared_files import shared

TWO = {"cat": 3, "dog": 3}


@pytest.mark.parametrize(
    ("train", "second"),
    [
        ("Training", "Testing"),
        ("Train", "Valid"),
        ("TRAIN", "VAL"),
        ("training_set", "test_set"),
        ("train", "validation"),
    ],
)
def test_a_split_under_any_of_its_names(tmp_path: Path, train: str, second: str) -> None:
    write_pictures(tmp_path / train, TWO)
    write_pictures(tmp_path / second, TWO)
    found = open_dataset(tmp_path, 0.2, 0)
    assert found.class_names == ("cat", "dog")
    assert {picture.path.split("/")[0] for picture in found.train} == {train}
    assert {picture.path.split("/")[0] for picture in found.val} == {second}
    assert found.layout == f"{train}/ trains and {second}/ validates"
    assert found.counts() == {"cat": (3, 3), "dog": (3, 3)}


def test_flat_train_beside_test_is_asked_about(tmp_path: Path) -> None:
    write_pictures(tmp_path, {"train": 3, "test": 3})
    with pytest.raises(BadPictures, match=r"no class folder in train/; say --layout split if"):
        open_dataset(tmp_path, 0.2, 0)
    assert open_dataset(tmp_path, 0.2, 0, layout=CLASSES).class_names == ("test", "train")


def test_train_with_classes_beside_other_folders_is_asked_about(tmp_path: Path) -> None:
    write_pictures(tmp_path / "train", TWO)
    write_pictures(tmp_path, {"plane": 2, "car": 2})
    with pytest.raises(BadPictures, match=r"beside it car/, plane/; say --layout split if .* or"):
        open_dataset(tmp_path, 0.2, 0)
    assert open_dataset(tmp_path, 0.2, 0, layout=CLASSES).class_names == ("car", "plane", "train")
    split = open_dataset(tmp_path, 0.2, 0, layout=SPLIT)
    assert split.class_names == ("cat", "dog")
    assert split.notes == (f"not used: 'car', 'plane' in {tmp_path}",)


def test_a_test_folder_without_labels_is_not_used(tmp_path: Path) -> None:
    """As competitions have them."""
    write_pictures(tmp_path / "train", TWO)
    write_pictures(tmp_path, {"test": 4})
    found = open_dataset(tmp_path, 0.34, 0)
    assert found.layout == "the classes are the folders in train/, and 34% of each validate"
    assert found.notes == (f"not used: 'test' in {tmp_path}",)
    assert found.counts() == {"cat": (2, 1), "dog": (2, 1)}


def test_two_folders_to_train_on_are_refused(tmp_path: Path) -> None:
    for name in ("train", "Training", "val"):
        write_pictures(tmp_path / name, TWO)
    with pytest.raises(BadPictures, match=r"one folder train/ .* and has 2 of them"):
        open_dataset(tmp_path, 0.2, 0)


def test_a_split_that_is_asked_for_and_is_none(tmp_path: Path) -> None:
    write_pictures(tmp_path, TWO)
    with pytest.raises(BadPictures, match=r"and has none; rename folders, or say --layout classes"):
        open_dataset(tmp_path, 0.2, 0, layout=SPLIT)


def test_a_folder_around_the_classes_is_named(tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos", TWO)
    with pytest.raises(BadPictures, match=r"if the classes are the folders in it, name .*/photos"):
        open_dataset(tmp_path, 0.2, 0)


def test_the_layout_is_said(tmp_path: Path) -> None:
    write_pictures(tmp_path, TWO)
    found = open_dataset(tmp_path, 0.2, 0, layout=AUTO)
    assert found.layout == "the classes are its folders, and 20% of each validate"


def test_the_case_from_the_field() -> None:
    """Kaggle's `Training/` and `Testing/` must not be told from each other."""
    data = shared("cases/training_testing")
    assert open_dataset(data, 0.2, 0).class_names == ("cat", "dog")
