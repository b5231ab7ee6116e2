"""Names that a class may be given are folders on any disk; all others are refused with a line."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobiletl.device.pictures.class_names import problem_of_class_name
from mobiletl.device.pictures.dataset import open_dataset
from runtime_tests.support.board.picture_folders import write_pictures

GOOD = [
    "cat",
    "two words",
    "Grün",
    "日本",
    "it's",
    "50%",
    "a.b",
    "-",
    "\u0645\u06cc\u200c\u062e\u0648",
    "👩\u200d🔬",
    "x" * 60,
]
BAD = [
    ("", "is empty"),
    (" ", "is empty"),
    (" cat", "begins or ends with a space"),
    ("cat\u00a0", "begins or ends with a space"),
    ("cat.", "ends with a dot"),
    (".", "ends with a dot"),
    ("..", "ends with a dot"),
    (".cat", "begins with a dot"),
    ("a/b", "has / in it"),
    ("..\\a", "begins with a dot"),
    ("a\\b", "has \\ in it"),
    ("a:b", "has : in it"),
    ("a<b>", "has < in it"),
    ("a\nb", "control character"),
    ("a\0b", "control character"),
    ("a\x1b[31mb", "control character"),
    ("a\u202eb", "control character"),
    ("a\u2028b", "control character"),
    ("a\udcffb", "control character"),
    ("x" * 61, "has 61 characters"),
    ("\U0001f431" * 51, "has 204 bytes"),
    ("Gru\u0308n", "separate accents"),
    ("train", "part of a data set"),
    ("Val", "part of a data set"),
    ("TEST", "part of a data set"),
    ("validation", "part of a data set"),
]  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_good_names_become_folders_and_classes(name: str, tmp_path: Path) -> None:
    assert problem_of_class_name(name, [name, "something else"]) is None
    write_pictures(tmp_path, {name: 2, "zzz": 2})
    assert open_dataset(tmp_path, 0.5, 0).class_names == tuple(sorted([name, "zzz"]))


@pytest.mark.parametrize(("name", "words"), BAD)
def test_other_names_are_refused_with_one_printable_line(name: str, words: str) -> None:
    problem = problem_of_class_name(name)
    assert problem is not None
    assert words in problem
    assert problem.isprintable()
    assert len(problem) < 400


@pytest.mark.parametrize(("name", "other"), [("Cat", "cat"), ("STRASSE", "straße"), ("É", "é")])
def test_names_that_differ_only_by_case(name: str, other: str) -> None:
    problem = problem_of_class_name(name, ["dog", other])
    assert problem is not None
    assert "differs only by case" in problem


def test_a_name_of_a_megabyte_is_not_repeated() -> None:
    problem = problem_of_class_name("\x1b" * 1_000_000)
    assert problem is not None
    assert len(problem) < 1000
