"""Predictions that are calibrated, and pictures of none of the classes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mobiletl.device import predict
from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.bundle.state_file import load_state, save_state
from mobiletl.device.heads.unknown import SOLVED_WEIGHT
from mobiletl.device.prediction.predictor import open_predictor
from mobiletl.device.run.events import Ended, Event
from mobiletl.device.run.library import train
from mobiletl.device.run.listener import Listener
from mobiletl.device.run.report import answers_line
from mobiletl.device.run.start import state_start
from runtime_tests.support.board.picture_folders import write_pictures
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle

Capture = pytest.CaptureFixture[str]


class Hears(Listener):
    def __init__(self) -> None:
        self.events: list[Event] = []

    def hear(self, event: Event) -> None:
        self.events.append(event)


class Trained:
    def __init__(self, folder: Path) -> None:
        self.bundle: Bundle = open_bundle(write_tiny_bundle(folder / "bundle"))
        self.photos = write_pictures(folder / "photos", {"ant": 20, "bee": 20, "cat": 20})
        self.listener = Hears()
        outcome = train(
            self.bundle.path,
            self.photos,
            folder / "run",
            epochs=6,
            augment=False,
            seed=0,
            listeners=[self.listener],
        )
        self.state = outcome.folder.best
        self.folder = folder

    def with_threshold(self, name: str, threshold: float | None) -> Path:
        """The same state with another threshold, or from before there were any."""
        tensors, info = load_state(self.state, self.bundle.manifest)
        assert info.answers is not None
        assert info.answers.unknown is not None
        answers = None
        if threshold is not None:
            unknown = replace(info.answers.unknown, threshold=threshold)
            answers = replace(info.answers, unknown=unknown)
        path = self.folder / f"{name}.safetensors"
        save_state(path, tensors, replace(info, answers=answers))
        return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("answers"))


def test_a_run_ends_with_answers(trained: Trained) -> None:
    _, info = load_state(trained.state, trained.bundle.manifest)
    answers = info.answers
    assert answers is not None
    assert answers.pictures == 12
    assert answers.unknown is not None
    assert answers.unknown.centre.shape == (trained.bundle.manifest.embedding.size,)
    (ended,) = [event for event in trained.listener.events if isinstance(event, Ended)]
    assert ended.answers == answers
    assert ended.document()["answers"]["temperature"] == answers.temperature
    line = answers_line(answers)
    assert line.startswith("of 12 validation pictures ")
    assert re.search(r"off on average; of so few, true ones would be \d+\.\d% off$", line)
    assert answers.unknown.weight == SOLVED_WEIGHT


def test_a_report_of_a_state_from_before_says_nothing_of_chance(trained: Trained) -> None:
    _, info = load_state(trained.state, trained.bundle.manifest)
    assert info.answers is not None
    assert answers_line(replace(info.answers, chance_error=None)).endswith("% off on average")


def test_a_report_says_nothing_where_nothing_is_known() -> None:
    assert answers_line(None) == ""


def test_probabilities_are_calibrated(trained: Trained) -> None:
    path = trained.photos / "bee" / "001.png"
    _, info = load_state(trained.state, trained.bundle.manifest)
    assert info.answers is not None
    with open_predictor(trained.bundle, trained.state) as predictor:
        found = predictor.predict(path)
    with open_predictor(trained.bundle, state_start(trained.state, trained.bundle)) as predictor:
        raw = predictor.predict(path)
    assert found.labels == raw.labels
    warmed = np.log(raw.probabilities) / info.answers.temperature
    shares = np.exp(warmed) / np.exp(warmed).sum()
    np.testing.assert_allclose(found.probabilities, shares, rtol=1e-4, atol=1e-7)
    assert (raw.unknown, raw.score, raw.threshold) == (False, None, None)


def test_below_the_threshold_it_is_unknown(trained: Trained) -> None:
    path = trained.photos / "ant" / "000.png"
    with open_predictor(trained.bundle, trained.state) as predictor:
        usual = predictor.predict(path)
        assert usual.score is not None
        predictor.load(trained.with_threshold("above", usual.score + 0.1))
        found = predictor.predict(path)
    assert found.unknown
    assert found.score == usual.score
    assert found.threshold == pytest.approx(usual.score + 0.1)
    assert (found.label, found.probabilities) == (usual.label, usual.probabilities)


def test_it_can_be_turned_off(trained: Trained, capsys: Capture) -> None:
    state = trained.with_threshold("all", 1e6)
    path = str(trained.photos / "cat" / "002.png")
    given = ["--bundle", str(trained.bundle.path), "--state", str(state), path]
    assert predict.main(given) == 0
    assert "unknown, most like cat" in capsys.readouterr().out
    assert predict.main([*given, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["predictions"]
    assert row["unknown"] is True
    assert row["score"] < row["threshold"] == 1e6
    assert row["labels"][0]["label"] == "cat"
    assert predict.main([*given, "--no-unknown"]) == 0
    assert "unknown" not in capsys.readouterr().out
    assert predict.main([*given, "--no-unknown", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["predictions"]
    assert (row["unknown"], row["score"], row["threshold"]) == (False, None, None)


def test_a_state_from_before_knows_of_neither(trained: Trained) -> None:
    old = trained.with_threshold("old", None)
    with open_predictor(trained.bundle, old) as predictor:
        found = predictor.predict(trained.photos / "bee" / "000.png")
    assert (found.unknown, found.score, found.threshold) == (False, None, None)
