"""Saves are spaced by a budget; the result of a run does not depend on it, whatever happens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mobiletl.device.bundle.state_file import load_state
from mobiletl.device.bundle.wear import wear
from mobiletl.device.errors import Diverged
from mobiletl.device.run import saves
from mobiletl.device.run.checkpoints import Best, Checkpoints, Position, RunFolder, Settings
from mobiletl.device.run.evaluation import Score
from mobiletl.device.run.events import Event, Note, Saved
from mobiletl.device.run.listener import Listener
from mobiletl.device.run.save_budget import budget_text, parse_budget
from mobiletl.device.run.saves import SYNC_BYTES, Saves
from mobiletl.device.sessions.session import StepResult
from runtime_tests.support.board.training_workshop import STEPS, Workshop, assert_same_run

# One byte in an hour: after the first saves none is due any more.
TIGHT = 1.0


class Seen(Listener):
    def __init__(self) -> None:
        self.saves: list[tuple[str, int, int]] = []
        self.notes: list[str] = []

    def hear(self, event: Event) -> None:
        if isinstance(event, Saved):
            self.saves.append((event.kind, event.epoch, event.step))
        elif isinstance(event, Note):
            self.notes.append(event.text)


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    return Workshop(tmp_path, monkeypatch)


@pytest.fixture
def seen(workshop: Workshop) -> Seen:
    listener = Seen()
    workshop.listeners = [listener]
    return listener


def sparing(workshop: Workshop, run: str, **given: Any) -> Any:
    return replace(workshop.options(run, **given), save_budget=TIGHT, save_every=3)


@pytest.mark.parametrize("lr", [0.3, 30.0])
def test_the_result_is_the_same_and_start_and_end_are_saved(
    workshop: Workshop, seen: Seen, lr: float
) -> None:
    """At 30 accuracy goes up and down: the best epoch is none of those that are saved anyway."""
    given = {"epochs": 7, "lr": lr}
    workshop.train(replace(workshop.options("whole", **given), save_every=3))
    often, seen.saves = seen.saves, []
    outcome = workshop.train(sparing(workshop, "sparing", **given))
    assert_same_run(workshop, "whole", "sparing")
    assert outcome.position.best is not None
    best = outcome.position.best.epoch
    ending = [("best", best, best * STEPS), ("last", 7, 7 * STEPS)]
    assert seen.saves == [("last", 0, 0), ("best", 0, 0), *ending]
    assert len(often) > 12


@pytest.mark.parametrize("step", [1, STEPS, STEPS + 1, 2 * STEPS, 3 * STEPS - 1])
def test_a_stop_saves_what_is_held(workshop: Workshop, seen: Seen, step: int) -> None:
    workshop.train(workshop.options("whole"))
    options = sparing(workshop, "stopped")
    workshop.interrupt(options, "train_step", step)
    assert seen.saves[-1] == ("last", (step - 1) // STEPS, step)
    last, best = (load_state(options.run / name, workshop.manifest)[1] for name in
                  ("last.safetensors", "state.safetensors"))  # fmt: skip
    assert last.step == step
    assert last.settings["position"]["best"]["epoch"] == best.epoch
    workshop.train(replace(options, resume=True, given={}))
    assert_same_run(workshop, "whole", "stopped")


@pytest.mark.parametrize("call", range(1, 3 * STEPS + 1))
def test_a_power_cut_costs_epochs_and_nothing_else(workshop: Workshop, call: int) -> None:
    workshop.train(workshop.options("whole"))
    options = sparing(workshop, "cut")

    def cut(name: str, number: int) -> None:
        if (name, number) == ("train_step", call):
            raise RuntimeError("power cut")

    workshop.on_call = cut
    with pytest.raises(RuntimeError, match="power cut"):
        workshop.train(options)
    workshop.on_call = lambda name, number: None
    _, info = load_state(options.run / "last.safetensors", workshop.manifest)
    assert (info.epoch, info.step) == (0, 0)
    workshop.train(replace(options, resume=True, given={}))
    assert_same_run(workshop, "whole", "cut")


@pytest.mark.parametrize("cuts", [(8, 2), (12, 2)])
def test_power_cuts_between_the_best_state_and_the_last(
    workshop: Workshop, seen: Seen, monkeypatch: pytest.MonkeyPatch, cuts: tuple[int, ...]
) -> None:
    """The best state that the place knows of must not be pushed out by the same save done again."""
    given: dict[str, Any] = {"epochs": 4, "start": "random"}
    workshop.train(workshop.options("whole", **given))
    options, real = replace(workshop.options("cut", **given), save_every=3), Checkpoints.save
    for number, cut in enumerate(cuts):
        count = 0

        def save(self: Checkpoints, *arguments: Any, cut: int = cut) -> None:
            nonlocal count
            count += 1
            if count == cut:
                raise RuntimeError("power cut")
            real(self, *arguments)

        monkeypatch.setattr(Checkpoints, "save", save)
        with pytest.raises(RuntimeError, match="power cut"):
            workshop.train(
                replace(options, resume=number > 0, given={} if number else options.given)
            )
    monkeypatch.setattr(Checkpoints, "save", real)
    workshop.train(replace(options, resume=True, given={}))
    assert not [note for note in seen.notes if "lost" in note]
    assert_same_run(workshop, "whole", "cut")


def test_a_run_that_fails_keeps_its_best_state(workshop: Workshop) -> None:
    def spoil(number: int, result: StepResult) -> StepResult:
        return StepResult(float("nan"), 0) if number > 2 * STEPS else result

    kept = {}
    for run, budget in (("often", None), ("sparing", TIGHT)):
        workshop.change = spoil
        with pytest.raises(Diverged):
            workshop.train(replace(workshop.options(run), save_budget=budget))
        state = workshop.folder / run / "state.safetensors"
        kept[run] = load_state(state, workshop.manifest)
    assert kept["sparing"][1].epoch == kept["often"][1].epoch > 0
    for name, tensor in kept["often"][0].items():
        assert kept["sparing"][0][name].tobytes() == tensor.tobytes()


def test_numbers_that_are_not_finite_are_found_whether_saved_or_not(workshop: Workshop) -> None:
    """An optimizer slot may overflow while the loss is finite: the run goes back at that epoch."""

    def spoil(number: int, result: StepResult) -> StepResult:
        assert workshop.session is not None
        inner: Any = workshop.session._inner
        if number == STEPS + 2:
            inner._state["classifier.1.bias"][0] = float("inf")
        return replace(result, loss=1.0)

    workshop.change = spoil
    workshop.train(replace(workshop.options("whole"), save_every=2))
    workshop.train(replace(sparing(workshop, "sparing"), save_every=2))
    assert_same_run(workshop, "whole", "sparing")


def test_nothing_is_left_of_what_was_held(workshop: Workshop) -> None:
    """Nor of a second name that a crash has left in the middle of a save."""
    folder = workshop.folder / "run"
    folder.mkdir()
    (folder / ".last.previous.safetensors.1-ff.tmp").write_bytes(b"")
    workshop.train(sparing(workshop, "run"))
    found = {path.name for path in (workshop.folder / "run").iterdir()}
    assert not [name for name in found if name.startswith((".", "tmp"))]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("epoch_s", [0.5, 7.0, 45.0])
@pytest.mark.parametrize("budget", [5e5, 5e6, 5e7])
def test_the_budget_holds(workshop: Workshop, seen: Seen, epoch_s: float, budget: float) -> None:
    """Up to two hours of epochs that are all the best so far."""
    clock, folder = Clock(), RunFolder(workshop.folder / "run")
    folder.path.mkdir()
    settings = Settings(9, 5, 0.3, 0, True, 1, "random", 0.2, 1, "fake", "")
    workshop.train(workshop.options("other", epochs=1))
    assert workshop.session is not None
    checkpoints = Checkpoints(folder, workshop.manifest, ("ant", "bee", "cat"), settings)
    seen.saves, before = [], wear()
    spaced = Saves(checkpoints, workshop.session, seen, budget, clock)
    epochs = int(7200 / epoch_s)
    score = Score(0.1, (1, 1, 1), (1, 1, 1))
    for epoch in range(min(epochs, 300)):
        clock.now += epoch_s
        must = spaced.due()
        place = Position(epoch, epoch, best=Best(epoch, score, 1.0))
        spaced.best(place, must)
        spaced.last(place, must)
    spent = wear().since(before)
    spaced.close()
    hours = (clock.now - 1000.0) / 3600
    saved = len(seen.saves)
    one = (spent.bytes + SYNC_BYTES * spent.fsyncs) / saved
    assert spent.bytes + SYNC_BYTES * spent.fsyncs <= budget * hours + 2 * one
    # And it is used: a pair of saves comes once it is paid for, or with every epoch.
    between = max(2 * one / budget * 3600, epoch_s)
    assert saved >= 0.9 * 2 * hours * 3600 / (between + epoch_s)


def test_what_is_held_for_long_counts_as_written(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mobiletl.device.run.held.WRITTEN_OUT_S", -1.0)
    long = workshop.train(sparing(workshop, "long"))
    monkeypatch.setattr("mobiletl.device.run.held.WRITTEN_OUT_S", 1000.0)
    short = workshop.train(sparing(workshop, "short"))
    size = short.folder.best.stat().st_size
    assert long.wear.fsyncs == short.wear.fsyncs
    held = (long.wear.bytes - short.wear.bytes) / size
    assert 1 < held < 4  # of three epochs at most


@pytest.mark.parametrize(
    ("text", "found"),
    [("500MB/h", 5e8), ("1.5 gb/h", 1.5e9), ("1.5gb/h", 1.5e9), ("80kb/h", 8e4), ("500MB", None),
     ("500", None), ("0MB/h", None), ("-1MB/h", None), ("MB/h", None), ("", None)],
)  # fmt: skip
def test_budgets_as_a_person_writes_them(text: str, found: float | None) -> None:
    if found is None:
        with pytest.raises(ValueError, match=r".*"):
            parse_budget(text)
    else:
        assert parse_budget(text) == found
        assert parse_budget(budget_text(found)) == found


def test_no_budget() -> None:
    assert parse_budget("none") is None
    assert budget_text(None) == "none"
    assert saves.HOUR_S == 3600
