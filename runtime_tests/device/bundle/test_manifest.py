"""The manifest: what fits, what does not, and that all of it is said at once."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

from mobiletl.device.bundle.digest import fit_id, manifest_id
from mobiletl.device.bundle.manifest import GraphMemory, parse_manifest
from mobiletl.device.errors import BadBundle
from runtime_tests.support.board.tiny_bundle import WEIGHT, tiny_document, write_tiny_bundle


@pytest.fixture
def document(tmp_path: Path) -> Any:
    return tiny_document(write_tiny_bundle(tmp_path, graphs=False))


def sealed(document: Any) -> str:
    return json.dumps({**document, "id": manifest_id(document)})


def test_every_field_arrives(document: Any) -> None:
    manifest = parse_manifest(sealed(document))
    assert manifest.id == manifest_id(document)
    assert manifest.input.mean == (0.5, 0.5, 0.5)
    assert manifest.feature.shape == (6, 2, 2)
    assert manifest.embedding.size == 6
    assert manifest.method.trains == ("classifier",)
    assert manifest.state[0].name == WEIGHT
    assert manifest.state[0].shape == ("K", 6)
    assert manifest.state[0].shape_for(4) == (4, 6)
    assert manifest.parameters.trainable.at(10) == 70
    assert manifest.memory.features.activations == ((0, 144, 0, 0),)
    assert manifest.optimizer.default_lr == 0.5
    assert set(manifest.files) == set(document["files"])


def test_id_is_the_one_the_specification_defines(document: Any) -> None:
    measured_here = manifest_id(document)
    document["id"] = ""
    document["memory"]["runtime"] = 0
    document["memory"]["runtime_release"] = ""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    assert measured_here == hashlib.sha256(text.encode()).hexdigest()


def test_unknown_keys_are_ignored_but_hashed(document: Any) -> None:
    before = manifest_id(document)
    document["later"] = {"more": 1}
    assert parse_manifest(sealed(document)).id != before


Change = Callable[[Any], Any]
# What a release, another host or another folder changes about a bundle of the same network.
PROVENANCE: dict[str, Change] = {
    "release": lambda d: d.update(created_by="mobiletl 0.1.1"),
    "runner": lambda d: d["files"].update({"device/train.py": {"bytes": 1, "sha256": "a" * 64}}),
    "graph": lambda d: d["files"]["state.safetensors"].update(sha256="b" * 64),
    "name of the weights": lambda d: d["model"].update(weights="renamed.safetensors"),
    "runtimes": lambda d: d["runtimes"].update(
        onnxruntime={"files": {}, "batch": None, "classes": None, "memory": {}}
    ),
    "default rate": lambda d: d["optimizer"].update(default_lr=0.1),
    "drawn head": lambda d: d["state"][0].update(init="normal:0.02"),
    "memory": lambda d: d["memory"]["features"].update(weights=73),
}
DECISIVE: dict[str, Change] = {
    "frozen weights": lambda d: d.update(frozen="6" * 64),
    "width": lambda d: d["model"].update(width=0.5),
    "method": lambda d: d["method"].update(name="ft-all"),
    "blocks": lambda d: d["method"].update(blocks=2),
    "resolution": lambda d: d["input"].update(resolution=9),
    "mean": lambda d: d["input"].update(mean=[0.5, 0.5, 0.4]),
    "feature map": lambda d: d["feature"].update(shape=[6, 1, 1]),
    "optimizer": lambda d: d["optimizer"].update(name="adam"),
    "shape": lambda d: d["state"][2].update(shape=[7]),
    "order": lambda d: d["state"].reverse(),
}


@pytest.mark.parametrize("change", PROVENANCE.values(), ids=PROVENANCE.keys())
def test_provenance_is_another_bundle_that_the_same_states_fit(
    document: Any, change: Change
) -> None:
    before = fit_id(document), manifest_id(document)
    change(document)
    assert fit_id(document) == before[0]
    assert manifest_id(document) != before[1]
    assert parse_manifest(sealed(document)).fit == before[0]


@pytest.mark.parametrize("change", DECISIVE.values(), ids=DECISIVE.keys())
def test_what_decides_is_another_fit(document: Any, change: Change) -> None:
    before = fit_id(document)
    change(document)
    assert fit_id(document) != before


BREAKS: list[tuple[str, Callable[[Any], Any], str]] = [
    ("missing key", lambda d: d.pop("macs"), "macs: missing"),
    ("wrong format", lambda d: d.update(format="zip"), "format: expected 'mobiletl-bundle'"),
    ("version as text", lambda d: d.update(version="1"), "version: expected an integer"),
    ("true as a version", lambda d: d.update(version=True), "version: expected an integer"),
    ("no object", lambda d: d.update(model=[]), "model: expected an object"),
    ("nested missing", lambda d: d["model"].pop("width"), "model.width: missing"),
    ("zero width", lambda d: d["model"].update(width=0), "model.width: expected a number > 0.0"),
    ("short mean", lambda d: d["input"].update(mean=[1, 2]), "input.mean: expected 3 elements"),
    ("zero std", lambda d: d["input"].update(std=[1, 0, 1]), "input.std[1]: expected a number > 0"),
    ("resize", lambda d: d["input"].update(resize=4), "input.resize: smaller"),
    ("role", lambda d: d["state"][1].update(role="x"), "state[1].role: expected 'parameter'"),
    ("dtype", lambda d: d["state"][1].update(dtype="int8"), "state[1].dtype: expected 'float32'"),
    ("side", lambda d: d["state"][0].update(shape=["N"]), "state[0].shape[0]: expected an integer"),
    ("init", lambda d: d["state"][0].update(init="normal:-1"), "state[0].init: expected 'file'"),
    ("K in file", lambda d: d["state"][2].update(shape=["K"]), "needs a shape without 'K'"),
    ("twice", lambda d: d["state"].append(d["state"][0]), "state[5].name: 'classifier.1.weight'"),
    ("reserved", lambda d: d["state"][0].update(name="labels"), "'labels' is reserved"),
    ("an output", lambda d: d["state"][0].update(name="embedding"), "'embedding' is reserved"),
    ("no embedding", lambda d: d.pop("embedding"), "embedding: missing"),
    ("no width", lambda d: d["embedding"].update(size=0), "embedding.size: expected an integer"),
    (
        "another width",
        lambda d: d["embedding"].update(size=7),
        "embedding.size: state has no parameter of shape ['K', 7]",
    ),
    ("empty state", lambda d: d.update(state=[]), "state: expected at least 1 elements"),
    ("row", lambda d: d["memory"]["predict"].update(activations=[[1, 2]]), "expected 4 elements"),
    ("digest", lambda d: d["files"]["state.safetensors"].update(sha256="A" * 64), "64 lower-case"),
    ("no state file", lambda d: d["files"].clear(), "state entries come from it"),
    (
        "unlisted graph",
        lambda d: d["runtimes"].update(
            x={"files": {"graph": "a"}, "batch": 8, "classes": None, "memory": {}}
        ),
        "runtimes.x.files.graph: 'a' is not in files",
    ),
    (
        "zero batch",
        lambda d: d["runtimes"].update(x={"files": {}, "batch": 0, "classes": 2, "memory": {}}),
        "runtimes['x'].batch: expected an integer >= 1 or null",
    ),
]


@pytest.mark.parametrize(
    ("change", "message"), [row[1:] for row in BREAKS], ids=[r[0] for r in BREAKS]
)
def test_each_break_is_named_with_its_path(document: Any, change: Any, message: str) -> None:
    broken = copy.deepcopy(document)
    change(broken)
    with pytest.raises(BadBundle) as caught:
        parse_manifest(sealed(broken))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../x", "a/../../x", "a/..", "./a", "a//b", "a/", "..", "", "a\\b", "a\0b"],
)
def test_paths_that_could_leave_the_folder_are_refused(document: Any, path: str) -> None:
    document["files"][path] = {"bytes": 1, "sha256": "0" * 64}
    with pytest.raises(BadBundle, match="relative POSIX path"):
        parse_manifest(sealed(document))


@pytest.mark.parametrize("path", ["a", "a/b.onnx", "device/__init__.py", "..a/b..", ".hidden"])
def test_ordinary_paths_are_accepted(document: Any, path: str) -> None:
    document["files"][path] = {"bytes": 1, "sha256": "0" * 64}
    assert path in parse_manifest(sealed(document)).files


def test_all_problems_are_reported_at_once(document: Any) -> None:
    del document["macs"]
    document["model"]["blocks"] = -1
    document["state"][0]["role"] = "friend"
    with pytest.raises(BadBundle) as caught:
        parse_manifest(sealed(document))
    text = str(caught.value)
    assert "3 problem(s)" in text
    assert all(path in text for path in ("macs", "model.blocks", "state[0].role"))


def test_a_newer_version_is_named_before_anything_else(document: Any) -> None:
    newer = {"format": document["format"], "version": 6, "created_by": "mobiletl 9.0"}
    with pytest.raises(BadBundle, match=r"version 6, made by 'mobiletl 9\.0'.*Update mobiletl"):
        parse_manifest(json.dumps(newer))


@pytest.mark.parametrize("version", [3, 4])
def test_an_older_version_asks_for_another_export(document: Any, version: int) -> None:
    """As it was written: version 4 knew no embedding."""
    del document["embedding"]
    document.update(version=version, created_by="mobiletl 0.0")
    message = rf"version {version}, made by 'mobiletl 0\.0'.*version 5\. Export the bundle again$"
    with pytest.raises(BadBundle, match=message):
        parse_manifest(sealed(document))


def test_a_state_of_version_4_fits_the_bundle_exported_again(document: Any) -> None:
    fit = parse_manifest(sealed(document)).fit
    del document["embedding"]
    document.update(version=4)
    assert fit_id(document) == fit


def test_a_changed_value_breaks_the_id(document: Any) -> None:
    text = sealed(document).replace('"momentum": 0.9', '"momentum": 0.8')
    with pytest.raises(BadBundle, match=r"id: found .* the content hashes to"):
        parse_manifest(text)


@pytest.mark.parametrize("text", ["", "{", "[1, 2", '{"a": NaN}', "[" * 100_000])
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(
        BadBundle, match=r"not valid JSON|is not JSON|nested deeper|values, expected"
    ):
        parse_manifest(text)


@pytest.mark.parametrize("text", ["[]", "3", "null", '"x"'])
def test_json_of_another_kind_is_refused(text: str) -> None:
    with pytest.raises(BadBundle, match="document: expected an object"):
        parse_manifest(text)


def test_peak_is_the_largest_row_not_a_sum() -> None:
    memory = GraphMemory(0, ((1000, 0, 0, 0), (10, 20, 30, 40)))
    assert memory.peak_bytes(1, 2) == 1000
    assert memory.peak_bytes(8, 10) == 10 + 20 * 8 + 30 * 10 + 40 * 80


def test_tensor_problems_names_each_tensor(document: Any) -> None:
    manifest = parse_manifest(sealed(document))
    tensors = {entry.name: np.zeros(entry.shape_for(3), np.float32) for entry in manifest.state}
    assert manifest.tensor_problems(tensors, 3) == []
    tensors["extra"] = tensors.pop("sgd.momentum/classifier.1.bias")
    tensors[WEIGHT] = np.zeros((3, 5), np.float32)
    tensors["classifier.1.bias"] = np.zeros(3, np.float64)
    assert manifest.tensor_problems(tensors, 3) == [
        "sgd.momentum/classifier.1.bias is missing",
        "extra is unknown",
        "classifier.1.weight is float32 [3, 5], not float32 [3, 6]",
        "classifier.1.bias is float64 [3], not float32 [3]",
    ]
