"""Which level of a bundle a run trains, and that everything after it opens the same."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.bundle.levels import of_state
from mobiletl.device.commands.table import main as mobiletl
from mobiletl.device.errors import UsageError
from mobiletl.device.memory.limit import needed
from mobiletl.device.memory.plan import plan
from mobiletl.device.pictures.dataset import open_dataset
from mobiletl.device.prediction.predictor import open_predictor
from mobiletl.device.run import training
from mobiletl.device.run.options import Former, Options
from mobiletl.device.run.start import state_start
from mobiletl.device.run.stop import StopFlag, StopRequested
from mobiletl.device.run.training import train
from runtime_tests.support.board.picture_folders import write_pictures
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle
from runtime_tests.support.board.tiny_levels import write_tiny_levels

COUNTS = {"ant": 9, "bee": 7}
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_levels(tmp_path / "bundle")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "photos", COUNTS)


def options(folder: Path, photos: Path, run: str = "run", **named: Any) -> Options:
    given = {"epochs": 2, "batch": 5, **named.pop("given", {})}
    return Options(folder, photos, folder.parent / run, False, given, threads=1, **named)


def planned(folder: Path, photos: Path, blocks: int) -> int:
    bundle, dataset = open_bundle(folder).at(blocks), open_dataset(photos, 0.2, 0)
    decoding = dataset.decoding_bytes
    sizes = 5, len(COUNTS), 1, "onnxruntime"
    return plan(bundle.manifest, *sizes, decoding, dataset.pictures).total_bytes


def blocks_of(bundle: Bundle) -> int:
    return bundle.manifest.method.blocks


def trained_at(folder: Path, run: str = "run") -> int:
    """Return the level that a run's states fit."""
    states = [folder.parent / run / name for name in ("state.safetensors", "last.safetensors")]
    (blocks,) = {blocks_of(of_state(open_bundle(folder), state)) for state in states}
    return blocks


def test_told_nothing_it_trains_the_deepest(folder: Path, photos: Path) -> None:
    outcome = train(options(folder, photos))
    assert blocks_of(outcome.bundle) == outcome.settings.blocks == trained_at(folder) == 1


def test_a_limit_of_memory_picks_the_deepest_that_keeps_to_it(folder: Path, photos: Path) -> None:
    deep, shallow = planned(folder, photos, 1), planned(folder, photos, 0)
    outcome = train(options(folder, photos, max_memory=deep))
    assert trained_at(folder) == 1
    assert outcome.dataset.notes[-1] == (
        f"training 1 block, planned with {needed(deep)} of the {deep / 1e6:.1f} MB of "
        "--max-memory: the deepest level of the bundle"
    )
    outcome = train(options(folder, photos, "small", max_memory=deep - 1))
    assert (outcome.settings.blocks, trained_at(folder, "small")) == (0, 0)
    assert outcome.plan.total_bytes == shallow
    assert outcome.dataset.notes[-1] == (
        f"training 0 blocks, planned with {needed(shallow)} of the {(deep - 1) / 1e6:.1f} MB of "
        f"--max-memory; 1 block would take {needed(deep)}"
    )


def test_a_limit_below_all_levels_is_refused_as_ever(folder: Path, photos: Path) -> None:
    least = planned(folder, photos, 0)
    with pytest.raises(UsageError) as caught:
        train(options(folder, photos, max_memory=least // 2))
    assert str(caught.value) == (
        f"{needed(least)} are planned at 0 blocks, the fewest of the bundle, more than the "
        f"{least // 2 / 1e6:.1f} MB of --max-memory; export fewer --blocks or a lower "
        "--resolution, which take less"
    )
    assert not (folder.parent / "run").exists()


def test_large_pictures_are_left_out_only_where_no_level_has_room_for_them(
    folder: Path, photos: Path
) -> None:
    from PIL import Image

    without = planned(folder, photos, 0)
    Image.new("RGB", (3000, 2500)).save(photos / "ant" / "large.png")
    outcome = train(options(folder, photos))
    largest = outcome.dataset.decoding_bytes
    assert largest > 2_000_000
    size = outcome.plan.total_bytes
    outcome = train(options(folder, photos, "all", max_memory=size - 1))
    assert (outcome.settings.blocks, outcome.dataset.decoding_bytes) == (0, largest)
    outcome = train(options(folder, photos, "fewer", max_memory=without + 10_000))
    assert outcome.settings.blocks == 0
    assert outcome.dataset.decoding_bytes < largest


@pytest.mark.parametrize("blocks", [0, 1])
def test_a_person_chooses_by_hand(folder: Path, photos: Path, blocks: int) -> None:
    train(options(folder, photos, given={"blocks": blocks}))
    assert trained_at(folder) == blocks
    with pytest.raises(UsageError, match=r"at 1 block, more than|at 0 blocks, the fewest"):
        train(options(folder, photos, "other", given={"blocks": blocks}, max_memory=1000))


def test_a_level_of_a_bundle_of_its_own_trains_to_the_same_bits(
    folder: Path, photos: Path, tmp_path: Path
) -> None:
    one = write_tiny_bundle(tmp_path / "one")
    train(options(folder, photos, "level", given={"blocks": 0}))
    train(options(one, photos, "alone"))
    states = [tmp_path / run / "state.safetensors" for run in ("level", "alone")]
    tensors = [state_start(state, open_bundle(one)).tensors for state in states]
    assert list(tensors[0]) == list(tensors[1])
    assert all((tensors[0][name] == tensors[1][name]).all() for name in tensors[0])


class _Stops:
    """Asks for a stop at the first step."""

    def __init__(self, stop: StopFlag) -> None:
        self.stop = stop

    def hear(self, event: Any) -> None:
        if type(event).__name__ == "Step":
            self.stop.request()


def stopped(asked: Options) -> None:
    stop = StopFlag()
    with pytest.raises(StopRequested):
        train(asked, [_Stops(stop)], stop)  # type: ignore[list-item]


def test_a_resumed_run_keeps_its_level(folder: Path, photos: Path) -> None:
    limit = planned(folder, photos, 1) - 1
    train(options(folder, photos, "whole", max_memory=limit))
    asked = options(folder, photos, max_memory=limit)
    stopped(asked)
    # With --resume, without the limit that picked the level; and by the same command again.
    again = folder.parent / "again"
    shutil.copytree(str(asked.run), str(again))
    train(replace(asked, resume=True, given={}, max_memory=None))
    train(replace(asked, run=again, max_memory=1 << 40))
    for run in ("run", "again"):
        assert trained_at(folder, run) == 0
        found, whole = (folder.parent / name / "state.safetensors" for name in (run, "whole"))
        begins = [state_start(path, open_bundle(folder)).tensors for path in (found, whole)]
        assert all((begins[0][name] == begins[1][name]).all() for name in begins[1])


def test_another_level_than_the_runs_is_refused(folder: Path, photos: Path) -> None:
    asked = options(folder, photos, given={"blocks": 0})
    stopped(asked)
    for other in (
        replace(asked, given={"blocks": 1}, resume=True),
        replace(asked, given={**asked.given, "blocks": 1}),
    ):
        with pytest.raises(UsageError, match="was trained at 0 blocks, not at the 1 of --blocks"):
            train(other)
    with pytest.raises(UsageError, match="it has levels of 0, 1; "):
        train(replace(asked, given={"blocks": 2}, resume=True))


def test_a_run_that_saved_nothing_begins_anew_at_its_level(
    folder: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = options(folder, photos, max_memory=planned(folder, photos, 1) - 1)

    def killed(*_: Any) -> None:
        raise SystemExit

    monkeypatch.setattr(training, "open_session", killed)
    with pytest.raises(SystemExit):
        train(asked)
    monkeypatch.undo()
    assert not (asked.run / "last.safetensors").exists()
    train(replace(asked, resume=True, given={}, max_memory=None))
    assert trained_at(folder) == 0


def test_a_run_that_follows_has_the_level_of_the_former(folder: Path, photos: Path) -> None:
    first = train(options(folder, photos, "first", given={"blocks": 0}))
    former = Former(first.folder.path)
    more = write_pictures(photos, {"cat": 6})
    train(options(folder, more, "second", former=former))
    assert trained_at(folder, "second") == 0
    with pytest.raises(UsageError, match="was trained at 0 blocks, not at the 1 of --blocks"):
        train(options(folder, more, "third", former=former, given={"blocks": 1}))
    start = state_start(first.folder.best, open_bundle(folder))
    shutil.rmtree(str(photos / "cat"))
    train(options(folder, photos, "fourth"), start=start)
    assert trained_at(folder, "fourth") == 0


def test_a_predictor_takes_the_states_level(folder: Path, photos: Path) -> None:
    train(options(folder, photos, given={"blocks": 0}))
    state = folder.parent / "run" / "state.safetensors"
    picture = photos / "ant" / "000.png"
    with open_predictor(folder, state) as predictor:
        said = predictor.predict(picture)
    bundle = open_bundle(folder)
    with open_predictor(bundle, state_start(state, bundle)) as predictor:
        assert predictor.predict(picture).label == said.label


@pytest.mark.parametrize("blocks", ["0", "1"])
def test_every_command_opens_the_level_of_a_state(
    folder: Path, photos: Path, tmp_path: Path, capsys: Capture, blocks: str
) -> None:
    data = ["--bundle", str(folder), "--data", str(photos)]
    words = [*data, "--threads", "1", "--json"]
    run = str(tmp_path / "run")
    assert mobiletl(["train", *words, "--epochs", "1", "--blocks", blocks, "--out", run]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["settings"]["blocks"] == int(blocks)
    state = document["state"]
    picture = str(photos / "ant" / "000.png")
    with_state = ["--bundle", str(folder), "--state", state]
    assert mobiletl(["predict", *with_state, picture]) == 0
    assert mobiletl(["review", run, "--threads", "1"]) == 0
    capsys.readouterr()
    assert mobiletl(["inspect", *with_state, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["method"]["blocks"] == int(blocks)
    assert [one["blocks"] for one in shown["levels"]] == [0, 1]
    assert shown["levels"][int(blocks)]["planned_bytes"] == shown["memory"]["total_bytes"]
    taught = str(tmp_path / "taught")
    assert mobiletl(["teach", *words, "--blocks", blocks, "--out", taught]) == 0
    assert (
        mobiletl(["train", *words, "--epochs", "1", "--from", taught, "--out", taught + "2"]) == 0
    )
    capsys.readouterr()
    assert trained_at(folder, "taught2") == int(blocks)


def test_flags_are_refused_in_one_line(folder: Path, photos: Path, capsys: Capture) -> None:
    data = ["--bundle", str(folder), "--data", str(photos)]
    for words, said in (
        (
            ["train", *data, "--blocks", "7"],
            "can't be trained at --blocks 7, it has levels of 0, 1",
        ),
        (["train", *data, "--blocks", "-1"], "--blocks is -1, expected at least 0"),
        (["train", *data, "--blocks", "x"], "invalid int value"),
        (["inspect", "--bundle", str(folder), "--blocks", "7"], "it has levels of 0, 1"),
        (["service", *data, "--out", "run", "--blocks", "7"], "it has levels of 0, 1"),
    ):
        assert mobiletl(words) == UsageError.exit_code
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert said in line


def test_inspect_lists_the_levels(folder: Path, capsys: Capture) -> None:
    assert mobiletl(["inspect", "--bundle", str(folder)]) == 0
    text = capsys.readouterr().out
    sizes = [plan(open_bundle(folder).at(n).manifest, 8, 10).total_bytes / 1e6 for n in (0, 1)]
    assert f"levels            0 ({sizes[0]:.1f} MB), 1 ({sizes[1]:.1f} MB) blocks" in text
    assert mobiletl(["inspect", "--bundle", str(folder), "--blocks", "0"]) == 0
    assert "feature map 6 x 2 x 2" in capsys.readouterr().out


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a unit is for Linux")
def test_a_unit_names_the_level_that_it_is_planned_for(
    folder: Path, photos: Path, capsys: Capture
) -> None:
    data = ["--bundle", str(folder), "--data", str(photos), "--out", "run", "--batch", "5"]
    # Pictures that come later may be larger.
    sizes = {"batch": 5, "classes": len(COUNTS), "pictures": sum(COUNTS.values())}
    deep, shallow = (plan(open_bundle(folder).at(n).manifest, **sizes) for n in (1, 0))
    limit = deep.total_bytes - 1
    assert mobiletl(["service", *data, "--max-memory", str(limit)]) == 0
    unit = capsys.readouterr().out
    assert "--blocks 0" in unit
    assert f"MemoryMax is the plan, {shallow.total_bytes / 1e6:.1f} MB" in unit
    assert mobiletl(["service", *data]) == 0
    assert "--blocks 1" in capsys.readouterr().out
