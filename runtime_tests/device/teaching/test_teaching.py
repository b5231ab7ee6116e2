"""`teach`: what it solves for, what it saves, what it says, and pictures that come one by one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mobiletl.device import teach as command
from mobiletl.device.bundle.frame import frame_of
from mobiletl.device.bundle.prepare import prepare
from mobiletl.device.bundle.state_file import load_state
from mobiletl.device.errors import BadPictures, UsageError
from mobiletl.device.heads.ridge import fit_ridge
from mobiletl.device.heads.unknown import SOLVED_WEIGHT
from mobiletl.device.pictures.dataset import files_below
from mobiletl.device.prediction.predictor import open_predictor
from mobiletl.device.run.former import Former
from mobiletl.device.run.options import Options
from mobiletl.device.run.stop import StopFlag, StopRequested
from mobiletl.device.sessions.runtimes import open_session
from mobiletl.device.teaching import folder
from mobiletl.device.teaching.folder import Taught, teach
from mobiletl.device.teaching.teacher import Teacher
from runtime_tests.support.board.training_workshop import COUNTS, Workshop

NAMES = tuple(sorted(COUNTS))


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    made = Workshop(tmp_path, monkeypatch)
    monkeypatch.setattr(folder, "open_session", made._open)
    return made


def options(workshop: Workshop, run: str, **others: object) -> Options:
    given = {"runtime": "fake"}
    base = Options(workshop.bundle.path, workshop.photos, workshop.folder / run, False, given)
    return replace(base, threads=1, **others)  # type: ignore[arg-type]


def embeddings(workshop: Workshop) -> tuple[np.ndarray, np.ndarray]:
    """Of all pictures, in the order of their paths, computed without `teach`."""
    manifest, rows, labels = workshop.manifest, [], []
    state = workshop.bundle.initial_state(len(NAMES), 0)
    session = open_session(workshop.bundle, len(NAMES), state, 1, "fake")
    for label, name in enumerate(NAMES):
        for path in files_below(workshop.photos / name):
            image = prepare(frame_of(path), manifest.input)[None]
            rows.append(session.embed(session.features(image)).embeddings[0])
            labels.append(label)
    return np.stack(rows), np.array(labels)


def accuracy(workshop: Workshop, taught: Taught) -> float:
    right = []
    with open_predictor(workshop.bundle, taught.folder.best, 1, "fake") as predictor:
        for name in NAMES:
            right += [
                predictor.predict(p).label == name for p in files_below(workshop.photos / name)
            ]
    return float(np.mean(right))


def test_every_picture_is_solved_for_and_held_out_in_turn(workshop: Workshop) -> None:
    taught = teach(options(workshop, "run"))
    assert taught.pictures == sum(COUNTS.values())
    assert taught.held_out.class_seen == tuple(COUNTS[name] for name in NAMES)
    assert taught.validation is None
    x, labels = embeddings(workshop)
    fit = fit_ridge(x, labels, len(NAMES))
    state, info = load_state(taught.folder.best, workshop.manifest)
    assert workshop.manifest.classifier is not None
    weight, bias = workshop.manifest.classifier
    # Maps go through 8 bits.
    scale = np.abs(fit.head.weight).max()
    np.testing.assert_allclose(state[weight], fit.head.weight, atol=0.05 * scale, rtol=0)
    assert np.isfinite(state[bias]).all()
    right = int((fit.held_out.argmax(1) == labels).sum())
    assert abs(sum(taught.held_out.class_correct) - right) <= 1
    assert info.class_names == NAMES
    assert (info.epoch, info.step) == (0, 0)


def test_each_picture_goes_through_the_prefix_once(workshop: Workshop) -> None:
    teach(options(workshop, "run"))
    assert workshop.session is not None
    assert workshop.session.calls["features"] == sum(COUNTS.values())


def test_the_state_predicts(workshop: Workshop) -> None:
    taught = teach(options(workshop, "run"))
    assert accuracy(workshop, taught) >= 0.9


def test_the_state_knows_how_sure_it_is(workshop: Workshop) -> None:
    taught = teach(options(workshop, "run"))
    _, info = load_state(taught.folder.best, workshop.manifest)
    assert info.answers is not None
    assert info.answers.temperature == 1.0
    assert info.answers.pictures == taught.pictures
    assert info.answers.unknown is not None
    assert info.answers.unknown.accepted >= 0.8


def test_a_validation_folder_is_scored_and_not_solved_for(workshop: Workshop) -> None:
    split = workshop.folder / "split"
    for name in NAMES:
        for number, path in enumerate(files_below(workshop.photos / name)):
            target = split / ("val" if number < 3 else "train") / name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    taught = teach(replace(options(workshop, "run"), data=split))
    assert taught.pictures == sum(COUNTS.values()) - 9
    assert taught.validation is not None
    assert taught.validation.class_seen == (3, 3, 3)
    _, info = load_state(taught.folder.best, workshop.manifest)
    assert info.answers is not None
    assert info.answers.pictures == 9
    assert info.answers.temperature != 1.0
    assert info.answers.unknown is not None
    assert info.answers.unknown.weight == SOLVED_WEIGHT


def test_a_small_validation_folder_leaves_all_to_those_held_out(workshop: Workshop) -> None:
    split = workshop.folder / "split"
    for name in NAMES:
        for number, path in enumerate(files_below(workshop.photos / name)):
            target = split / ("train" if number else "val") / name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    taught = teach(replace(options(workshop, "run"), data=split))
    _, info = load_state(taught.folder.best, workshop.manifest)
    assert info.answers is not None
    assert info.answers.temperature == 1.0
    assert info.answers.pictures == taught.pictures == sum(COUNTS.values()) - 3


def test_a_new_class_looks_at_its_own_pictures_alone(workshop: Workshop) -> None:
    first = teach(options(workshop, "first"))
    only = workshop.folder / "only" / "dog"
    only.mkdir(parents=True)
    for path in files_below(workshop.photos / "ant"):
        (only / path.name).write_bytes(path.read_bytes() + b" ")
    former = Former(first.folder.path)
    more = replace(options(workshop, "more", former=former), data=workshop.folder / "only")
    taught = teach(more)
    assert workshop.session is not None
    assert workshop.session.calls["features"] == COUNTS["ant"]
    assert taught.opened.dataset.class_names == (*NAMES, "dog")
    assert taught.pictures == sum(COUNTS.values()) + COUNTS["ant"]


def test_training_from_it_solves_for_a_smaller_classifier(workshop: Workshop) -> None:
    first = teach(options(workshop, "first"))
    following = replace(workshop.options("trained"), former=Former(first.folder.path))
    plain = workshop.train(workshop.options("plain"))
    outcome = workshop.train(following)
    assert outcome.position.before is not None
    assert plain.position.before is not None
    # The same classifier, made as small; at its calibrated size the loss is another.
    assert outcome.position.before.loss == pytest.approx(plain.position.before.loss, rel=0.02)
    assert taught_loss(workshop, first) < 0.9 * outcome.position.before.loss


def taught_loss(workshop: Workshop, taught: Taught) -> float:
    """Mean cross-entropy of all pictures by what `teach` saved."""
    losses = []
    with open_predictor(workshop.bundle, taught.folder.best, 1, "fake") as predictor:
        for name in NAMES:
            for path in files_below(workshop.photos / name):
                found = predictor.predict(path)
                losses.append(-np.log(found.probabilities[found.labels.index(name)]))
    return float(np.mean(losses))


def test_a_stop_saves_nothing(workshop: Workshop) -> None:
    stop = StopFlag()
    stop.request()
    with pytest.raises(StopRequested):
        teach(options(workshop, "run"), stop=stop)
    assert not (workshop.folder / "run" / "state.safetensors").exists()


def test_another_run_is_not_written_over(workshop: Workshop) -> None:
    teach(options(workshop, "run"))
    with pytest.raises(UsageError, match="holds a run already"):
        teach(options(workshop, "run"))


def test_the_command_and_its_json(workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--bundle", str(workshop.bundle.path), "--data", str(workshop.photos)]
    flags += ["--runtime", "fake", "--threads", "1"]
    assert command.main([*flags, "--out", str(workshop.folder / "one")]) == 0
    said = capsys.readouterr().out
    assert f"3 classes, {sum(COUNTS.values())} pictures" in said
    assert "each held out in turn" in said
    state, picture = workshop.folder / "one" / "state.safetensors", said.split()[-1]
    assert said.rstrip().endswith(f"--state {state} {picture}")
    assert Path(picture).is_file()
    assert command.main([*flags, "--json", "--out", str(workshop.folder / "two")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["classes"] == list(NAMES)
    assert found["pictures"] == sum(COUNTS.values())
    assert 0.5 < found["held_out"]["accuracy"] <= 1
    assert found["validation"] is None
    assert Path(found["state"]).is_file()


def test_pictures_one_by_one_give_what_a_folder_gives(workshop: Workshop) -> None:
    with Teacher(workshop.bundle, 1, "fake") as teacher:
        for name in NAMES:
            for path in files_below(workshop.photos / name):
                teacher.add(path, name)
        start = teacher.solve()
        assert teacher.counts() == COUNTS
    x, labels = embeddings(workshop)
    fit = fit_ridge(x, labels, len(NAMES))
    assert workshop.manifest.classifier is not None
    weight, _ = workshop.manifest.classifier
    np.testing.assert_allclose(start.tensors[weight], fit.head.weight, rtol=1e-4, atol=1e-5)
    assert start.class_names == NAMES


def test_what_is_taught_one_by_one_is_as_sure_as_what_a_folder_gives(workshop: Workshop) -> None:
    """The same temperature and threshold, and a predictor that takes them."""
    taught = teach(options(workshop, "run"))
    _, info = load_state(taught.folder.best, workshop.manifest)
    with Teacher(workshop.bundle, 1, "fake") as teacher:
        for name in NAMES:
            for path in files_below(workshop.photos / name):
                teacher.add(path, name)
        start = teacher.solve()
    assert start.answers is not None
    assert info.answers is not None
    assert start.answers.temperature == info.answers.temperature
    assert start.answers.pictures == sum(COUNTS.values()) == info.answers.pictures
    assert start.answers.unknown is not None
    with open_predictor(workshop.bundle, start, 1, "fake") as predictor:
        said = predictor.predict(files_below(workshop.photos / "ant")[0])
    assert said.threshold == start.answers.unknown.threshold
    # Other classes are another classifier, of which nobody knows how sure it is.
    assert start.with_rows(workshop.manifest, [0, 1], NAMES[:2]).answers is None


def test_a_picture_changes_its_class_and_may_be_forgotten(workshop: Workshop) -> None:
    first, second = files_below(workshop.photos / "ant")[:2]
    with Teacher(workshop.bundle, 1, "fake") as teacher:
        identity = teacher.add(first, "ant")
        with pytest.raises(BadPictures, match="1 class"):
            teacher.solve()
        teacher.add(second, "bee")
        assert teacher.add(first.read_bytes(), "bee") == identity
        assert teacher.counts() == {"bee": 2}
        teacher.add(first, "ant")
        assert teacher.solve().class_names == ("ant", "bee")
        teacher.forget(identity)
        teacher.forget("unknown")
        assert teacher.counts() == {"bee": 1}
