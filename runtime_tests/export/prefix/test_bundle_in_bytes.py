"""A bundle whose frozen layers have 8 bits: exported, inspected, trained, finished, refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import mobiletl
from mobiletl.core.errors import UnsupportedModel, UsageError
from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.manifest import Manifest, parse_manifest
from mobiletl.device.errors import BadBundle, BadPictures, BadState
from mobiletl.device.inspect_bundle import main as inspect
from mobiletl.device.sessions.runtimes import open_session
from mobiletl.export.commands.finish import main as finish
from mobiletl.export.writing.export_bundle import Request, export_bundle
from runtime_tests.support.board.picture_folders import write_pictures
from runtime_tests.support.exported_bundles import Case, exported

COUNTS = {"ant": 20, "bee": 20, "cat": 20}


def request(out: Path, calibrate: Path | None, **changed: object) -> Request:
    settings = {
        "model": "mbv2-0.35",
        "weights": "demo",
        "method": "mobiletl",
        "blocks": 3,
        "resolution": 64,
        "optimizer": "adam",
        "out": out,
        "prefix": "int8",
        "calibrate": calibrate,
    }
    return Request(**{**settings, **changed})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"), COUNTS)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    return export_bundle(request(tmp_path_factory.mktemp("bytes") / "bundle", pictures))


@pytest.fixture(scope="module")
def manifest(bundle: Path) -> Manifest:
    return open_bundle(bundle).manifest


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory, Case("mobiletl", 3, "adam"))


@pytest.fixture(scope="module")
def state(bundle: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run") / "run"
    outcome = mobiletl.train(bundle, pictures, run, epochs=2, views=0, threads=1)
    assert outcome.position.before is not None
    assert outcome.position.before.accuracy > 0.9
    return run / "state.safetensors"


def test_the_manifest_says_what_it_costs(manifest: Manifest) -> None:
    prefix = manifest.prefix
    assert prefix is not None
    assert (prefix.bits, prefix.calibrated_on, prefix.checked_on) == (8, 30, 30)
    assert 0 < prefix.error < 0.3
    assert prefix.accuracy_float is not None
    assert prefix.accuracy_int8 is not None
    assert prefix.accuracy_int8 > 0.9


def test_weights_take_a_quarter_and_maps_less(manifest: Manifest, floats: Path) -> None:
    wide, narrow = open_bundle(floats).manifest.memory.features, manifest.memory.features
    assert narrow.weights < 0.35 * wide.weights
    assert narrow.peak_bytes(8, 3) < 0.6 * wide.peak_bytes(8, 3)


def test_maps_are_nearly_those_of_floats(bundle: Path, floats: Path) -> None:
    images = np.random.default_rng(0).standard_normal((4, 3, 64, 64)).astype(np.float32)
    found = []
    for path in (floats, bundle):
        opened = open_bundle(path)
        with open_session(opened, 3, opened.initial_state(3, 0), 1) as session:
            found.append(session.features(images).copy())
    assert np.linalg.norm(found[1] - found[0]) < 0.4 * np.linalg.norm(found[0])


def test_inspect_says_so(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect(["--bundle", str(bundle)]) == 0
    assert "8 bits, calibrated on 30 pictures; of 30 others" in capsys.readouterr().out
    assert inspect(["--bundle", str(bundle), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["prefix"]["bits"] == 8


def test_a_state_of_floats_does_not_fit(bundle: Path, floats: Path, state: Path) -> None:
    with pytest.raises(BadState, match="bundle"):
        mobiletl.open_predictor(mobiletl.open_bundle(floats), state)


def test_it_finishes_to_the_network_that_was_trained(
    bundle: Path, state: Path, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "done.onnx"
    words = ["--bundle", bundle, "--state", state, "--to", "onnx", "--out", out]
    assert finish([str(word) for word in words]) == 0
    kinds = {node.op_type for node in onnx.load(out).graph.node}
    assert "QLinearConv" in kinds
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    opened = mobiletl.open_bundle(bundle)
    labels = out.with_name("done.labels.txt").read_text().split()
    files = sorted(pictures.rglob("*.png"))[::7]
    from mobiletl.device.bundle.frame import frame_of
    from mobiletl.device.bundle.prepare import prepare

    with mobiletl.open_predictor(opened, state, unknown=False) as predictor:
        for file in files:
            image = prepare(frame_of(file), opened.manifest.input)[None]
            logits = session.run(["logits"], {"images": image})[0]
            assert labels[int(logits.argmax())] == predictor.predict(file).label


@pytest.mark.parametrize(
    "words", [["--to", "torchvision"], ["--to", "onnx", "--int8"], ["--to", "executorch"]]
)
def test_it_finishes_to_nothing_else(bundle: Path, state: Path, words: list[str]) -> None:
    with pytest.raises(UsageError, match="have 8 bits already"):
        finish(["--bundle", str(bundle), "--state", str(state), *words])


def test_what_cannot_be_is_one_line(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    few = write_pictures(tmp_path / "few", {"ant": 3})
    (tmp_path / "none").mkdir()
    refused: list[tuple[type[Exception], str, Request]] = [
        (UsageError, "needs --calibrate", request(out, None)),
        (UsageError, "add that, or leave it out", request(out, pictures, prefix="float32")),
        (BadPictures, "3 readable pictures, expected 8", request(out, few)),
        (BadPictures, "--calibrate .*no picture", request(out, tmp_path / "none")),
        (
            UnsupportedModel,
            "leave torchscript out",
            request(out, pictures, runtimes=("onnxruntime", "torchscript")),
        ),
        (
            UnsupportedModel,
            "nothing is frozen",
            request(out, pictures, method="ft-all", blocks=None),
        ),
    ]
    for kind, said, wrong in refused:
        with pytest.raises(kind, match=said):
            export_bundle(wrong)
        assert not out.exists()


def test_pictures_without_classes_measure_the_error_alone(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures", {"ant": 16})
    made = export_bundle(request(tmp_path / "bundle", pictures))
    prefix = open_bundle(made).manifest.prefix
    assert prefix is not None
    assert (prefix.labels_changed, prefix.accuracy_float, prefix.accuracy_int8) == (None,) * 3
    assert 0 < prefix.error < 1


@pytest.mark.parametrize("changed", [{"bits": 4}, {"labels_changed": 1.5}, {"error": "small"}])
def test_a_manifest_that_says_nonsense_is_refused(bundle: Path, changed: dict[str, object]) -> None:
    document = json.loads((bundle / "manifest.json").read_text("utf-8"))
    document["prefix"].update(changed)
    with pytest.raises(BadBundle, match=f"prefix.{next(iter(changed))}"):
        parse_manifest(json.dumps(document))
