"""The loop: learns, keeps the best, skips what is damaged, never saves broken numbers."""

from __future__ import annotations

import errno
import math
import os
import weakref
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mobiletl.device.bundle import frame, state_file
from mobiletl.device.bundle.bundle import Bundle
from mobiletl.device.bundle.decode import decode
from mobiletl.device.bundle.state_file import load_state
from mobiletl.device.errors import BadPictures, NoSpace, UsageError
from mobiletl.device.run import pace, training
from mobiletl.device.sessions.session import Session
from runtime_tests.support.board.picture_folders import damage, write_pictures
from runtime_tests.support.board.training_workshop import COUNTS, STEPS, Workshop


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    return Workshop(tmp_path, monkeypatch)


def test_learns_and_reports(workshop: Workshop) -> None:
    given = {"epochs": 8, "augment": False, "start": "random"}
    outcome = workshop.train(workshop.options("run", **given))
    position = outcome.position
    assert position.epoch == 8
    assert position.step == 8 * STEPS
    assert position.before is not None
    assert position.best is not None
    assert position.latest is not None
    assert position.before.accuracy < 0.8 < position.best.score.accuracy
    rows = workshop.metrics("run")
    assert [row["epoch"] for row in rows] == list(range(9))
    assert [row["step"] for row in rows] == [STEPS * epoch for epoch in range(9)]
    assert rows[0]["train_loss"] is None
    assert rows[-1]["train_loss"] < rows[1]["train_loss"]
    assert rows[-1]["val_accuracy"] == position.latest.accuracy
    assert (workshop.folder / "run" / "plot.png").stat().st_size > 1000
    assert not (workshop.folder / "run" / "skipped.txt").exists()


def test_batches_are_whole_but_for_the_last(workshop: Workshop) -> None:
    workshop.train(workshop.options("run", epochs=2))
    assert workshop.session is not None
    assert workshop.session.batches == [5, 5, 5, 2, 5, 5, 5, 2]


def test_last_batch_of_one_is_dropped(workshop: Workshop) -> None:
    workshop.train(workshop.options("run", epochs=2, batch=8))
    assert workshop.session is not None
    assert workshop.session.batches == [8, 8, 8, 8]


def test_best_state_is_kept_apart_from_the_last(workshop: Workshop) -> None:
    # Far too high a rate: accuracy goes up and down, and the last epoch is rarely the best.
    outcome = workshop.train(workshop.options("run", epochs=6, lr=30.0))
    manifest = workshop.bundle.manifest
    _, best = load_state(outcome.folder.best, manifest)
    accuracies = [row["val_accuracy"] for row in workshop.metrics("run")]
    # Of four pictures, one that is wrong more is one standard error and an eighth at most.
    top, expected = 0.0, 0
    for epoch, accuracy in enumerate(accuracies):
        top = max(top, accuracy)
        error = math.sqrt(max(top * (1 - top), 1 / 8) / 4)
        expected = epoch if accuracy >= top - error else expected
    assert best.epoch == expected
    assert best.best_accuracy == accuracies[expected]
    assert outcome.position.best is not None
    assert outcome.position.best.epoch == best.epoch
    assert outcome.position.best.top == max(accuracies)
    _, last = load_state(outcome.folder.last, manifest)
    assert last.epoch == 6
    assert last.class_names == ("ant", "bee", "cat")


@pytest.mark.parametrize("augment", [True, False])
def test_late_failures_are_skipped_and_listed(workshop: Workshop, augment: bool) -> None:
    for name in ("000", "001", "002", "003"):
        damage(workshop.photos / "ant" / f"{name}.png")
    (workshop.photos / "ant" / "notes.txt").write_text("x")
    outcome = workshop.train(workshop.options("run", augment=augment))
    assert [entry.path for entry in outcome.skipped.entries()] == [
        "ant/000.png",
        "ant/001.png",
        "ant/002.png",
        "ant/003.png",
        "ant/notes.txt",
    ]
    listed = (workshop.folder / "run" / "skipped.txt").read_text().splitlines()
    assert len(listed) == 5
    assert listed[-1] == "ant/notes.txt\tnot a picture in a known format"


@pytest.mark.parametrize("augment", [True, False])
def test_no_picture_left_in_a_class(workshop: Workshop, augment: bool) -> None:
    for path in (workshop.photos / "cat").iterdir():
        damage(path)
    with pytest.raises(BadPictures, match="no picture of class 'cat' can be decoded"):
        workshop.train(workshop.options("run", augment=augment))


def test_no_validation_picture_left(workshop: Workshop) -> None:
    train_part = write_pictures(workshop.folder / "split" / "train", COUNTS)
    val_part = write_pictures(workshop.folder / "split" / "val", dict.fromkeys(COUNTS, 1))
    for path in val_part.rglob("*.png"):
        damage(path)
    assert train_part.is_dir()
    options = replace(workshop.options("run"), data=workshop.folder / "split")
    with pytest.raises(BadPictures, match="no validation picture can be decoded"):
        workshop.train(options)


def test_disk_full_leaves_the_former_state(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fill_disk(name: str, number: int) -> None:
        if (name, number) == ("train_step", 2 * STEPS):
            monkeypatch.setattr(state_file, "_write", no_space)

    workshop.on_call = fill_disk
    with pytest.raises(NoSpace, match="No space left"):
        workshop.train(workshop.options("run"))
    _, info = load_state(workshop.folder / "run" / "last.safetensors", workshop.bundle.manifest)
    assert info.step == STEPS


def test_a_run_is_not_written_over(workshop: Workshop) -> None:
    options = workshop.options("run")
    workshop.train(options)
    with pytest.raises(UsageError, match=r"holds a run already, .*; go on with it by --resume"):
        workshop.train(workshop.options("run", seed=5))


def test_folder_that_cannot_be_made(workshop: Workshop) -> None:
    (workshop.folder / "file").write_text("")
    options = replace(workshop.options("run"), run=workshop.folder / "file" / "run")
    with pytest.raises(NoSpace, match="cannot be written"):
        workshop.train(options)


@pytest.mark.parametrize("augment", [True, False])
def test_one_decoded_picture_at_a_time(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, augment: bool
) -> None:
    alive: list[weakref.ref[Image.Image]] = []
    counts: list[int] = []

    def watched(path: Path, short_side: int, name: str, limit: int) -> Image.Image:
        counts.append(sum(reference() is not None for reference in alive))
        image = decode(path, short_side, name, limit)
        alive.append(weakref.ref(image))
        return image

    monkeypatch.setattr(frame, "decode", watched)
    # The head is solved on central crops; 4 of 17 pictures see theirs again in epoch 1. The 4 that
    # validate are cut into five views more, each out of one decoded picture.
    workshop.train(workshop.options("run", epochs=1, augment=augment))
    assert workshop.session is not None
    assert workshop.session.calls["features"] == 21 + (13 + 20 if augment else 0)
    assert len(counts) == 21 + (13 + 4 if augment else 0)
    assert max(counts) == 0


def test_no_picture_is_decoded_more_than_twice(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: Counter[str] = Counter()

    def watched(path: Path, short_side: int, name: str, limit: int) -> Image.Image:
        decoded[name] += 1
        return decode(path, short_side, name, limit)

    monkeypatch.setattr(frame, "decode", watched)
    workshop.train(workshop.options("run", epochs=9))
    assert workshop.session is not None
    assert workshop.session.calls["features"] == 21 * 6
    assert set(decoded.values()) == {2}


def test_maps_of_later_epochs_are_told_from_steps(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []
    monkeypatch.setattr(pace.Pace, "step", lambda _, ahead_s=0.0: told.append(ahead_s))
    workshop.train(workshop.options("run", epochs=3))
    first, later = told[:STEPS], told[STEPS:]
    assert len(later) == 2 * STEPS
    # The last step computes two maps of two pictures, which might be for this epoch.
    assert [seconds > 0 for seconds in first] == [True] * (STEPS - 1) + [False]
    assert max(later) == 0


def test_bundle_is_what_the_outcome_names(workshop: Workshop) -> None:
    outcome = workshop.train(workshop.options("run", epochs=1))
    assert isinstance(outcome.bundle, Bundle)
    assert outcome.plan.total_bytes > 45_000_000


def test_the_session_is_told_what_its_tensors_take(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []

    def opened(*arguments: Any) -> Session:
        told.append(arguments[-1])
        return workshop._open(*arguments)

    monkeypatch.setattr(training, "open_session", opened)
    outcome = workshop.train(workshop.options("run", epochs=1))
    assert told == [outcome.plan.activations]
    assert outcome.plan.activations > 0
