"""A resumed run notices pictures that are others, reads none again that stayed, and keeps what it
knows of damaged ones.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mobiletl.device.bundle.frame import Frame
from mobiletl.device.errors import UsageError
from mobiletl.device.run.picture_record import PictureRecord
from runtime_tests.support.board.picture_folders import damage
from runtime_tests.support.board.training_workshop import STEPS, Workshop, assert_same_run


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    made = Workshop(tmp_path, monkeypatch)
    for number, path in enumerate(sorted(made.photos.rglob("*.png"))):
        # Equal sizes, as of pictures that are not compressed; what follows the end is ignored.
        content = path.read_bytes()
        path.write_bytes(content + bytes(2000 - len(content)))
        os.utime(str(path), ns=(10**18, 10**18 + number % 2))
    return made


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    real = Frame.identity

    def identity(self: Frame) -> str:
        found.append(Path(self.name).name)
        return real(self)

    monkeypatch.setattr(Frame, "identity", identity)
    return found


def stopped(workshop: Workshop, **changed: Any) -> Any:
    """Stop a run in its second epoch, when every picture was read; return what goes on with it."""
    options = replace(workshop.options("run"), **changed)
    workshop.interrupt(options, "train_step", STEPS + 2)
    return replace(options, resume=True, given={})


def exchange(one: Path, other: Path) -> None:
    third = one.with_name("third")
    one.rename(third)
    other.rename(one)
    third.rename(other)


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("names", [("000", "002"), ("000", "001")])
def test_two_that_are_exchanged_under_one_name_are_noticed(
    workshop: Workshop, use_cache: bool, names: tuple[str, str]
) -> None:
    """Of equal size, and the first two of equal times as well."""
    resumed = stopped(workshop, use_cache=use_cache)
    one, other = (workshop.photos / "ant" / f"{name}.png" for name in names)
    exchange(one, other)
    with pytest.raises(UsageError, match=r"^ant/00\d.png and 1 more now has another content than"):
        workshop.train(resumed)
    with pytest.raises(UsageError, match="put the pictures back"):
        workshop.train(workshop.options("run"))
    exchange(one, other)
    workshop.train(resumed)
    workshop.train(workshop.options("whole"))
    assert_same_run(workshop, "whole", "run")


@pytest.mark.parametrize("use_cache", [True, False])
def test_what_stayed_is_not_read_again(
    workshop: Workshop, hashed: list[str], use_cache: bool
) -> None:
    resumed = stopped(workshop, use_cache=use_cache)
    assert len(hashed) == 21
    hashed.clear()
    workshop.train(resumed)
    assert hashed == []


def test_a_file_that_is_only_touched_is_read_once(workshop: Workshop, hashed: list[str]) -> None:
    resumed = stopped(workshop)
    hashed.clear()
    os.utime(str(workshop.photos / "bee" / "003.png"))
    workshop.interrupt(resumed, "train_step", 1)
    assert hashed == ["003.png"]
    hashed.clear()
    workshop.train(resumed)
    assert hashed == []


def test_a_copied_folder_is_the_same_data_set(workshop: Workshop, hashed: list[str]) -> None:
    resumed = stopped(workshop)
    hashed.clear()
    shutil.copytree(str(workshop.photos), str(workshop.folder / "copied"))
    workshop.train(replace(resumed, data=workshop.folder / "copied"))
    assert len(hashed) == 21


def test_a_run_that_begins_anew_forgets_what_it_had_read(workshop: Workshop) -> None:
    options = workshop.options("run")

    def cut(name: str, number: int) -> None:
        if (name, number) == ("embed", 2):
            raise RuntimeError("power cut")

    workshop.on_call = cut
    with pytest.raises(RuntimeError, match="power cut"):
        workshop.train(options)
    workshop.on_call = lambda name, number: None
    assert (options.run / "pictures.jsonl").exists()
    exchange(workshop.photos / "ant" / "000.png", workshop.photos / "ant" / "001.png")
    workshop.train(options)
    assert workshop.metrics("run")[-1]["epoch"] == 3


@pytest.mark.parametrize("killed", [False, True])
def test_damaged_pictures_are_still_listed_after_a_resume(workshop: Workshop, killed: bool) -> None:
    for name in ("000", "003"):
        damage(workshop.photos / "bee" / f"{name}.png")
    workshop.train(workshop.options("whole"))
    expected = (workshop.folder / "whole" / "skipped.txt").read_text()
    assert len(expected.splitlines()) == 2
    options = workshop.options("run")
    # After the last step: no damaged picture is looked at again but by the evaluation.
    workshop.interrupt(options, "train_step", 3 * STEPS)
    if killed:
        (options.run / "skipped.txt").unlink()
    workshop.train(replace(options, resume=True, given={}))
    assert (options.run / "skipped.txt").read_text() == expected
    outcome = workshop.train(replace(options, resume=True, given={}))
    assert len(outcome.skipped.entries()) == 2
    assert (options.run / "skipped.txt").read_text() == expected


def test_a_record_that_is_damaged_knows_less(workshop: Workshop) -> None:
    resumed = stopped(workshop)
    record = resumed.run / "pictures.jsonl"
    lines = record.read_bytes().splitlines(keepends=True)
    odd = [b'{"path": 3, "picture": "x"}\n', b'{"path": "ant/000.png", "bytes": true}\n', b"[]\n"]
    record.write_bytes(b"".join([*odd, lines[0].replace(b"ant", b"ent"), *lines[1:5], b'{"pa']))
    found = PictureRecord(record)
    assert len(found._found) == 4
    workshop.train(resumed)
