"""A run that has lost its way goes back, cuts its rate, goes on and says so; it gives up late."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

from mobiletl.device.bundle.state_file import load_state
from mobiletl.device.errors import Diverged
from mobiletl.device.run.evaluation import Score
from mobiletl.device.run.events import Event, Note
from mobiletl.device.run.listener import Listener
from mobiletl.device.run.righting import CUT, MOST_CUTS, clearly_below, cut_rate, far_below
from mobiletl.device.run.start import state_start
from mobiletl.device.sessions.session import StepResult
from runtime_tests.support.board.training_workshop import (
    SETTINGS,
    STEPS,
    Workshop,
    assert_same_run,
)

Change = Callable[[int, StepResult], StepResult]


class Notes(Listener):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def hear(self, event: Event) -> None:
        if isinstance(event, Note):
            self.texts.append(event.text)


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    return Workshop(tmp_path, monkeypatch)


@pytest.fixture
def notes(workshop: Workshop) -> Notes:
    listener = Notes()
    workshop.listeners = [listener]
    return listener


def turned_at(workshop: Workshop, step: int) -> Change:
    """After that step the classifier says the opposite."""

    def turn(number: int, result: StepResult) -> StepResult:
        assert workshop.session is not None
        inner: Any = workshop.session._inner
        if number == step:
            for name in (name for name in inner._state if name.startswith("classifier")):
                np.negative(inner._state[name], out=inner._state[name])
        return result

    return turn


def spoiled_at(workshop: Workshop, step: int) -> Change:
    """After that step a number of the state is no longer finite, though the loss was."""

    def spoil(number: int, result: StepResult) -> StepResult:
        assert workshop.session is not None
        inner: Any = workshop.session._inner
        if number == step:
            inner._state["classifier.1.bias"][0] = np.inf
        return result

    return spoil


def loss_at(loss: float, *numbers: int) -> Change:
    return lambda number, result: replace(result, loss=loss) if number in numbers else result


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_one_loss_that_is_not_finite_is_survived(
    workshop: Workshop, notes: Notes, loss: float
) -> None:
    workshop.change = loss_at(loss, STEPS + 2)
    outcome = workshop.train(workshop.options("run"))
    assert outcome.position.epoch == 3
    assert outcome.position.step == 3 * STEPS
    assert outcome.position.cuts == 1
    (text,) = notes.texts
    assert text.startswith(f"the loss is {loss} at step {STEPS + 2} of epoch 2: back to the state")
    assert text.endswith("at a rate that begins at 0.1 instead of 0.3")
    rows = workshop.metrics("run")
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]
    whole = outcome.settings.lr
    schedule_share = rows[2]["lr"] / (CUT * whole)
    assert 0 < schedule_share < 1
    assert rows[1]["lr"] > 3 * rows[2]["lr"]


def test_it_goes_on_from_the_best_state(workshop: Workshop, notes: Notes) -> None:
    """Seen right after going back, which saves: its tensors are the best state's, slots too."""
    seen: list[dict[str, bytes]] = []

    def watch(name: str, number: int) -> None:
        if (name, number) == ("train_step", STEPS + 3):
            seen.append(workshop.files("run"))

    workshop.on_call = watch
    workshop.change = loss_at(float("nan"), STEPS + 2)
    workshop.train(workshop.options("run"))
    for name, content in seen[0].items():
        (workshop.folder / name).write_bytes(content)
    manifest = workshop.bundle.manifest
    best, _ = load_state(workshop.folder / "state.safetensors", manifest)
    last, info = load_state(workshop.folder / "last.safetensors", manifest)
    assert info.step == STEPS + 1
    assert all(last[name].tobytes() == tensor.tobytes() for name, tensor in best.items())


def test_a_run_that_went_back_resumes_to_the_same_bits(workshop: Workshop) -> None:
    workshop.change = loss_at(float("nan"), STEPS + 2)
    workshop.train(workshop.options("whole"))
    options = workshop.options("stopped")
    # The step of the lost loss is taken again, so the calls are one more than the steps.
    workshop.interrupt(options, "train_step", STEPS + 4)
    workshop.change = lambda number, result: result
    outcome = workshop.train(replace(options, resume=True, given={}))
    assert outcome.position.cuts == 1
    assert_same_run(workshop, "whole", "stopped")


def test_it_gives_up_after_several_cuts(workshop: Workshop, notes: Notes) -> None:
    workshop.change = lambda number, result: (
        replace(result, loss=float("nan")) if number > STEPS + 1 else result
    )
    words = (
        rf"the loss is nan at step {STEPS + 2} of epoch 2, after {MOST_CUTS} cuts of the rate to "
        r"0\.0037; try a lower --lr than 0\.3 \(the last good state is kept"
    )
    with pytest.raises(Diverged, match=words):
        workshop.train(workshop.options("run"))
    assert len(notes.texts) == MOST_CUTS
    manifest = workshop.bundle.manifest
    for name in ("state", "last"):
        tensors, info = load_state(workshop.folder / "run" / f"{name}.safetensors", manifest)
        assert all(np.isfinite(tensor).all() for tensor in tensors.values())
        assert info.step <= STEPS + 1


def test_the_start_is_there_to_go_back_to(workshop: Workshop, notes: Notes) -> None:
    workshop.change = loss_at(float("nan"), 1)
    outcome = workshop.train(workshop.options("run"))
    assert notes.texts[0].startswith("the loss is nan at step 1 of epoch 1: back to the state of")
    assert "of epoch 0," in notes.texts[0]
    assert outcome.position.cuts == 1


def test_a_state_that_is_not_finite_is_never_saved(workshop: Workshop, notes: Notes) -> None:
    workshop.change = spoiled_at(workshop, STEPS + 2)
    options = replace(workshop.options("run"), save_every=2)
    workshop.train(options)
    (text,) = notes.texts
    assert "classifier.1.bias and " in text
    assert f"no longer finite after step {STEPS + 2}: back to" in text
    tensors, _ = load_state(options.run / "last.safetensors", workshop.bundle.manifest)
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())


def test_a_stop_between_damage_and_save_can_be_resumed(workshop: Workshop) -> None:
    workshop.change = spoiled_at(workshop, STEPS + 2)
    options = workshop.options("run")
    workshop.interrupt(options, "train_step", STEPS + 2)
    _, info = load_state(options.run / "last.safetensors", workshop.bundle.manifest)
    assert info.step == STEPS
    workshop.change = lambda number, result: result
    assert workshop.train(replace(options, resume=True, given={})).position.epoch == 3


def test_a_best_state_that_is_gone_is_said(workshop: Workshop) -> None:
    def lose(name: str, number: int) -> None:
        if (name, number) == ("train_step", STEPS + 2):
            for path in (workshop.folder / "run").glob("state*"):
                path.unlink()

    workshop.on_call = lose
    workshop.change = loss_at(float("nan"), STEPS + 2)
    with pytest.raises(Diverged, match=r"no best state to go back to: .*does not exist"):
        workshop.train(workshop.options("run"))


def test_an_epoch_far_below_the_best_is_one_to_go_back_from(
    workshop: Workshop, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The classifier is turned round in epoch 6 of 8, by when it knows the classes."""

    workshop.change = turned_at(workshop, 6 * STEPS)
    # Four validation pictures prove nothing: the bar is ten points alone here.
    monkeypatch.setattr("mobiletl.device.run.righting.STANDARD_ERRORS", 0)
    outcome = workshop.train(workshop.options("run", epochs=8, augment=False))
    assert any(text.startswith("accuracy fell to ") for text in notes.texts)
    assert outcome.position.cuts >= 1
    assert outcome.position.latest is not None
    assert outcome.position.best is not None
    assert outcome.position.latest.accuracy == outcome.position.best.score.accuracy


def test_a_fall_in_the_last_epoch_is_said_and_costs_nothing(
    workshop: Workshop, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop.change = turned_at(workshop, 8 * STEPS)
    monkeypatch.setattr("mobiletl.device.run.righting.STANDARD_ERRORS", 0)
    outcome = workshop.train(workshop.options("run", epochs=8, augment=False))
    assert notes.texts[-1].endswith("; the best state is the one that is kept")
    assert outcome.position.best is not None
    assert outcome.position.best.epoch < 8


def test_a_run_never_ends_below_where_it_began(workshop: Workshop) -> None:
    """Trained at a rate that ruins it, from a state that knew the classes."""
    first = workshop.train(workshop.options("first", epochs=8, augment=False))
    assert first.position.best is not None
    workshop.start = state_start(first.folder.best, workshop.bundle)
    second = workshop.train(workshop.options("second", epochs=1, lr=1e4, augment=False))
    assert second.position.best is not None
    assert second.position.best.score.accuracy >= first.position.best.score.accuracy


@pytest.mark.parametrize(
    ("best", "latest", "pictures", "far"),
    [
        (0.89, 0.58, 80, True),
        (0.89, 0.80, 80, False),  # one standard error of the difference is 5.6 points
        (0.89, 0.80, 10_000, False),  # less than ten points
        (0.89, 0.78, 10_000, True),
        (1.0, 0.75, 4, False),
        (0.5, 0.9, 80, False),
    ],
)
def test_far_is_more_than_so_few_pictures_explain(
    best: float, latest: float, pictures: int, far: bool
) -> None:
    def score(accuracy: float) -> Score:
        return Score(1.0, (round(accuracy * pictures),), (pictures,))

    assert far_below(score(latest), score(best)) is far


@pytest.mark.parametrize(
    ("top", "accuracy", "pictures", "below"),
    [
        (0.9, 0.87, 100, False),  # one standard error is 3 points
        (0.9, 0.86, 100, True),
        (0.9, 0.89, 10_000, True),
        (0.5, 0.46, 100, False),  # and 5 points here
        (0.5, 0.44, 100, True),
        (1.0, 1.0, 200, False),
        (1.0, 0.995, 200, True),  # all right: 0.35 points, and one picture is 0.5
        (1.0, 0.9, 10, True),
        (0.5, 0.9, 100, False),
        (0.75, 0.75, 4, False),
    ],
)
def test_clearly_below_is_more_than_a_standard_error(
    top: float, accuracy: float, pictures: int, below: bool
) -> None:
    right = round(accuracy * pictures)
    assert clearly_below(Score(1.0, (right,), (pictures,)), top) is below


def test_no_picture_is_no_fall() -> None:
    assert not far_below(Score(0.0, (0,), (0,)), Score(0.0, (1,), (1,)))


def test_rates_fall_by_the_same_share() -> None:
    rates = [cut_rate(float(SETTINGS["lr"]), cuts) for cuts in range(MOST_CUTS + 1)]
    assert rates[0] == SETTINGS["lr"]
    assert all(abs(b / a - CUT) < 1e-12 for a, b in zip(rates, rates[1:]))
