"""A board's finished file answers as `predict` does, and says of itself what a program needs."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from mobiletl.device import finish as command
from mobiletl.device.bundle.answers import Answers, Unknown
from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.frame import frame_of
from mobiletl.device.bundle.prepare import prepare
from mobiletl.device.bundle.state_file import StateInfo, save_state
from mobiletl.device.errors import (
    BadBundle,
    BadState,
    MissingDependency,
    MobileTLError,
    NoSpace,
    UsageError,
)
from mobiletl.device.finishing import finish as finishing
from mobiletl.device.finishing.finish import finish
from mobiletl.device.heads.softmax import softmax
from mobiletl.device.prediction.predictor import open_predictor
from runtime_tests.support.board.picture_folders import write_pictures
from runtime_tests.support.board.tiny_bundle import (
    CHANNELS,
    WEIGHT,
    write_manifest,
    write_tiny_bundle,
)

DEVICE = Path(command.__file__).parent
CLASSES = ("ant", "bee", "cat")
UNKNOWN = Unknown(
    -1.5, 0.95, 0.9, 2.0, np.full(CHANNELS, 0.1, np.float32), np.eye(2, CHANNELS, dtype=np.float32)
)
ANSWERS = Answers(2.5, 6, 0.01, UNKNOWN)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "bundle")


def write_state(bundle: Path, answers: Answers | None = ANSWERS, **changed: Any) -> Path:
    opened = open_bundle(bundle)
    tensors = opened.initial_state(len(CLASSES), 0)
    tensors[WEIGHT] = 8 * np.random.default_rng(3).standard_normal((3, CHANNELS), np.float32)
    path = bundle.parent / "state.safetensors"
    info = StateInfo(opened.manifest.fit, CLASSES, epoch=1, step=1, seed=0, answers=answers)
    save_state(path, {**tensors, **changed}, info)
    return path


def run(path: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"images": images})))


@pytest.mark.parametrize("answers", [None, replace(ANSWERS, unknown=None), ANSWERS])
def test_answers_as_predict_does(bundle: Path, tmp_path: Path, answers: Answers | None) -> None:
    photos = write_pictures(tmp_path / "photos", dict.fromkeys(CLASSES, 4))
    files = sorted(photos.rglob("*.png"))
    state = write_state(bundle, answers)
    written = finish(bundle, state)
    assert written.path == state.with_suffix(".onnx")
    assert written.difference < 1e-5
    model = onnx.load(str(written.path))
    (facts,) = [json.loads(p.value) for p in model.metadata_props if p.key == "mobiletl"]
    size = open_bundle(bundle).manifest.input
    images = np.stack([prepare(frame_of(file), size) for file in files])
    found = run(written.path, images)
    shares = softmax(found["logits"])
    with open_predictor(bundle, state) as predictor:
        for row, file in enumerate(files):
            wanted = predictor.predict(file)
            given = dict(zip(facts["classes"], shares[row]))
            assert max(given, key=lambda name: given[name]) == wanted.label
            for label, probability in zip(wanted.labels, wanted.probabilities):
                assert given[label] == pytest.approx(probability, abs=1e-5)
            if answers is not None and answers.unknown is not None:
                one = {name: values[row : row + 1] for name, values in found.items()}
                assert wanted.score == pytest.approx(score(facts, one), abs=1e-4)
    tells = answers is not None and answers.unknown is not None
    assert list(found) == ["logits", "embedding"][: 1 + tells]


def score(facts: dict[str, Any], found: dict[str, np.ndarray]) -> float:
    """As docs/finish.md has it."""
    u, embedding = facts["answers"]["unknown"], found["embedding"]
    s = np.frombuffer(base64.b64decode(u["subspace"]), "<f4").reshape(u["subspace_shape"])
    c = embedding - s[0]
    r = np.linalg.norm(c - c @ s[1:].T @ s[1:], axis=1) / np.linalg.norm(embedding, axis=1)
    return float((found["logits"].max(axis=1) - u["weight"] * r)[0])


def test_the_file_is_plain_and_old_runtimes_read_it(bundle: Path) -> None:
    model = onnx.load(str(finish(bundle, write_state(bundle)).path))
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.input] == ["images"]
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in [*model.graph.input, *model.graph.output]
    }
    assert shapes == {
        "images": ["N", 3, 8, 8],
        "logits": ["N", len(CLASSES)],
        "embedding": ["N", CHANNELS],
    }
    assert {o.domain for o in model.opset_import} == {""}
    # onnxruntime 1.16.3 reads no newer one.
    assert model.ir_version <= 9


def test_the_command_says_what_it_wrote(bundle: Path, capsys: Any) -> None:
    state, out = write_state(bundle), bundle.parent / "new" / "pets.onnx"
    given = ["--bundle", str(bundle), "--state", str(state), "--out", str(out)]
    assert command.main([*given, "--json"]) == 0
    labels = out.with_name("pets.labels.txt")
    assert json.loads(capsys.readouterr().out) == {
        "files": [str(out), str(labels)],
        "classes": list(CLASSES),
    }
    assert sorted(out.parent.iterdir()) == [labels, out]
    assert labels.read_text(encoding="utf-8").splitlines() == list(CLASSES)
    assert command.main(given) == UsageError.exit_code
    assert "exists; remove it" in capsys.readouterr().err
    out.unlink()
    labels.unlink()
    assert command.main([*given, "--to", "onnx", "--softmax", "--opset", "15"]) == 0
    model = onnx.load(str(out))
    assert [value.name for value in model.graph.output][:2] == ["probabilities", "logits"]
    assert [entry.version for entry in model.opset_import] == [15]
    assert "3 classes; images [N,3,R,R] with R = 8" in capsys.readouterr().out


def test_a_copied_folder_finishes(bundle: Path) -> None:
    shutil.copytree(DEVICE, bundle / "device", ignore=shutil.ignore_patterns("__pycache__"))
    words = [sys.executable, "device/finish.py", "--state", str(write_state(bundle))]
    subprocess.run(words, cwd=bundle, check=True, stdout=subprocess.PIPE, timeout=120)
    assert run(bundle.parent / "state.onnx", np.zeros((2, 3, 8, 8), np.float32))["logits"].shape


@pytest.mark.parametrize("flags", [["--to", "torchscript"], ["--int8"], ["--weights", "x.pth"]])
def test_what_only_the_host_does_is_said(bundle: Path, flags: list[str], capsys: Any) -> None:
    given = ["--bundle", str(bundle), "--state", str(write_state(bundle)), *flags]
    assert command.main(given) == MissingDependency.exit_code
    assert "needs PyTorch" in capsys.readouterr().err


def damaged_graph(bundle: Path, role: str, change: Any) -> None:
    file = bundle / "onnxruntime" / f"{role}.onnx"
    model = onnx.load(str(file))
    change(model.graph)
    file.write_bytes(model.SerializeToString())
    (bundle / "manifest.json").unlink()
    from runtime_tests.support.board.tiny_bundle import tiny_document

    write_manifest(bundle, tiny_document(bundle))


def renamed_input(graph: Any) -> None:
    graph.input[0].name = "classifier.9.weight"


def test_graphs_that_do_not_fit_the_state(bundle: Path) -> None:
    state = write_state(bundle)
    damaged_graph(bundle, "predict", renamed_input)
    with pytest.raises(BadBundle, match=r"reads .*classifier\.\d\.weight"):
        finish(bundle, state)


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [("pets.pte", UsageError, "ends in .onnx"), ("a.onnx/b.onnx", NoSpace, "can't write")],
)
def test_places_that_are_none(
    bundle: Path, name: str, kind: type[MobileTLError], words: str
) -> None:
    (bundle.parent / "a.onnx").write_text("in the way")
    with pytest.raises(kind, match=words):
        finish(bundle, write_state(bundle), bundle.parent / name)


def test_numbers_that_are_none(bundle: Path) -> None:
    weight = np.full((3, CHANNELS), np.nan, np.float32)
    with pytest.raises(BadState, match="NaN"):
        finish(bundle, write_state(bundle, **{WEIGHT: weight}))


def test_a_full_disk_leaves_nothing(bundle: Path, monkeypatch: Any) -> None:
    state = write_state(bundle)

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(finishing, "write_whole", full)
    with pytest.raises(NoSpace, match="No space left"):
        finish(bundle, state)
    assert not state.with_suffix(".onnx").exists()


def test_without_onnx_one_line_says_what_to_install(bundle: Path, monkeypatch: Any) -> None:
    state = write_state(bundle)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependency, match="pip install onnx"):
        finish(bundle, state)
