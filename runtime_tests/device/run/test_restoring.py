"""Damage to any file of a stopped run: it goes on to the same bits, or says what is lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Callable

import pytest

from mobiletl.device.bundle.state_file import load_state, previous_generation
from mobiletl.device.errors import BadState, Diverged, InUse, UsageError
from mobiletl.device.run.checkpoints import RunFolder
from mobiletl.device.run.claim import Claim
from mobiletl.device.run.events_file import read_events
from mobiletl.device.sessions.session import StepResult
from runtime_tests.support.board.training_workshop import STEPS, Workshop, assert_same_run

LAST, BEST = "last.safetensors", "state.safetensors"


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    return Workshop(tmp_path, monkeypatch)


def zeroed(path: Path) -> None:
    """As FAT leaves a file that was renamed just before the power went."""
    path.write_bytes(b"\0" * path.stat().st_size)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def both(path: Path) -> list[Path]:
    return [path, previous_generation(path)]


def stopped(workshop: Workshop, step: int = 2 * STEPS + 2, name: str = "run") -> RunFolder:
    """A run that is whole, and one that was stopped at `step`."""
    workshop.train(workshop.options("whole"))
    workshop.interrupt(workshop.options(name), "train_step", step)
    return RunFolder(workshop.folder / name)


def resume(workshop: Workshop, name: str = "run") -> list[str]:
    """Go on with the run; return its notes of this call."""
    options = workshop.options(name)
    before = len(read_events(options.run / "events.jsonl"))
    workshop.train(replace(options, resume=True, given={}))
    events = read_events(options.run / "events.jsonl")[before:]
    return [event["text"] for event in events if event["event"] == "note"]


@pytest.mark.parametrize("spoil", [zeroed, emptied, Path.unlink])
def test_the_newest_last_state_is_lost(workshop: Workshop, spoil: Callable[[Path], None]) -> None:
    folder = stopped(workshop)
    spoil(folder.last)
    assert ["last.previous" in note for note in resume(workshop)] == [True]
    assert_same_run(workshop, "whole", "run")


@pytest.mark.parametrize("spoil", [zeroed, emptied, Path.unlink])
def test_both_last_states_are_lost(workshop: Workshop, spoil: Callable[[Path], None]) -> None:
    folder = stopped(workshop)
    for file in both(folder.last):
        spoil(file)
    assert ["goes on from the best one" in note for note in resume(workshop)] == [True]
    assert_same_run(workshop, "whole", "run")


def test_a_damaged_state_pushes_no_good_one_out(workshop: Workshop) -> None:
    folder = stopped(workshop)
    zeroed(folder.last)
    good = previous_generation(folder.last).read_bytes()
    options = replace(workshop.options("run"), resume=True, given={})
    workshop.interrupt(options, "train_step", 1)
    assert previous_generation(folder.last).read_bytes() == good


@pytest.mark.parametrize("spoil", [zeroed, emptied, Path.unlink])
@pytest.mark.parametrize("step", [STEPS + 1, 3 * STEPS])
def test_the_newest_best_state_is_lost(
    workshop: Workshop, spoil: Callable[[Path], None], step: int
) -> None:
    folder = stopped(workshop, step)
    spoil(folder.best)
    resume(workshop)
    load_state(folder.best, workshop.manifest)
    assert_same_run(workshop, "whole", "run")


def test_the_best_state_of_a_finished_run_is_lost(workshop: Workshop) -> None:
    options = workshop.options("whole")
    workshop.train(options)
    outcome = workshop.train(workshop.options("run"))
    before = workshop.files("run")
    folder = RunFolder(workshop.folder / "run")
    for file in both(folder.best):
        zeroed(file)
    (note,) = resume(workshop)
    assert "the last one, of epoch 3, takes its place" in note
    assert outcome.position.best is not None
    if outcome.position.best.epoch == 3:
        assert workshop.files("run")[BEST] == before[BEST]
    load_state(folder.best, workshop.manifest)


def test_a_best_state_that_is_lost_in_an_epoch(workshop: Workshop) -> None:
    folder = stopped(workshop)
    for file in both(folder.best):
        zeroed(file)
    (note,) = resume(workshop)
    assert "the next epoch takes its place" in note
    _, info = load_state(folder.best, workshop.manifest)
    assert info.epoch == 3


def test_everything_is_lost(workshop: Workshop) -> None:
    folder = stopped(workshop)
    for file in (*both(folder.last), *both(folder.best)):
        zeroed(file)
    with pytest.raises(BadState, match=r"last\.safetensors is damaged.*The best state does not"):
        resume(workshop)


def test_one_state_passes_for_no_other(workshop: Workshop) -> None:
    """Valid files in each other's place: the one before is taken, and what is lost is said."""
    folder = stopped(workshop)
    best, last = folder.best.read_bytes(), folder.last.read_bytes()
    folder.best.write_bytes(last)
    folder.last.write_bytes(best)
    notes = resume(workshop)
    assert any("last.previous" in note for note in notes)
    assert_same_run(workshop, "whole", "run")


def test_a_best_state_of_another_run_is_refused(workshop: Workshop) -> None:
    workshop.train(workshop.options("other", seed=7))
    folder = stopped(workshop)
    for file in both(folder.best):
        file.write_bytes((workshop.folder / "other" / BEST).read_bytes())
    assert any("the best state" in note for note in resume(workshop))


def test_a_whole_temporary_is_better_than_nothing(workshop: Workshop) -> None:
    folder = stopped(workshop, 2)
    folder.last.rename(folder.path / ".last.safetensors.1-ff.tmp")
    for file in (previous_generation(folder.last), *both(folder.best)):
        file.unlink(missing_ok=True)
    assert ".tmp" in resume(workshop)[0]
    assert_same_run(workshop, "whole", "run")
    assert not list(folder.path.glob(".*"))


def test_the_same_command_goes_on(workshop: Workshop) -> None:
    stopped(workshop)
    options = workshop.options("run")
    workshop.train(options)
    assert_same_run(workshop, "whole", "run")
    before = workshop.files("run")
    workshop.train(options)
    assert workshop.files("run") == before


def test_another_command_is_refused(workshop: Workshop) -> None:
    stopped(workshop)
    with pytest.raises(UsageError, match=r"started otherwise: --lr \(0.3 then, 0.2 now\); go on"):
        workshop.train(workshop.options("run", lr=0.2))


def test_a_run_that_has_saved_nothing_begins_anew_with_its_settings(workshop: Workshop) -> None:
    workshop.train(workshop.options("whole"))
    workshop.interrupt(workshop.options("run"), "features", 3)
    (note,) = resume(workshop)
    assert "it begins anew" in note
    assert_same_run(workshop, "whole", "run")


def test_a_folder_of_something_else_is_not_resumed(workshop: Workshop) -> None:
    options = replace(workshop.options("x"), run=workshop.photos, resume=True)
    with pytest.raises(BadState, match="holds no run to resume"):
        workshop.train(options)
    assert not list(workshop.photos.glob(".*"))


def test_threads_are_kept(workshop: Workshop) -> None:
    options = replace(workshop.options("run"), threads=3)
    workshop.interrupt(options, "train_step", 2)
    with pytest.raises(UsageError, match=r"--threads \(3 then, 1 now\)"):
        workshop.train(replace(options, resume=True, given={}, threads=1))
    outcome = workshop.train(replace(options, resume=True, given={}, threads=0))
    assert outcome.settings.threads == 3


def test_a_run_belongs_to_one_process(workshop: Workshop) -> None:
    folder = stopped(workshop)
    with Claim(folder), pytest.raises(InUse, match="is in use by process"):
        resume(workshop)
    resume(workshop)


def test_numbers_that_stay_broken_leave_the_last_good_state(workshop: Workshop) -> None:
    workshop.change = lambda number, result: (
        StepResult(float("nan"), 0) if number > STEPS else result
    )
    with pytest.raises(Diverged):
        workshop.train(workshop.options("run"))
    load_state(workshop.folder / "run" / BEST, workshop.manifest)
    load_state(workshop.folder / "run" / LAST, workshop.manifest)
