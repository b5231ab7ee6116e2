"""Whole runs: resumed bit for bit from any step, with and without a cache of feature maps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mobiletl.device.bundle import state_file
from mobiletl.device.bundle.state_file import load_state
from mobiletl.device.errors import BadState, UsageError
from mobiletl.device.features.store import FeatureStore, store_path
from mobiletl.device.run import opening
from mobiletl.device.run.events_file import read_events
from runtime_tests.support.board.picture_folders import damage
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle
from runtime_tests.support.board.training_workshop import SETTINGS, STEPS, Workshop, assert_same_run


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    return Workshop(tmp_path, monkeypatch)


@pytest.mark.parametrize("augment", [True, False])
@pytest.mark.parametrize("step", range(1, 3 * STEPS + 1))
def test_resume_from_any_step(workshop: Workshop, step: int, augment: bool) -> None:
    workshop.train(workshop.options("whole", augment=augment))
    options = workshop.options("stopped", augment=augment)
    workshop.interrupt(options, "train_step", step)
    _, info = load_state(options.run / "last.safetensors", workshop.bundle.manifest)
    assert info.step == step
    workshop.train(replace(options, resume=True, given={}))
    assert_same_run(workshop, "whole", "stopped")


# An evaluation is two calls of `embed` here (4 pictures, batches of 2): before training and after
# each epoch. Stopped in it, the run evaluates again when resumed. Solving for the head takes nine.
@pytest.mark.parametrize("evaluation", [1, 2, 4])
def test_resume_from_an_evaluation(workshop: Workshop, evaluation: int) -> None:
    workshop.train(workshop.options("whole", batch=2))
    options = workshop.options("stopped", batch=2)
    workshop.interrupt(options, "embed", 9 + 2 * evaluation - 1)
    workshop.train(replace(options, resume=True, given={}))
    assert_same_run(workshop, "whole", "stopped")


def test_resume_again_and_again(workshop: Workshop) -> None:
    workshop.train(workshop.options("whole"))
    options = workshop.options("stopped")
    workshop.interrupt(options, "train_step", 1)
    for _ in range(3 * STEPS - 1):
        workshop.interrupt(replace(options, resume=True, given={}), "train_step", 1)
    workshop.train(replace(options, resume=True, given={}))
    assert_same_run(workshop, "whole", "stopped")


def test_resume_with_the_real_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workshop = Workshop(tmp_path, monkeypatch, graphs=True)
    workshop.train(workshop.options("whole", runtime="onnxruntime"))
    options = workshop.options("stopped", runtime="onnxruntime")
    for step in (2, 3, 4):
        workshop.interrupt(replace(options, resume=step > 2), "train_step", step)
    workshop.train(replace(options, resume=True, given={}))
    assert_same_run(workshop, "whole", "stopped")


def test_resume_after_a_crash_repeats_from_the_last_save(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop.train(workshop.options("whole"))
    options = replace(workshop.options("stopped"), save_every=3)

    def crash(name: str, number: int) -> None:
        if (name, number) == ("train_step", 2 * STEPS):
            raise RuntimeError("power cut")

    workshop.on_call = crash
    with pytest.raises(RuntimeError, match="power cut"):
        workshop.train(options)
    workshop.on_call = lambda name, number: None
    _, info = load_state(options.run / "last.safetensors", workshop.bundle.manifest)
    assert info.step == 6
    workshop.train(replace(options, resume=True, given={}))
    assert_same_run(workshop, "whole", "stopped")


def test_crash_between_the_metrics_and_the_save(workshop: Workshop) -> None:
    workshop.train(workshop.options("whole"))
    options = replace(workshop.options("stopped"), save_every=3)

    def crash(name: str, number: int) -> None:
        # Asked for before: to put the head in, and to save the start as last and as best, step 3,
        # and epoch 1 as the best.
        if (name, number) == ("state", 6):
            raise RuntimeError("power cut")

    workshop.on_call = crash
    with pytest.raises(RuntimeError, match="power cut"):
        workshop.train(options)
    workshop.on_call = lambda name, number: None
    assert [row["epoch"] for row in workshop.metrics("stopped")] == [0, 1]
    workshop.train(replace(options, resume=True, given={}))
    assert_same_run(workshop, "whole", "stopped")


def test_resume_of_a_finished_run_changes_nothing(workshop: Workshop) -> None:
    options = workshop.options("run")
    first = workshop.train(options)
    files = workshop.files("run")
    second = workshop.train(replace(options, resume=True, given={}))
    assert second.position == first.position
    assert workshop.files("run") == files
    assert len(workshop.metrics("run")) == 4


def test_cache_or_none_ends_in_the_same_bits(workshop: Workshop) -> None:
    workshop.train(workshop.options("cached", augment=False))
    assert workshop.session is not None
    # Every picture goes through the prefix once, 17 to train on and 4 to validate on.
    assert workshop.session.calls["features"] == 21
    assert not list((workshop.folder / "cached").glob("maps-*"))
    workshop.train(replace(workshop.options("live", augment=False), use_cache=False))
    # To solve for the head, in three epochs and four evaluations.
    trained = 17 + 3 * 17 + 4 * 4
    # Two networks each get a head, judged by two looks; the one that is kept is scored.
    judged = 2 * (17 + 2 * 4) + 4
    # Both parts say what is unknown, and give the head that is kept.
    assert workshop.session.calls["features"] == trained + judged + 2 * (17 + 4)
    assert_same_run(workshop, "cached", "live")
    assert not list((workshop.folder / "live").glob("*.store"))


@pytest.mark.parametrize("views", [0, 2, 6])
def test_cache_or_none_ends_in_the_same_bits_whatever_the_views(
    workshop: Workshop, views: int
) -> None:
    workshop.train(workshop.options("cached", views=views, epochs=7))
    workshop.train(replace(workshop.options("live", views=views, epochs=7), use_cache=False))
    assert_same_run(workshop, "cached", "live")


def test_a_cache_of_ones_own_is_kept_and_used_again(workshop: Workshop) -> None:
    kept = workshop.folder / "cache"
    workshop.train(replace(workshop.options("one", augment=False), cache=kept))
    assert [file.name for file in kept.iterdir()] == [store_path(kept, workshop.manifest).name]
    workshop.train(replace(workshop.options("two", augment=False), cache=kept))
    assert workshop.session is not None
    assert "features" not in workshop.session.calls
    assert_same_run(workshop, "one", "two")


def test_maps_of_other_pictures_from_elsewhere_are_noticed(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sound records, each with the map of another picture, in a file of another machine."""
    kept = workshop.folder / "cache"
    workshop.train(replace(workshop.options("one", augment=False), cache=kept))
    path = store_path(kept, workshop.manifest)
    with FeatureStore(path, workshop.manifest) as store:
        maps = list(store.maps())
        path.rename(kept / "sound")
        with FeatureStore(path, workshop.manifest) as swapped:
            for stored, other in zip(maps, maps[1:] + maps[:1]):
                content = store._data(other.offset, other.length)
                assert content is not None
                swapped.add(stored.picture, stored.view, stored.class_name, content)
    monkeypatch.setenv("XDG_STATE_HOME", str(workshop.folder / "another machine"))
    with pytest.raises(BadState, match=r"are not those of these pictures.*remove that file"):
        workshop.train(replace(workshop.options("two", augment=False), cache=kept))
    (kept / "sound").replace(path)
    workshop.train(replace(workshop.options("three", augment=False), cache=kept))
    assert_same_run(workshop, "one", "three")


def test_every_view_of_a_picture_is_computed_once(workshop: Workshop) -> None:
    """17 pictures to train on and 4 to judge by, in three views each, however many epochs."""
    workshop.train(workshop.options("run", views=3, epochs=9))
    assert workshop.session is not None
    assert workshop.session.calls["features"] == 3 * 17 + 3 * 4


def test_fresh_crops_are_kept_nowhere(workshop: Workshop) -> None:
    kept = workshop.folder / "cache"
    workshop.train(replace(workshop.options("run", views=0, epochs=2), cache=kept))
    assert workshop.session is not None
    # Heads, of the start, of two networks and of the one that is kept, and what is unknown, come of
    # central crops.
    assert workshop.session.calls["features"] == 17 + 2 * 17 + 6 * 4 + 4 * 17
    with FeatureStore(store_path(kept, workshop.manifest), workshop.manifest) as store:
        assert sorted(stored.view for stored in store.maps()) == sorted([*range(6)] * 4)


def test_another_seed_sees_the_same_views(workshop: Workshop) -> None:
    """Only the split is drawn otherwise: of every picture there are all views."""
    kept = workshop.folder / "cache"
    first = workshop.train(replace(workshop.options("one", views=2, epochs=2), cache=kept))
    given = {"views": 2, "epochs": 2, "seed": 7}
    second = workshop.train(replace(workshop.options("two", **given), cache=kept))
    assert workshop.session is not None
    assert {p.path for p in first.dataset.val} != {p.path for p in second.dataset.val}
    assert "features" not in workshop.session.calls


def test_stop_while_the_head_is_solved_for_loses_no_map(workshop: Workshop) -> None:
    options = workshop.options("run", augment=False)
    workshop.interrupt(options, "features", 3)
    store = store_path(workshop.folder / "run", workshop.manifest)
    kept = {file.name for file in (workshop.folder / "run").iterdir()}
    told = {"events.jsonl", "metrics.jsonl", "pictures.jsonl"}
    assert kept == {*told, store.name}  # told, not trained
    workshop.train(options)
    assert workshop.session is not None
    # The batch of five under way was still computed.
    assert workshop.session.calls["features"] == 21 - 5


def test_late_failures_end_in_the_same_bits_however_found(workshop: Workshop) -> None:
    for name in ("000", "001", "002", "003"):
        damage(workshop.photos / "ant" / f"{name}.png")
    workshop.train(workshop.options("cached", augment=False))
    workshop.train(replace(workshop.options("live", augment=False), use_cache=False))
    assert_same_run(workshop, "cached", "live")
    options = replace(workshop.options("stopped", augment=False), use_cache=False)
    workshop.interrupt(options, "train_step", 6)
    workshop.train(replace(options, resume=True, given={}))
    assert_same_run(workshop, "cached", "stopped")


def test_resume_refuses_what_has_changed(workshop: Workshop) -> None:
    options = workshop.options("run")
    workshop.interrupt(options, "train_step", 2)
    changed = replace(options, resume=True, given={**SETTINGS, "lr": 0.2, "epochs": 9})
    with pytest.raises(UsageError) as caught:
        workshop.train(changed)
    assert "--epochs (3 then, 9 now), --lr (0.3 then, 0.2 now)" in str(caught.value)
    assert "pictures" not in str(caught.value)


def test_resume_refuses_other_pictures(workshop: Workshop) -> None:
    options = workshop.options("run")
    workshop.interrupt(options, "train_step", 2)
    (workshop.photos / "ant").rename(workshop.photos / "aphid")
    with pytest.raises(UsageError, match="otherwise: the pictures, the class names;"):
        workshop.train(replace(options, resume=True))


def test_resume_refuses_another_bundle(workshop: Workshop) -> None:
    options = workshop.options("run")
    workshop.interrupt(options, "train_step", 2)
    other = write_tiny_bundle(workshop.folder / "other", graphs=False, frozen="6" * 64)
    with pytest.raises(BadState, match="trained with another network than this bundle's"):
        workshop.train(replace(options, resume=True, bundle=other))


def test_resume_goes_on_with_the_bundle_of_a_later_release(workshop: Workshop) -> None:
    workshop.train(workshop.options("whole"))
    options = workshop.options("stopped")
    workshop.interrupt(options, "train_step", 2)
    later = workshop.folder / "later"
    later.mkdir()
    (later / "runner.py").write_text("changed")
    write_tiny_bundle(later, graphs=False, created_by="mobiletl 9.9")
    workshop.train(replace(options, resume=True, given={}, bundle=later))
    assert_same_run(workshop, "whole", "stopped")


def test_resume_needs_a_place(workshop: Workshop) -> None:
    with pytest.raises(BadState, match="holds no run to resume"):
        workshop.train(replace(workshop.options("none"), resume=True))


def test_a_state_without_a_place_is_refused(workshop: Workshop) -> None:
    options = workshop.options("run")
    workshop.train(options)
    manifest = workshop.bundle.manifest
    for name in ("last.safetensors", "state.safetensors"):
        tensors, info = load_state(options.run / name, manifest)
        state_file.save_state(options.run / name, tensors, replace(info, settings={}))
    with pytest.raises(BadState, match="no place to resume from"):
        workshop.train(replace(options, resume=True))


def test_resume_on_another_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workshop = Workshop(tmp_path, monkeypatch, graphs=True)
    options = workshop.options("moved", runtime="onnxruntime")
    workshop.interrupt(options, "train_step", STEPS + 1)
    assert "note" not in [event["event"] for event in read_events(options.run / "events.jsonl")]
    moved = workshop.train(replace(options, resume=True, given={"runtime": "fake"}))
    events = read_events(options.run / "events.jsonl")
    (note,) = [event["text"] for event in events if event["event"] == "note"]
    assert "goes on on fake, where it was on onnxruntime" in note
    assert moved.settings.runtime == "fake"
    assert moved.position.step == 3 * STEPS


def test_a_static_batch_is_made_up_by_repetition(workshop: Workshop) -> None:
    """Two pictures repeated six times have the mean loss of the two, so the run is the same."""
    given = {"batch": 12, "val_split": 0.3}
    dynamic = workshop.train(workshop.options("dynamic", **given))
    assert len(dynamic.dataset.train) == 14
    workshop.static_batch = 12
    workshop.train(workshop.options("static", **given))
    assert workshop.session is not None
    assert set(workshop.session.batches) == {12}
    manifest = workshop.bundle.manifest
    expected, info = load_state(dynamic.folder.last, manifest)
    found, repeated = load_state(workshop.folder / "static" / "last.safetensors", manifest)
    for name, tensor in expected.items():
        np.testing.assert_allclose(found[name], tensor, rtol=1e-4, atol=1e-6)
    assert repeated.step == info.step
    assert [row["train_accuracy"] for row in workshop.metrics("static")] == [
        row["train_accuracy"] for row in workshop.metrics("dynamic")
    ]


def test_a_batch_the_runtime_does_not_take(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "static_batch", lambda bundle, row: 4)
    with pytest.raises(UsageError, match=r"exported for batches of 4 on fake, not 5; .*--batch 5"):
        workshop.train(workshop.options("run"))
    options = workshop.options("run")
    unnamed = {name: value for name, value in options.given.items() if name != "batch"}
    assert workshop.train(replace(options, given=unnamed)).settings.batch == 4


def test_a_finished_run_that_is_resumed_looks_at_nothing(workshop: Workshop) -> None:
    workshop.train(workshop.options("run"))
    before = workshop.files("run")
    workshop.train(replace(workshop.options("run"), resume=True))
    assert workshop.session is not None
    assert not {"features", "embed", "train_step"} & set(workshop.session.calls)
    assert workshop.files("run") == before
