"""Answers for programs: one object a command, errors too, with the keys that docs/json.md has."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mobiletl.device import doctor
from mobiletl.device.commands import table as commands
from mobiletl.device.diagnosis.findings import PROBLEM, Finding
from mobiletl.device.errors import BadPictures, NotReady, UsageError
from runtime_tests.support.board.picture_folders import write_pictures
from runtime_tests.support.board.shared_files import REPOSITORY
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle

PAGE = REPOSITORY / "docs" / "json.md"
FAST = ("--runtime", "fake")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("json") / "tiny", graphs=False)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("json") / "photos", {"ant": 5, "bee": 5})


def documented(command: str) -> set[str]:
    """Return the keys of a command's section."""
    sections = re.split(r"^## ", PAGE.read_text("utf-8"), flags=re.MULTILINE)
    (section,) = [text for text in sections if text.startswith(f"`mobiletl {command}`")]
    cells = re.findall(r"^\| (`[^|]+) \|", section, flags=re.MULTILINE)
    return {key for cell in cells for key in re.findall(r"`(\w+)`", cell)}


def answer(capsys: Any, *words: object, code: int = 0) -> dict[str, Any]:
    """Run a command; return the one object that it prints."""
    capsys.readouterr()
    assert commands.main([str(word) for word in words]) == code
    document = json.loads(capsys.readouterr().out)
    assert isinstance(document, dict)
    return document


def test_a_training_and_its_state_answer_with_the_documented_keys(
    tmp_path: Path, bundle: Path, photos: Path, capsys: Any
) -> None:
    given = ("--bundle", bundle, "--data", photos, *FAST, "--json", "--out")
    trained = answer(capsys, "train", *given, tmp_path / "run", "--epochs", 1, "--batch", 4)
    assert set(trained) == documented("train")
    assert set(answer(capsys, "teach", *given, tmp_path / "taught")) == documented("teach")
    state = ("--bundle", bundle, "--state", trained["state"], *FAST, "--json")
    assert set(answer(capsys, "predict", *state, photos)) == documented("predict")


def test_a_doctor_that_found_something_answers_once(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    document = answer_of_doctor(capsys)
    assert set(document) == documented("doctor")
    problem = Finding("memory", PROBLEM, "too little", "another board")
    monkeypatch.setattr(doctor, "examine", lambda *_: (problem,))
    assert answer(capsys, "doctor", "--json", code=NotReady.exit_code)["ready"] is False


def answer_of_doctor(capsys: Any) -> dict[str, Any]:
    """What the doctor says of this machine, whatever it finds."""
    capsys.readouterr()
    assert commands.main(["doctor", "--json"]) in (0, NotReady.exit_code)
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_an_error_is_one_object_beside_its_line(tmp_path: Path, bundle: Path, capsys: Any) -> None:
    (tmp_path / "photos").mkdir()
    words = ["train", "--bundle", str(bundle), "--data", str(tmp_path / "photos"), *FAST, "--json"]
    assert commands.main([*words, "--out", str(tmp_path / "run")]) == BadPictures.exit_code
    said = capsys.readouterr()
    error = json.loads(said.out)["error"]
    assert set(error) == {"class", "exit_code", "message"}
    assert (error["class"], error["exit_code"]) == ("BadPictures", BadPictures.exit_code)
    assert said.err.splitlines()[-1] == f"mobiletl: {error['message']}"


@pytest.mark.parametrize("words", [["train", "--jsn", "--json"], ["fly", "--json"]])
def test_a_wrong_word_is_one_too(words: list[str], capsys: Any) -> None:
    error = answer(capsys, *words, code=UsageError.exit_code)["error"]
    assert error["class"] == "UsageError"


def test_without_the_flag_an_error_prints_nothing_for_programs(capsys: Any) -> None:
    assert commands.main(["train", "--jsn"]) == UsageError.exit_code
    assert capsys.readouterr().out == ""


def test_an_error_that_nobody_reads_keeps_its_exit_code(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    words = [sys.executable, "-m", "mobiletl.device.predict", "--json", "--bundle", str(tmp_path)]
    ended = subprocess.run(
        [*words, "--state", "none", "a.jpg"], stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert ended.returncode == 4, ended.stderr
    assert b"Traceback" not in ended.stderr


def test_lines_of_a_log_begin_with_the_time(
    tmp_path: Path, bundle: Path, photos: Path, capsys: Any
) -> None:
    words = ["train", "--bundle", bundle, "--data", photos, *FAST, "--epochs", 1, "--timestamps"]
    assert commands.main([str(w) for w in [*words, "--out", tmp_path / "run"]]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 5
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", line) for line in lines)
