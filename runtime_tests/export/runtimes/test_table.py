"""The table of runtimes on the host, and what it adds to a bundle."""

from __future__ import annotations

import importlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mobiletl.core.errors import MissingDependency, UsageError
from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.sessions import table as device_runtimes
from mobiletl.export import runtimes as table
from mobiletl.export.runtimes import DEFAULT_RUNTIMES, RUNTIMES, Runtime, find_runtimes
from mobiletl.export.runtimes.artifact import Artifact, NamedFile
from mobiletl.export.writing import export_bundle as pipeline
from mobiletl.export.writing.export_bundle import Request, export_bundle

mobiletl = torch.ops.mobiletl


def test_every_runtime_of_the_host_is_one_of_the_board_in_the_same_order() -> None:
    board = [row.name for row in device_runtimes.RUNTIMES if row.in_bundle]
    assert [row.name for row in RUNTIMES] == board
    assert set(DEFAULT_RUNTIMES) <= set(board)


@pytest.mark.parametrize("row", RUNTIMES, ids=lambda row: row.name)
def test_every_runtime_translates_both_mask_operators(row: Runtime) -> None:
    if row.package:
        pytest.importorskip(row.package)
    rules = importlib.import_module(row.rules).RULES
    assert {mobiletl.pack_mask.default, mobiletl.apply_mask.default} <= set(rules)


def test_rows_come_in_the_tables_order_once_each() -> None:
    names = ["torchscript", "onnxruntime", "torchscript"]
    assert [row.name for row in find_runtimes(names)] == ["onnxruntime", "torchscript"]


@pytest.mark.parametrize("names", [[], ["onnx"], ["onnxruntime", "tflite"]])
def test_an_unknown_runtime_lists_the_known_ones(names: list[str]) -> None:
    with pytest.raises(UsageError, match=r"expected one or more of onnxruntime, .*torchscript"):
        find_runtimes(names)


def test_a_package_the_host_lacks_is_named_before_the_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(pipeline, "stock_graphs", lambda parts: pytest.fail("it has started"))
    request = Request(
        "mbv2-0.35", "demo", "ft-last", None, 64, "sgd", tmp_path / "b", ("executorch",)
    )
    with pytest.raises(MissingDependency, match=r"package executorch .* pip install"):
        export_bundle(request)
    assert not (tmp_path / "b").exists()


def test_an_artifact_becomes_a_folder_and_an_entry_of_the_manifest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = Artifact(
        {"program": NamedFile("a.bin", b"abc")}, batch=4, classes=7, memory={"step": [(9, 8, 7, 6)]}
    )
    monkeypatch.setattr(table, "RUNTIMES", (*RUNTIMES, Runtime("later", "no.module", "")))
    real = table.build_artifact

    def build(row: Runtime, *arguments: Any) -> Artifact:
        return made if row.name == "later" else real(row, *arguments)

    monkeypatch.setattr(pipeline, "build_artifact", build)
    both = ("later", "onnxruntime")
    request = Request("mbv2-0.35", "demo", "ft-last", None, 64, "sgd", tmp_path / "b", both)
    manifest = open_bundle(export_bundle(request)).manifest
    assert list(manifest.runtimes) == ["onnxruntime", "later"]
    found = manifest.runtimes["later"]
    assert (dict(found.files), found.batch, found.classes) == ({"program": "later/a.bin"}, 4, 7)
    assert dict(found.memory) == {"step": ((9, 8, 7, 6),)}
    assert (tmp_path / "b" / "later" / "a.bin").read_bytes() == b"abc"
    listed = json.loads((tmp_path / "b" / "manifest.json").read_text())["files"]
    assert listed["later/a.bin"]["bytes"] == 3
