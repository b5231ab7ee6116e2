"""`mobiletl predict`: files and folders, several labels, what cannot be read."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from mobiletl.device import predict, train_on_board
from mobiletl.device.printable import printable
from runtime_tests.support.board.picture_folders import damage, write_pictures
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle

Capture = pytest.CaptureFixture[str]


class Trained:
    def __init__(self, folder: Path, names: dict[str, int]) -> None:
        self.bundle = write_tiny_bundle(folder / "bundle")
        self.photos = write_pictures(folder / "photos", names)
        self.state = folder / "run" / "state.safetensors"
        given = ["--bundle", str(self.bundle), "--data", str(self.photos), "--epochs", "12"]
        given += ["--out", str(folder / "run"), "--no-augment", "--runtime", "fake"]
        assert train_on_board.main(given) == 0

    def predict(self, *more: str) -> int:
        given = ["--bundle", str(self.bundle), "--state", str(self.state)]
        return predict.main([*given, "--runtime", "fake", *more])


@pytest.fixture
def trained(tmp_path: Path, capsys: Capture) -> Trained:
    found = Trained(tmp_path, {"ant": 8, "bee": 8, "cat": 8})
    capsys.readouterr()
    return found


def test_files_and_folders(trained: Trained, capsys: Capture) -> None:
    picture = str(trained.photos / "cat" / "001.png")
    assert trained.predict(picture, str(trained.photos / "ant"), str(trained.photos / "bee")) == 0
    text, shown = capsys.readouterr()
    assert shown == ""
    rows = [line.split() for line in text.splitlines()]
    assert len(rows) == 17
    assert rows[0][0] == picture
    # The fake runtime learns these colours; nearly all must be right.
    right = sum(Path(path).parent.name == label for path, label, _ in rows)
    assert right >= 15
    assert all(0 < float(share[:-1]) <= 100 for _, _, share in rows)
    # The columns line up.
    assert len({line.index("%") for line in text.splitlines()}) == 1


def test_folders_are_searched_through(trained: Trained, capsys: Capture) -> None:
    assert trained.predict("--json", str(trained.photos)) == 0
    found = json.loads(capsys.readouterr().out)
    paths = [row["path"] for row in found["predictions"]]
    assert len(paths) == 24
    assert paths == sorted(paths)


def test_top_labels_in_order(trained: Trained, capsys: Capture) -> None:
    picture = str(trained.photos / "bee" / "000.png")
    assert trained.predict("--json", "--top", "9", picture) == 0
    ((row,), skipped) = json.loads(capsys.readouterr().out).values()
    shares = [each["probability"] for each in row["labels"]]
    assert sorted(each["label"] for each in row["labels"]) == ["ant", "bee", "cat"]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1.0)
    assert row["labels"][0]["label"] == "bee"
    assert skipped == []
    assert trained.predict("--top", "2", picture) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(picture)
    assert lines[1].startswith(" " * len(picture))


def test_unreadable_files_are_listed(trained: Trained, capsys: Capture) -> None:
    folder = trained.photos / "ant"
    damage(folder / "000.png")
    (folder / "notes.txt").write_text("x")
    assert trained.predict(str(folder), str(folder / "gone.png")) == 0
    text, shown = capsys.readouterr()
    assert len(text.splitlines()) == 7
    assert f"skipped {folder / 'notes.txt'}: not a picture in a known format" in shown
    assert f"skipped {folder / 'gone.png'}: no such file" in shown
    assert len(shown.splitlines()) == 3


def test_nothing_readable(trained: Trained, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "a.txt").write_text("x")
    assert trained.predict(str(tmp_path / "a.txt")) == 3
    assert "none of the pictures could be read" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert trained.predict(str(tmp_path / "empty")) == 3
    assert "no file found" in capsys.readouterr().err


def test_odd_names(tmp_path: Path, capsys: Capture) -> None:
    names: dict[str, int] = {"two\nlines": 6, "Grün 日本": 6, "\x1b[31mred\udcff": 6}
    trained = Trained(tmp_path, names)
    capsys.readouterr()
    assert trained.predict(str(trained.photos)) == 0
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert len(text.splitlines()) == 18
    assert all(any(printable(name) in line for name in names) for line in text.splitlines())
    assert trained.predict("--json", str(trained.photos)) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["labels"][0]["label"] for row in found["predictions"]} <= set(names)


def test_wrong_input(trained: Trained, tmp_path: Path, capsys: Capture) -> None:
    picture = str(trained.photos / "bee" / "000.png")
    assert trained.predict("--top", "0", picture) == 2
    other: Any = write_tiny_bundle(tmp_path / "other", frozen="6" * 64)
    given = ["--bundle", str(other), "--state", str(trained.state), picture]
    assert predict.main(given) == 5
    assert predict.main(["--bundle", str(trained.bundle), "--state", "none", picture]) == 5
    assert predict.main(["--bundle", str(tmp_path), "--state", "none", picture]) == 4
    assert capsys.readouterr().err.count("mobiletl: ") == 4


def test_help_ends_with_commands_to_paste(capsys: Capture) -> None:
    assert predict.main(["--help"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    for line in lines[lines.index("to paste:") + 1 :]:
        predict._parser().parse_args(shlex.split(line)[2:])
