"""What a run ends with: its beginning, half of the way, or all of it, and a classifier of all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from mobiletl.device.bundle.answers import Answers
from mobiletl.device.bundle.arrays import Tensors
from mobiletl.device.bundle.state_file import load_state
from mobiletl.device.heads.unknown import SOLVED_WEIGHT, TRAINED_WEIGHT
from mobiletl.device.run import settling
from mobiletl.device.run.events import Ended, Event
from mobiletl.device.run.listener import Listener
from mobiletl.device.run.options import Former, Options
from mobiletl.device.teaching.folder import teach
from runtime_tests.support.board.tiny_bundle import BIAS, MEAN, WEIGHT
from runtime_tests.support.board.training_workshop import Workshop, assert_same_run


class LastWord(Listener):
    ended: Ended

    def hear(self, event: Event) -> None:
        if isinstance(event, Ended):
            self.ended = event


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    return Workshop(tmp_path, monkeypatch)


def answers_of(options: Options, workshop: Workshop) -> Answers:
    _, info = load_state(options.run / "state.safetensors", workshop.manifest)
    assert info.answers is not None
    return info.answers


def state_of(options: Options, workshop: Workshop) -> tuple[Tensors, Any]:
    tensors, info = load_state(options.run / "state.safetensors", workshop.manifest)
    return tensors, info.settings.get("kept")


def bar(monkeypatch: pytest.MonkeyPatch, *bars: float) -> None:
    """Let the comparisons of a run end in these numbers of standard errors."""
    left = list(bars)
    monkeypatch.setattr(settling, "standard_errors", lambda before, after: left.pop(0))


def test_without_evidence_it_is_what_teach_gives(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    bar(monkeypatch, 1.99)
    options = workshop.options("run", epochs=3)
    workshop.train(options)
    tensors, kept = state_of(options, workshop)
    assert (kept["what"], kept["gain"]) == ("closed form", 1.99)
    taught = replace(options, run=workshop.folder / "taught", given={"runtime": "fake"})
    teach(taught)
    expected, _ = load_state(taught.run / "state.safetensors", workshop.manifest)
    for name in (WEIGHT, BIAS, MEAN):
        np.testing.assert_allclose(tensors[name], expected[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("bars", "what", "share"), [((2.0, 1.0), "halfway", 0.5), ((2.0, 2.0), "best epoch", 1.0)]
)
def test_evidence_leads_further(
    workshop: Workshop,
    monkeypatch: pytest.MonkeyPatch,
    bars: tuple[float, float],
    what: str,
    share: float,
) -> None:
    listener = LastWord()
    workshop.listeners = [listener]
    bar(monkeypatch, *bars)
    options = workshop.options("run", epochs=3)
    workshop.train(options)
    tensors, kept = state_of(options, workshop)
    assert kept["what"] == what
    assert kept["gain"] == 2.0
    ended = listener.ended
    assert ended.kept is not None
    assert ended.kept["what"] == what
    assert sum(ended.kept["class_seen"]) == 4
    # The best epoch is still the generation before what is kept.
    raw, _ = load_state(options.run / "state.previous.safetensors", workshop.manifest)
    began = workshop.bundle.initial_state(3, 0)
    expected = began[MEAN] + share * (raw[MEAN] - began[MEAN])
    np.testing.assert_allclose(tensors[MEAN], expected, rtol=1e-5, atol=1e-7)
    assert ended.answers is not None


def test_a_classifier_that_was_drawn_is_not_judged(workshop: Workshop) -> None:
    options = workshop.options("run", start="random")
    workshop.train(options)
    assert state_of(options, workshop)[1] is None


@pytest.mark.parametrize(("least", "weight"), [(np.inf, SOLVED_WEIGHT), (-np.inf, TRAINED_WEIGHT)])
def test_answers_are_those_of_what_is_kept(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, least: float, weight: float
) -> None:
    """The start's classifier is as `teach` has it; whatever was trained is to be doubted more."""
    monkeypatch.setattr(settling, "STANDARD_ERRORS", least)
    options = workshop.options("run")
    workshop.train(options)
    unknown = answers_of(options, workshop).unknown
    assert unknown is not None
    assert unknown.weight == weight


def test_answers_of_a_classifier_that_was_drawn_are_a_trained_ones(workshop: Workshop) -> None:
    options = workshop.options("run", start="random")
    workshop.train(options)
    unknown = answers_of(options, workshop).unknown
    assert unknown is not None
    assert unknown.weight == TRAINED_WEIGHT


def test_a_stop_in_the_middle_changes_nothing(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "STANDARD_ERRORS", -np.inf)
    workshop.train(workshop.options("whole"))
    options = workshop.options("stopped")
    counted = workshop.session
    assert counted is not None
    last = counted.calls["embed"]
    workshop.interrupt(options, "embed", last - 3)
    workshop.train(replace(options, resume=True, given={}))
    assert_same_run(workshop, "whole", "stopped")
    assert state_of(options, workshop)[1]["what"] == "best epoch"


def test_a_run_that_has_ended_does_not_go_on_from_what_it_kept(workshop: Workshop) -> None:
    """Its last state is lost: the best epoch, the generation before, is where it goes on."""
    workshop.train(workshop.options("whole"))
    options = workshop.options("lost")
    workshop.train(options)
    for name in ("last.safetensors", "last.previous.safetensors"):
        (options.run / name).unlink()
    workshop.train(replace(options, resume=True, given={}))
    assert_same_run(workshop, "whole", "lost")


def test_a_run_with_a_new_class_is_compared_with_the_former_network(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped and resumed, too: what it began from is in its folder until it ends."""
    workshop.train(workshop.options("first"))
    (workshop.photos / "dog").mkdir()
    for path in sorted((workshop.photos / "ant").iterdir()):
        ImageOps.invert(Image.open(path).convert("RGB")).save(workshop.photos / "dog" / path.name)
    former = Former(workshop.folder / "first")
    monkeypatch.setattr(settling, "STANDARD_ERRORS", np.inf)
    whole = replace(workshop.options("whole"), former=former)
    workshop.train(whole)
    options = replace(workshop.options("stopped"), former=former)
    workshop.interrupt(options, "train_step", 2)
    assert (options.run / "began.safetensors").is_file()
    workshop.train(replace(options, resume=True, given={}, former=None))
    assert_same_run(workshop, "whole", "stopped")
    assert not list(options.run.glob("began*"))
    tensors, kept = state_of(options, workshop)
    assert kept["what"] == "closed form"
    first, _ = state_of(workshop.options("first"), workshop)
    np.testing.assert_array_equal(tensors[MEAN], first[MEAN])
