"""A predictor that is opened once: any source of pictures, many frames, another state."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.bundle.decode import UnreadablePicture
from mobiletl.device.bundle.frame import Frame
from mobiletl.device.bundle.state_file import load_state
from mobiletl.device.errors import BadState, UsageError
from mobiletl.device.prediction.predictor import open_predictor
from mobiletl.device.run.library import train
from mobiletl.device.run.start import Start, bundle_start, state_start
from runtime_tests.support.board.picture_folders import write_pictures
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle


class Trained:
    def __init__(self, folder: Path) -> None:
        self.bundle: Bundle = open_bundle(write_tiny_bundle(folder / "bundle"))
        self.photos = write_pictures(folder / "photos", {"ant": 8, "bee": 8, "cat": 8})
        outcome = train(
            self.bundle.path, self.photos, folder / "run", epochs=12, augment=False, seed=0
        )
        self.state = outcome.folder.best


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("trained"))


def test_every_source_gets_the_same_answer(trained: Trained) -> None:
    path = trained.photos / "bee" / "001.png"
    with open_predictor(trained.bundle.path, trained.state) as predictor:
        answers = [
            predictor.predict(source)
            for source in (
                path,
                str(path),
                path.read_bytes(),
                np.asarray(Image.open(path).convert("RGB")),
                Frame("named", path),
            )
        ]
    assert {(a.labels, a.probabilities) for a in answers} == {
        (answers[0].labels, answers[0].probabilities)
    }
    assert [a.name for a in answers] == [str(path), str(path), "frame", "frame", "named"]
    first = answers[0]
    assert first.label == "bee" == first.labels[0]
    assert first.probability == first.probabilities[0] == max(first.probabilities)
    assert sum(first.probabilities) == pytest.approx(1.0)


def test_opened_once_it_answers_many_frames(trained: Trained) -> None:
    right = 0
    with open_predictor(trained.bundle, trained.state) as predictor:
        assert predictor.class_names == ("ant", "bee", "cat")
        for path in sorted(trained.photos.rglob("*.png")):
            right += predictor.predict(path).label == path.parent.name
        with pytest.raises(UnreadablePicture):
            predictor.predict(b"no picture")
        assert predictor.predict(path).label  # a bad frame costs nothing
    assert right >= 20


def test_another_state_is_loaded_without_opening_anew(trained: Trained, tmp_path: Path) -> None:
    path = trained.photos / "cat" / "000.png"
    fresh = bundle_start(trained.bundle, ("ant", "bee", "cat"), seed=3)
    with open_predictor(trained.bundle, fresh) as predictor:
        before = predictor.predict(path)
        predictor.load(trained.state)
        after = predictor.predict(path)
    with open_predictor(trained.bundle, trained.state) as predictor:
        assert predictor.predict(path) == after != before


def test_a_state_loaded_later_may_call_its_classes_otherwise(trained: Trained) -> None:
    path = trained.photos / "ant" / "000.png"
    start = state_start(trained.state, trained.bundle)
    renamed = Start(start.tensors, ("x", "y", "z"), "a test")
    with open_predictor(trained.bundle, start) as predictor:
        former = predictor.predict(path)
        predictor.load(renamed)
        found = predictor.predict(path)
    assert found.probabilities == former.probabilities
    names = dict(zip(("ant", "bee", "cat"), ("x", "y", "z")))
    assert found.labels == tuple(names[label] for label in former.labels)


def test_a_state_of_more_classes_does_not_fit(trained: Trained) -> None:
    other = bundle_start(trained.bundle, ("a", "b", "c", "d"), seed=0)
    path = trained.photos / "ant" / "000.png"
    with open_predictor(trained.bundle, trained.state) as predictor:
        former = predictor.predict(path)
        with pytest.raises(BadState, match="does not fit this session"):
            predictor.load(other)
        assert predictor.predict(path) == former


def test_names_must_be_as_many_as_the_rows_of_the_state(trained: Trained) -> None:
    tensors, _ = load_state(trained.state, trained.bundle.manifest)
    short = Start(tensors, ("ant", "bee"), "a test")
    with pytest.raises(BadState, match="a test"):
        open_predictor(trained.bundle, short)
    with open_predictor(trained.bundle, trained.state) as predictor:
        with pytest.raises(BadState, match="a test"):
            predictor.load(short)
        assert predictor.class_names == ("ant", "bee", "cat")


def test_wrong_arguments(trained: Trained) -> None:
    with pytest.raises(UsageError, match="threads is -1"):
        open_predictor(trained.bundle, trained.state, threads=-1)
    with pytest.raises(BadState):
        open_predictor(trained.bundle, trained.state.parent / "none")
    tensors, info = load_state(trained.state, trained.bundle.manifest)
    assert info.class_names == ("ant", "bee", "cat")
    broken = Start({**tensors, "more": np.zeros(1, np.float32)}, info.class_names, "a test")
    with pytest.raises(BadState, match="more is unknown"):
        open_predictor(trained.bundle, broken)


@pytest.mark.parametrize(
    ("runtime", "threads", "expected"),
    [("onnxruntime", 2, 2), ("onnxruntime", 1, 1), ("fake", 2, 1)],
)
def test_only_what_can_and_has_the_threads_looks_at_two_at_once(
    trained: Trained, runtime: str, threads: int, expected: int
) -> None:
    with open_predictor(
        trained.bundle.path, trained.state, threads, runtime, at_once=2
    ) as predictor:
        assert predictor.at_once == expected


def test_two_at_once_ask_for_no_more_threads_than_one(trained: Trained) -> None:
    with pytest.raises(UsageError, match="65 threads are asked for, expected at most 64"):
        open_predictor(trained.bundle.path, trained.state, 65, at_once=2)


def test_two_threads_get_what_one_gets(trained: Trained) -> None:
    side = trained.bundle.manifest.input.resolution
    images = np.random.default_rng(0).standard_normal((40, 1, 3, side, side)).astype(np.float32)
    with open_predictor(trained.bundle.path, trained.state, 2, at_once=2) as predictor:
        alone = [predictor.look(image).probabilities for image in images]
        with ThreadPoolExecutor(2) as pool:
            together = [v.probabilities for v in pool.map(predictor.look, images)]
    np.testing.assert_array_equal(together, alone)
