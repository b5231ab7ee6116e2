"""What a state file says of its own answers; files from before say nothing of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mobiletl.device.bundle.answers import CENTRE, Answers, Unknown, answers_of
from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.bundle.state_file import StateInfo, load_state, open_state, save_state
from mobiletl.device.errors import BadState
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle

NAMES = ("ant", "bee")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return open_bundle(write_tiny_bundle(tmp_path / "bundle"))


def answers(width: int, threshold: float = -1.5) -> Answers:
    unknown = Unknown(
        threshold=threshold,
        acceptance=0.95,
        accepted=0.96,
        weight=20.0,
        centre=np.arange(width, dtype=np.float32),
        directions=np.eye(2, width, dtype=np.float32),
    )
    return Answers(1.3, 40, 0.02, unknown)


def written(bundle: Bundle, path: Path, found: Answers | None) -> Path:
    info = StateInfo(bundle.manifest.fit, NAMES, epoch=1, step=2, seed=0, answers=found)
    save_state(path, bundle.initial_state(2, 0), info)
    return path


def test_they_come_back_and_are_no_part_of_the_state(bundle: Bundle, tmp_path: Path) -> None:
    found = answers(bundle.manifest.embedding.size)
    path = written(bundle, tmp_path / "state.safetensors", found)
    tensors, info = load_state(path, bundle.manifest)
    assert list(tensors) == [entry.name for entry in bundle.manifest.state]
    assert info.answers == found
    assert info.answers != answers(bundle.manifest.embedding.size, 0.0)
    assert len({found, info.answers}) == 1
    stored, _ = open_state(path, bundle.manifest)
    with stored:
        assert CENTRE not in stored


def test_without_a_threshold_there_is_no_array(bundle: Bundle, tmp_path: Path) -> None:
    found = Answers(0.9, 3, 0.1, None)
    path = written(bundle, tmp_path / "state.safetensors", found)
    assert b"answers.centre" not in path.read_bytes()
    assert load_state(path, bundle.manifest)[1].answers == found


def test_states_from_before_have_none(bundle: Bundle, tmp_path: Path) -> None:
    path = written(bundle, tmp_path / "state.safetensors", None)
    assert b"answers" not in path.read_bytes()
    assert load_state(path, bundle.manifest)[1].answers is None


def test_arrays_that_fail_to_match_are_damage(bundle: Bundle, tmp_path: Path) -> None:
    broken = answers(bundle.manifest.embedding.size)
    assert broken.unknown is not None
    object.__setattr__(broken.unknown, "centre", np.zeros(3, np.float32))
    path = written(bundle, tmp_path / "state.safetensors", broken)
    with pytest.raises(BadState, match=r"answers\.directions: expected"):
        load_state(path, bundle.manifest)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"temperature": 0}, "answers.temperature: expected a number > 0"),
        ({"unknown": {}}, "answers.unknown.threshold: missing"),
        ({"pictures": -1}, "answers.pictures: expected an integer"),
        ({"chance_error": -0.1}, "answers.chance_error: expected a number"),
    ],
)
def test_every_number_is_checked(change: dict[str, object], problem: str) -> None:
    problems: list[str] = []
    document = {**json.loads(json.dumps(answers(4).document())), **change}
    assert answers_of(document, answers(4).tensors(), problems) is None
    assert any(problem in one for one in problems), problems


def test_what_chance_alone_makes_is_kept_and_may_be_missing() -> None:
    document = Answers(1.0, 12, 0.2, None, chance_error=0.17).document()
    found = answers_of(json.loads(json.dumps(document)), {}, [])
    assert found is not None
    assert found.chance_error == 0.17
    del document["chance_error"]
    before = answers_of(document, {}, [])
    assert before == Answers(1.0, 12, 0.2, None)


def test_missing_arrays_are_named() -> None:
    problems: list[str] = []
    assert answers_of(answers(4).document(), {}, problems) is None
    assert "answers.centre: missing" in problems
