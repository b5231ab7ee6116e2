"""Whatever folders, classes and bundles are called, no command tells what a terminal obeys."""

from __future__ import annotations

import json
import logging
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from mobiletl.device.bundle.manifest_schema import SCHEMA
from mobiletl.device.commands.table import main
from runtime_tests.support.board.picture_folders import write_pictures
from runtime_tests.support.board.tiny_bundle import tiny_document, write_manifest, write_tiny_bundle

# Clears the screen, names the window, begins a sequence in one byte, turns the writing round, goes
# back in the line, and is no UTF-8.
ODD = "\x1b[2J\x1b]0;x\x07\x9b31m\u202e\r\udcff"
MARK = "odd"


@pytest.fixture
def scene(tmp_path: Path) -> dict[str, Path]:
    """A bundle, pictures and a run, all of whose names are odd."""
    home = tmp_path / f"{MARK}{ODD}"
    try:
        home.mkdir()
    except (OSError, UnicodeError):
        pytest.skip("this file system takes no such names")
    bundle = write_tiny_bundle(home / f"bundle{ODD}", graphs=False)
    counts = {f"ant{ODD}": 4, f"bee{ODD}": 4}
    photos = write_pictures(home / f"photos{ODD}", counts)
    (photos / f"ant{ODD}" / f"no picture{ODD}.jpg").write_bytes(b"\x1b[31m none")
    (photos / f"loose{ODD}").write_bytes(b"")
    return {"bundle": bundle, "photos": photos, "run": home / f"run{ODD}", "home": home}


def assert_printable(capsys: pytest.CaptureFixture[str], *words: Any) -> int:
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    for text in (out, err):
        control = [c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs")]
        assert not control, (words[0], text)
    assert "Traceback" not in err
    return code


def test_no_command_writes_what_a_terminal_would_obey(
    scene: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # pytest keeps what the log says, and sends it from one process to another as UTF-8. It listens
    # to loggers as they are when the test begins, so this is no part of the fixture.
    monkeypatch.setattr(logging.getLogger("mobiletl"), "propagate", False)
    bundle, photos, run = ("--bundle", scene["bundle"]), scene["photos"], scene["run"]
    fake, state = ("--runtime", "fake"), run / "state.safetensors"
    train = ["train", *bundle, "--data", photos, "--epochs", "1", "--batch", "4", *fake]
    assert assert_printable(capsys, *train, "--out", run) == 0
    # The same command shows the report again, another one is refused.
    assert assert_printable(capsys, *train, "--out", run) == 0
    assert assert_printable(capsys, *train, "--seed", "1", "--out", run) == 2
    assert assert_printable(capsys, *train, "--from", run, "--out", scene["home"] / "more") == 0
    assert assert_printable(capsys, *train, "--out", scene["home"] / "json", "--json") == 0
    gone = ["--from", run, "--rename", f"ant{ODD}=x{ODD}", "--out", scene["home"] / "gone"]
    assert assert_printable(capsys, *train, *gone) == 2
    for more in ([], ["--json"]):
        taught = scene["home"] / f"taught{len(more)}{ODD}"
        assert_printable(capsys, "teach", *bundle, "--data", photos, "--out", taught, *fake, *more)
        assert_printable(capsys, "predict", *bundle, "--state", state, photos, *fake, *more)
        assert_printable(capsys, "review", run, *fake, *more)
        assert_printable(capsys, "inspect", *bundle, *more)
        assert_printable(capsys, "doctor", *bundle, "--out", run, *more)
    assert_printable(capsys, "service", *bundle, "--data", photos, "--out", run, *fake)
    damaged = bytearray(state.read_bytes())
    damaged[-1] ^= 1
    state.write_bytes(damaged)
    assert_printable(capsys, "predict", *bundle, "--state", state, photos, *fake)
    assert_printable(capsys, "train", *bundle, "--data", photos, "--resume", run)
    (scene["bundle"] / "manifest.json").rename(scene["bundle"] / f"manifest{ODD}")
    for command in ("inspect", "doctor"):
        assert_printable(capsys, command, *bundle)
    assert_printable(capsys, "predict", *bundle, "--state", state, photos)


def texts(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the place of every text in a document, those of keys with a mark at the end."""
    found: list[tuple[Any, ...]] = []
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in pairs:
        if isinstance(key, str):
            found.append((*path, key, "key"))
        if isinstance(inner, str):
            found.append((*path, key))
        elif isinstance(inner, (dict, list)):
            found += texts(inner, (*path, key))
    return found


def test_no_text_of_a_manifest_reaches_the_terminal_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_tiny_bundle(tmp_path / "bundle", graphs=True)
    (folder / "manifest.json").unlink()
    sound = tiny_document(folder)
    places = [place for place in texts(sound) if place[0] != "id"]  # it is written anew
    assert len(places) > 80
    for place in places:
        document = json.loads(json.dumps(sound))
        inner = document
        steps = place[:-1] if place[-1] == "key" else place
        for step in steps[:-1]:
            inner = inner[step]
        odd = f"{inner[steps[-1]]}{ODD[:-1]}"
        if place[-1] == "key":
            inner[f"{steps[-1]}{ODD[:-1]}"] = inner.pop(steps[-1])
        else:
            inner[steps[-1]] = odd
        try:
            write_manifest(folder, document)
        except KeyError:  # there is no id without its sections
            (folder / "manifest.json").write_text(json.dumps(document))
        problems: list[str] = []
        SCHEMA(document, "", problems)
        assert problems, place
        assert assert_printable(capsys, "inspect", "--bundle", folder) == 4, place
