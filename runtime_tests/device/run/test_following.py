"""Runs that follow another one: its classes and its state go on, its pictures are replayed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Mapping

import numpy as np
import pytest
from PIL import Image

from mobiletl.device.bundle.arrays import Tensors
from mobiletl.device.bundle.state_file import load_state
from mobiletl.device.errors import BadPictures, BadState, UsageError
from mobiletl.device.features.replay import memory_path
from mobiletl.device.features.store import FeatureStore
from mobiletl.device.prediction.predictor import open_predictor
from mobiletl.device.run.events import Event, Note, Started
from mobiletl.device.run.listener import Listener
from mobiletl.device.run.options import Former, Options
from mobiletl.device.solving.closed_form import START_SCALE
from runtime_tests.support.board.picture_folders import COLOURS
from runtime_tests.support.board.tiny_bundle import BIAS, MEAN, WEIGHT, write_tiny_bundle
from runtime_tests.support.board.training_workshop import Workshop, assert_same_run

NONE_GONE = "all pictures that the former run kept are still here, so none is replayed"
Renamed = Mapping[str, Any]


class Heard(Listener):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.started: Started | None = None

    def hear(self, event: Event) -> None:
        if isinstance(event, Note):
            self.notes.append(event.text)
        if isinstance(event, Started):
            self.started = event


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """Photos of ant, bee and cat, and a run `first` that has learned them."""
    made = Workshop(tmp_path, monkeypatch)
    made.train(made.options("first", views=2, epochs=4))
    return made


@pytest.fixture
def heard(workshop: Workshop) -> Heard:
    listener = Heard()
    workshop.listeners = [listener]
    return listener


def following(workshop: Workshop, run: str, renamed: Renamed = {}, **given: Any) -> Options:  # noqa: B006
    options = workshop.options(run, **{"views": 2, **given})
    return replace(options, former=Former(workshop.folder / "first", dict(renamed)))


def begun(workshop: Workshop, options: Options) -> Tensors:
    """Return the state that a run takes its first step from."""
    workshop.interrupt(options, "train_step", 1)
    return load_state(options.run / "state.safetensors", workshop.manifest)[0]


def ended(workshop: Workshop, run: str = "first") -> Tensors:
    """Return the state that a run has kept, its classifier as another run begins with it."""
    path = workshop.folder / run / "state.safetensors"
    kept = load_state(path, workshop.manifest)[0]
    return {**kept, **{name: kept[name] * np.float32(START_SCALE) for name in (WEIGHT, BIAS)}}


def remembered(workshop: Workshop, run: str) -> dict[str, int]:
    """How many pictures of each class a run keeps."""
    path = memory_path(workshop.folder / run, workshop.manifest)
    with FeatureStore(path, workshop.manifest) as store:
        pictures = {stored.picture: stored.class_name for stored in store.maps()}
    return {name: list(pictures.values()).count(name) for name in set(pictures.values())}


def computed(workshop: Workshop) -> int:
    assert workshop.session is not None
    return workshop.session.calls.get("features", 0)


def remove(workshop: Workshop, *names: str) -> None:
    for name in names:
        shutil.rmtree(str(workshop.photos / name))


def add(workshop: Workshop, name: str, count: int, colour: int, first: int = 500) -> None:
    """Write pictures of a colour, named from `first` on, to a class folder."""
    noise = np.random.default_rng((first, colour))
    (workshop.photos / name).mkdir(exist_ok=True)
    for number in range(count):
        pixels = np.clip(noise.normal(COLOURS[colour], 60.0, (16, 20, 3)), 0, 255)
        path = workshop.photos / name / f"{first + number}.png"
        Image.fromarray(pixels.astype(np.uint8)).save(path)


def test_the_same_classes_keep_the_state(workshop: Workshop, heard: Heard) -> None:
    tensors = begun(workshop, following(workshop, "second"))
    first = ended(workshop)
    for name in (WEIGHT, BIAS, MEAN):
        np.testing.assert_array_equal(tensors[name], first[name])
    assert heard.started is not None
    assert heard.started.origin == str(workshop.folder / "first" / "state.safetensors")
    assert heard.notes == [NONE_GONE]


def test_ten_more_pictures_are_the_only_ones_computed(workshop: Workshop) -> None:
    before = workshop.train(workshop.options("again", views=2, epochs=4)).dataset
    add(workshop, "ant", 10, 0)
    after = workshop.train(following(workshop, "second", epochs=4)).dataset
    assert len(after.train) + len(after.val) == 31
    old = {picture.path for picture in before.train + before.val}
    validated = {picture.path for picture in before.val}
    # Two views of a new picture, one if it validates; one more of those that validated before.
    of_train = [2 * (p.path not in old) + (p.path in validated) for p in after.train]
    assert computed(workshop) == sum(of_train) + sum(p.path not in old for p in after.val)
    assert computed(workshop) <= 20


def test_nothing_new_is_not_computed_at_all(workshop: Workshop) -> None:
    before = workshop.train(following(workshop, "second", epochs=4)).dataset
    assert computed(workshop) == 0
    # A picture that has another name now is still the same.
    for path in (workshop.photos / "ant").iterdir():
        path.rename(path.with_name(f"moved-{path.name}"))
    after = workshop.train(following(workshop, "third", epochs=4)).dataset
    validated = {picture.path for picture in before.val}
    moved = [p for p in after.train if p.path.replace("moved-", "") in validated]
    assert computed(workshop) == len(moved)


def test_pictures_that_are_gone_are_replayed(workshop: Workshop, heard: Heard) -> None:
    remove(workshop, "ant", "bee")
    outcome = workshop.train(following(workshop, "second", epochs=4))
    assert outcome.dataset.class_names == ("ant", "bee", "cat")
    assert {picture.label for picture in outcome.dataset.train} == {2}
    assert heard.notes == [
        "replayed are pictures that are gone, from feature maps that are kept: "
        "9 of 'ant', 7 of 'bee'"
    ]
    assert workshop.session is not None
    # 7 + 6 that are gone and 4 cats, in batches of 5; 2 + 1 and 1 validate.
    assert workshop.session.batches == [5, 5, 5, 2] * 4
    assert computed(workshop) == 0
    assert outcome.position.latest is not None
    assert outcome.position.latest.class_seen == (2, 1, 1)
    assert remembered(workshop, "second") == {"ant": 9, "bee": 7, "cat": 5}


def test_pictures_that_are_gone_go_on_from_run_to_run(workshop: Workshop) -> None:
    """Photos of one class at a time, as a person without much space would take them."""
    remove(workshop, "ant", "bee", "cat")
    add(workshop, "dog", 6, 3)
    workshop.train(following(workshop, "second", epochs=4))
    remove(workshop, "dog")
    add(workshop, "eel", 6, 4)
    second = Former(workshop.folder / "second")
    outcome = workshop.train(replace(following(workshop, "third", epochs=4), former=second))
    assert outcome.dataset.class_names == ("ant", "bee", "cat", "dog", "eel")
    assert remembered(workshop, "third") == {"ant": 9, "bee": 7, "cat": 5, "dog": 6, "eel": 6}
    assert outcome.position.best is not None
    assert outcome.position.best.score.accuracy >= 0.7


def test_a_run_that_keeps_nothing(workshop: Workshop, heard: Heard) -> None:
    workshop.train(replace(following(workshop, "second"), replay_bytes=0))
    assert not list((workshop.folder / "second").glob("*.store"))
    remove(workshop, "ant")
    second = Former(workshop.folder / "second")
    words = r"of class 'ant' there is neither a picture here nor .*'ant=NEW', or .*--drop 'ant'"
    with pytest.raises(UsageError, match=words):
        workshop.train(replace(following(workshop, "third"), former=second))
    assert not (workshop.folder / "third").exists()
    add(workshop, "ant", 3, 0)
    heard.notes.clear()
    workshop.train(replace(following(workshop, "third"), former=second))
    assert heard.notes == [
        "the former run kept no feature maps, so none of its pictures is replayed"
    ]


def test_a_new_class_grows_the_head(workshop: Workshop) -> None:
    """Solved for on all classes; everything but the classifier goes on."""
    add(workshop, "bat", 6, 3)
    tensors = begun(workshop, following(workshop, "second"))
    first = ended(workshop)
    assert tensors[WEIGHT].shape == (4, 6)
    np.testing.assert_array_equal(tensors[MEAN], first[MEAN])
    outcome = workshop.train(following(workshop, "third", epochs=1))
    assert outcome.dataset.class_names == ("ant", "bat", "bee", "cat")
    assert outcome.position.before is not None
    assert outcome.position.before.accuracy >= 0.8


def test_a_class_that_is_renamed_keeps_the_state(workshop: Workshop, heard: Heard) -> None:
    """Its new name sorts last, so that every row of the classifier moves."""
    (workshop.photos / "ant").rename(workshop.photos / "wasp")
    tensors = begun(workshop, following(workshop, "second", {"ant": "wasp"}))
    first = ended(workshop)
    np.testing.assert_array_equal(tensors[WEIGHT], first[WEIGHT][[1, 2, 0]])
    np.testing.assert_array_equal(tensors[BIAS], first[BIAS][[1, 2, 0]])
    assert heard.notes == [NONE_GONE]


def test_classes_may_swap_their_names(workshop: Workshop) -> None:
    tensors = begun(workshop, following(workshop, "second", {"ant": "bee", "bee": "ant"}))
    np.testing.assert_array_equal(tensors[BIAS], ended(workshop)[BIAS][[1, 0, 2]])


def test_a_class_that_is_renamed_may_be_gone(workshop: Workshop, heard: Heard) -> None:
    remove(workshop, "ant")
    outcome = workshop.train(following(workshop, "second", {"ant": "wasp"}))
    assert outcome.dataset.class_names == ("bee", "cat", "wasp")
    assert heard.notes[0].endswith("that are kept: 9 of 'wasp'")
    assert remembered(workshop, "second") == {"bee": 7, "cat": 5, "wasp": 9}


def test_a_class_that_is_left_out_keeps_the_others_rows(workshop: Workshop) -> None:
    remove(workshop, "bee")
    tensors = begun(workshop, following(workshop, "second", {"bee": None}))
    np.testing.assert_array_equal(tensors[WEIGHT], ended(workshop)[WEIGHT][[0, 2]])
    workshop.train(following(workshop, "third", {"bee": None}))
    assert remembered(workshop, "third") == {"ant": 9, "cat": 5}


@pytest.mark.parametrize(
    ("renamed", "words"),
    [
        ({"ants": "wasp"}, r"has no class 'ants' \(did you mean 'ant'\?\); it has ant, bee, cat"),
        ({"q": None}, r"has no class 'q'; it has ant, bee, cat"),
        ({"ant": "bee"}, "two classes would be called 'bee'"),
        ({"ant": None}, r"'ant' is left out by --drop, but .*photos still has a folder.*move it"),
        ({"ant": "wasp"}, r"'ant' is called 'wasp' by --rename, but .*rename it to 'wasp'"),
    ],
)
def test_names_that_cannot_be_meant(workshop: Workshop, renamed: Renamed, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        workshop.train(following(workshop, "second", renamed))
    assert not (workshop.folder / "second").exists()


def test_one_class_is_not_enough(workshop: Workshop) -> None:
    remove(workshop, "bee", "cat")
    with pytest.raises(UsageError, match="class 'ant' alone would be left"):
        workshop.train(following(workshop, "second", {"bee": None, "cat": None}))


def test_a_folder_without_pictures_is_refused(workshop: Workshop) -> None:
    remove(workshop, "ant", "bee", "cat")
    with pytest.raises(BadPictures, match="needs one or more class folders and has none"):
        workshop.train(following(workshop, "second"))


def test_a_run_of_another_bundle_is_refused(workshop: Workshop) -> None:
    other = write_tiny_bundle(workshop.folder / "other", graphs=False, frozen="6" * 64)
    with pytest.raises(BadState, match="another network than this bundle's"):
        workshop.train(replace(following(workshop, "second"), bundle=other))


def test_a_folder_that_holds_no_run_is_refused(workshop: Workshop) -> None:
    for name in ("photos", "nothing"):
        former = Former(workshop.folder / name)
        with pytest.raises(BadState, match=f"{name} holds no run to go on from"):
            workshop.train(replace(following(workshop, "second"), former=former))


def test_a_run_that_is_resumed_follows_none(workshop: Workshop) -> None:
    with pytest.raises(UsageError, match="resumed has a state already"):
        workshop.train(replace(following(workshop, "first"), resume=True))


@pytest.fixture
def shrunk(workshop: Workshop) -> Workshop:
    """Two of three classes are gone and a new one has come; one of the maps is damaged."""
    remove(workshop, "ant", "bee")
    add(workshop, "dog", 6, 3)
    path = memory_path(workshop.folder / "first", workshop.manifest)
    with FeatureStore(path, workshop.manifest) as store:
        damaged = next(stored for stored in store.maps() if stored.class_name == "ant")
    content = bytearray(path.read_bytes())
    content[damaged.offset + damaged.length - 1] ^= 1
    path.write_bytes(content)
    workshop.train(following(workshop, "whole"))
    return workshop


# 13 that are gone, 4 cats and 5 dogs are five batches.
@pytest.mark.parametrize("step", [1, 4, 5, 6, 11, 15])
def test_it_resumes_to_the_same_bits(shrunk: Workshop, step: int) -> None:
    assert [row["step"] for row in shrunk.metrics("whole")] == [0, 5, 10, 15]
    options = following(shrunk, "stopped")
    shrunk.interrupt(options, "train_step", step)
    shutil.rmtree(str(shrunk.folder / "first"))
    heard = Heard()
    shrunk.listeners = [heard]
    shrunk.train(replace(options, resume=True, given={}, former=None))
    assert heard.notes[0].startswith("replayed are pictures that are gone")
    assert_same_run(shrunk, "whole", "stopped")
    kept = [memory_path(shrunk.folder / run, shrunk.manifest) for run in ("whole", "stopped")]
    assert kept[0].stat().st_size == kept[1].stat().st_size


def test_it_resumes_on_another_runtimes_bits_without_a_cache(shrunk: Workshop) -> None:
    options = replace(following(shrunk, "stopped"), use_cache=False)
    shrunk.interrupt(options, "train_step", 7)
    shrunk.train(replace(options, resume=True, given={}, former=None))
    assert_same_run(shrunk, "whole", "stopped")


def test_a_stop_before_the_first_save_can_be_begun_again(shrunk: Workshop) -> None:
    options = following(shrunk, "stopped")
    shrunk.interrupt(options, "embed", 2)
    shrunk.train(options)
    assert_same_run(shrunk, "whole", "stopped")


def blurred(root: Path, classes: Mapping[str, int], seed: int) -> Path:
    """Write pictures whose colour tells the class badly: many are needed to learn it."""
    noise = np.random.default_rng(seed)
    centres = {"ant": (140, 100, 100), "bee": (100, 140, 100), "cat": (100, 100, 140)}
    centres["dog"] = (140, 140, 140)
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            colour = np.clip(noise.normal(centres[name], 18.0), 0, 255)
            pixels = np.full((16, 20, 3), colour).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number:03}.png")
    return root


def test_replay_keeps_old_classes_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ants and bees two pictures each are left when cats and dogs come. Where training is kept
    whatever comes of it, what is known of the former 30 each makes the difference on pictures that
    no run has seen.
    """
    workshop = Workshop(tmp_path, monkeypatch)
    settings = {
        "epochs": 20,
        "batch": 8,
        "lr": 0.2,
        "views": 1,
        "augment": False,
        "start": "random",
    }
    workshop.photos = blurred(tmp_path / "before", {"ant": 30, "bee": 30}, 1)
    workshop.train(workshop.options("first", **settings))
    workshop.photos = blurred(tmp_path / "after", {"cat": 30, "dog": 30}, 2)
    for name in ("ant", "bee"):
        (workshop.photos / name).mkdir()
        for path in sorted((tmp_path / "before" / name).iterdir())[:2]:
            shutil.copy2(str(path), str(workshop.photos / name))
    options = replace(workshop.options("replay", **settings), former=Former(tmp_path / "first"))
    workshop.train(options)
    memory_path(tmp_path / "first", workshop.manifest).unlink()
    workshop.train(replace(options, run=tmp_path / "forgetful"))
    unseen = blurred(tmp_path / "unseen", dict.fromkeys(("ant", "bee", "cat", "dog"), 40), 3)
    replayed, forgetful = (recall(workshop, run, unseen) for run in ("replay", "forgetful"))
    assert replayed["ant"] + replayed["bee"] > forgetful["ant"] + forgetful["bee"] + 0.2
    assert sum(replayed.values()) > sum(forgetful.values())


def recall(workshop: Workshop, run: str, pictures: Path) -> dict[str, float]:
    """Share of each class's pictures that a run's best state names."""
    state = workshop.folder / run / "state.safetensors"
    with open_predictor(workshop.folder / "bundle", state, runtime="fake") as predictor:
        return {
            folder.name: float(
                np.mean([predictor.predict(p).label == folder.name for p in folder.iterdir()])
            )
            for folder in pictures.iterdir()
        }
