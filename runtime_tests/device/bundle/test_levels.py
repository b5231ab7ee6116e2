"""Several levels in one bundle: all of them checked, none beside the manifest that names them."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

from mobiletl.device.bundle import signature
from mobiletl.device.bundle.bundle import Bundle, open_bundle, unchecked_bundle
from mobiletl.device.bundle.levels import of_state, of_tensors
from mobiletl.device.bundle.manifest_files import MANIFEST_LIMIT_BYTES, read_manifest
from mobiletl.device.bundle.state_file import StateInfo, save_state, stated_fit
from mobiletl.device.errors import BadBundle, UsageError
from mobiletl.device.sessions.onnxruntime import open_session as open_directly
from mobiletl.device.sessions.runtimes import open_session
from runtime_tests.support.board.tiny_bundle import MEAN, write_manifest, write_tiny_bundle
from runtime_tests.support.board.tiny_levels import (
    LEVEL_FILE,
    OFFSET,
    read_documents,
    write_levels,
    write_tiny_levels,
)

Change = Callable[[Any, Any], Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_levels(tmp_path / "bundle")


@pytest.fixture
def bundle(folder: Path) -> Bundle:
    return open_bundle(folder)


def change(folder: Path, how: Change) -> None:
    """Let `how` change both documents, and make all ids right again."""
    own, level = read_documents(folder)
    how(own, level)
    write_levels(folder, own, level)


def save(bundle: Bundle, path: Path) -> Path:
    info = StateInfo(bundle.manifest.fit, ("ant", "bee"), epoch=1, step=1, seed=0)
    save_state(path, bundle.initial_state(2, 0), info)
    return path


def test_a_bundle_opens_at_its_deepest_level_and_at_each(bundle: Bundle) -> None:
    assert bundle.manifest.method.blocks == 1
    assert list(bundle.levels) == [1, 0]
    level = bundle.at(0)
    assert level.manifest.method.blocks == 0
    assert level.at(1).manifest is bundle.manifest
    assert level.manifest.fit != bundle.manifest.fit


def test_a_level_that_is_not_there_is_named_with_those_that_are(
    bundle: Bundle, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"--blocks 3, it has levels of 0, 1; .*--blocks 0,1,3$"):
        bundle.at(3)
    one = open_bundle(write_tiny_bundle(tmp_path / "one"))
    assert one.at(0) is one
    assert one.levels == {}
    with pytest.raises(UsageError, match="--blocks 1, it has levels of 0; "):
        one.at(1)


def test_a_level_is_what_a_bundle_of_its_own_is(bundle: Bundle, tmp_path: Path) -> None:
    one, level = open_bundle(write_tiny_bundle(tmp_path / "one")), bundle.at(0)
    assert level.manifest.fit == one.manifest.fit
    images = np.random.default_rng(0).normal(size=(3, 3, 8, 8)).astype(np.float32)
    found = []
    for opened in (one, level):
        with open_session(opened, 2, opened.initial_state(2, 5), 1) as session:
            h = session.features(images)
            taken = session.train_step(h, np.array([0, 1, 1]), 0.1)
            found.append((h, taken, {k: v.copy() for k, v in session.state().items()}))
    assert np.array_equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]
    assert all(np.array_equal(found[0][2][name], found[1][2][name]) for name in found[0][2])


def test_the_state_of_a_level_is_part_of_the_one_file(bundle: Bundle) -> None:
    assert OFFSET in bundle.initial_state(2, 0)
    level = bundle.at(0)
    with level.open_state() as stored:
        assert list(stored) == [MEAN]
    assert OFFSET not in level.initial_state(2, 0)


def test_a_state_opens_the_level_it_fits(bundle: Bundle, tmp_path: Path) -> None:
    for blocks in (0, 1):
        state = save(bundle.at(blocks), tmp_path / f"{blocks}.safetensors")
        assert of_state(bundle, state).manifest.method.blocks == blocks
        tensors = bundle.at(blocks).initial_state(2, 0)
        assert of_tensors(bundle, tensors, 2).manifest.method.blocks == blocks
    for path in (tmp_path, tmp_path / "none", bundle.path / "manifest.json"):
        assert stated_fit(path) is None
        assert of_state(bundle, path) is bundle


def test_what_knows_of_no_levels_opens_the_bundle(folder: Path) -> None:
    """Levels are one more key, and their manifests no files of the list."""
    own, _ = read_documents(folder)
    assert own["version"] == 5
    assert LEVEL_FILE not in own["files"]
    assert read_manifest(folder).method.blocks == 1


def test_what_was_measured_is_no_part_of_an_id(folder: Path) -> None:
    before = open_bundle(folder).manifest.id
    _, level = read_documents(folder)
    level["memory"].update(runtime=1, runtime_release="9")
    (folder / LEVEL_FILE).write_text(json.dumps(level))
    assert open_bundle(folder).manifest.id == before


def _blocks(own: Any, level: Any) -> None:
    level["method"]["blocks"] = 2


def _nested(own: Any, level: Any) -> None:
    level["levels"] = {"7": "0" * 64}


def _model(own: Any, level: Any) -> None:
    level["model"]["name"] = "another"


def _method(own: Any, level: Any) -> None:
    level["method"]["name"] = "ft-all"


def _input(own: Any, level: Any) -> None:
    level["input"]["resolution"] = 4


def _unlisted(own: Any, level: Any) -> None:
    level["files"]["outside.onnx"] = {"bytes": 1, "sha256": "0" * 64}


def _otherwise(own: Any, level: Any) -> None:
    level["files"]["state.safetensors"]["bytes"] += 1


def _escaping(own: Any, level: Any) -> None:
    level["runtimes"]["onnxruntime"]["files"]["features.1"] = "../features.onnx"


def _missing(own: Any, level: Any) -> None:
    level["runtimes"]["onnxruntime"]["files"]["features.1"] = "onnxruntime/features-9.onnx"


def _negative(own: Any, level: Any) -> None:
    level["memory"]["features"]["weights"] = -1


def _no_state(own: Any, level: Any) -> None:
    del level["files"]["state.safetensors"]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (_blocks, "is no level of its bundle: it has 2 blocks"),
        (_nested, "it names levels of its own"),
        (_model, "its model is another than manifest.json's"),
        (_method, "its method is 'ft-all'"),
        (_input, "its input is another than manifest.json's"),
        (_unlisted, "'outside.onnx' is not in files of manifest.json, or otherwise there"),
        (_otherwise, "'state.safetensors' is not in files of manifest.json, or otherwise there"),
        (_escaping, "levels/0.json has 1 problem.*expected a relative POSIX path"),
        (_missing, "levels/0.json has 1 problem.*is not in files"),
        (_negative, "levels/0.json has 1 problem.*expected an integer >= 0"),
        (_no_state, "levels/0.json has 1 problem.*state.safetensors is missing"),
    ],
)
def test_a_level_made_otherwise_is_refused(folder: Path, how: Change, said: str) -> None:
    change(folder, how)
    for opener in (open_bundle, unchecked_bundle):
        with pytest.raises(BadBundle, match=said):
            opener(folder)


def test_a_level_that_its_bundle_does_not_name_is_refused(folder: Path) -> None:
    own, level = read_documents(folder)
    level["optimizer"]["default_lr"] = 1000.0
    (folder / LEVEL_FILE).write_text(json.dumps(level))
    with pytest.raises(BadBundle, match=r"levels/0.json has 1 problem.*the content hashes to"):
        open_bundle(folder)
    write_levels(folder, own, level)
    (folder / "manifest.json").write_text(json.dumps(own))
    with pytest.raises(BadBundle, match=r"levels/0.json has another id than manifest.json names"):
        open_bundle(folder)


def _gone(folder: Path, file: Path) -> None:
    file.unlink()


def _link(folder: Path, file: Path) -> None:
    file.rename(folder.parent / "outside.json")
    file.symlink_to(folder.parent / "outside.json")


def _linked_folder(folder: Path, file: Path) -> None:
    shutil.move(str(file.parent), str(folder.parent / "outside"))
    file.parent.symlink_to(folder.parent / "outside", target_is_directory=True)


def _a_folder(folder: Path, file: Path) -> None:
    file.unlink()
    file.mkdir()


def _large(folder: Path, file: Path) -> None:
    with file.open("ab") as stream:
        stream.truncate(MANIFEST_LIMIT_BYTES + 1)


def _cut_off(folder: Path, file: Path) -> None:
    file.write_bytes(file.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (_gone, "levels/0.json is missing"),
        (_link, "levels/0.json is a link"),
        (_linked_folder, "levels/0.json is behind the link levels"),
        (_a_folder, "levels/0.json is a folder, expected a file"),
        (_large, "levels/0.json has .* bytes, expected at most"),
        (_cut_off, "levels/0.json cannot be read"),
    ],
)
def test_a_level_whose_file_is_odd_is_refused(
    folder: Path, how: Callable[[Path, Path], None], said: str
) -> None:
    how(folder, folder / LEVEL_FILE)
    with pytest.raises(BadBundle, match=said):
        open_bundle(folder)


@pytest.mark.parametrize(
    ("levels", "said"),
    [
        ({"1": "0" * 64}, "names the manifest's own number of blocks"),
        ({str(n): "0" * 64 for n in range(2, 70)}, "68 are named, expected at most 64"),
        ({"../0": "0" * 64}, "expected a number of blocks"),
        ({"01": "0" * 64}, "expected a number of blocks"),
        ({"0": "levels"}, "expected 64 lower-case hex digits"),
        (["0"], "expected an object"),
    ],
)
def test_names_of_levels_are_numbers_with_ids(folder: Path, levels: Any, said: str) -> None:
    own, _ = read_documents(folder)
    write_manifest(folder, {**own, "levels": levels})
    with pytest.raises(BadBundle, match=said):
        open_bundle(folder)


def test_a_graph_of_a_level_is_looked_through_and_hashed(folder: Path) -> None:
    file = folder / "onnxruntime" / "features-1-0.onnx"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BadBundle, match=r"features-1-0.onnx has another SHA-256"):
        open_bundle(folder)
    # Under a name that does not end in .onnx only the level says that it is a graph.
    odd = folder / "onnxruntime" / "odd"
    odd.write_bytes(b"\x0a\xff")
    record = {"bytes": 2, "sha256": hashlib.sha256(b"\x0a\xff").hexdigest()}
    file.write_bytes(content)

    def hide(own: Any, level: Any) -> None:
        own["files"]["onnxruntime/odd"] = level["files"]["onnxruntime/odd"] = record
        level["runtimes"]["onnxruntime"]["files"]["features.1"] = "onnxruntime/odd"

    change(folder, hide)
    with pytest.raises(BadBundle, match=r"odd .*its checksum is right, so it was made so"):
        open_bundle(folder)


def test_of_a_signed_bundle_only_what_is_signed_is_believed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signature, "require_signature", lambda *_: None)
    own, level = read_documents(folder)
    level["memory"]["runtime"] = 1
    write_levels(folder, own, level)
    signed = open_bundle(folder, require_signature="key.pub").at(0).manifest.memory
    assert signed.runtime == own["memory"]["runtime"]
    assert open_bundle(folder).at(0).manifest.memory.runtime == 1


@pytest.mark.parametrize("shape", [["N", "C", 2, 2], ["N", 12], ["N", 1 << 20, 1 << 10, 2]])
def test_a_map_between_files_has_sides_that_are_known_and_small(
    folder: Path, bundle: Bundle, shape: list[Any]
) -> None:
    import onnx

    file = folder / "onnxruntime" / "features.onnx"
    model = onnx.load(str(file))
    # Of what size its result is no runtime knows before it runs.
    del model.graph.node[:]
    model.graph.node.extend(
        [
            onnx.helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
            onnx.helper.make_node("Cast", ["mean"], ["side"], to=onnx.TensorProto.INT64),
            onnx.helper.make_node("Expand", ["side", "sides"], ["shape"]),
            onnx.helper.make_node("Reshape", ["images", "shape"], ["h"]),
        ]
    )
    sides = np.array([len(shape)], np.int64)
    model.graph.initializer.append(onnx.numpy_helper.from_array(sides, "sides"))
    model.graph.output[0].CopyFrom(
        onnx.helper.make_tensor_value_info("h", onnx.TensorProto.FLOAT, shape)
    )
    file.write_bytes(model.SerializeToString())
    level = bundle.at(0)
    images = np.zeros((1, 3, 8, 8), np.float32)
    with open_directly(level, 2, level.initial_state(2, 0), 1) as session, pytest.raises(
        BadBundle, match=r"expected \[N, C, h, w\]"
    ):
        session.features(images)


def test_a_chain_whose_files_do_not_fit_is_refused(bundle: Bundle) -> None:
    level = bundle.at(0)
    files = dict(level.manifest.runtimes["onnxruntime"].files)
    images = np.zeros((1, 3, 8, 8), np.float32)
    for role in ("features", "features.1"):
        other = {**files, role: files["predict"]}
        runtime = replace(level.manifest.runtimes["onnxruntime"], files=other)
        manifest = replace(level.manifest, runtimes={"onnxruntime": runtime})
        odd = level.with_manifest(manifest)
        with open_directly(odd, 2, level.initial_state(2, 0), 1) as session, pytest.raises(
            BadBundle, match="does not fit the manifest"
        ):
            session.features(images)
