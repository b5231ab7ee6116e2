"""A plan made on one host, for whatever is installed on another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.memory import at_rest as runtime_memory
from mobiletl.device.memory import plan as memory
from mobiletl.device.memory.at_rest import runtime_bytes
from mobiletl.device.sessions.arena import lists_bytes, region_bytes
from mobiletl.device.sessions.freed import GIVEN_BACK_BYTES
from mobiletl.device.sessions.table import GIVEN_BACK_TO_1_19, RUNTIMES
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle

AT_REST = 80_000_000
COST = {(row.name, each.release): each.bytes for row in RUNTIMES for each in row.imports}
NEWEST = COST["onnxruntime", (1, 31, 1)]


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    tiny = open_bundle(write_tiny_bundle(tmp_path, graphs=False)).manifest
    measured = replace(tiny.memory, runtime=AT_REST, runtime_release="1.31.1")
    return replace(tiny, memory=measured)


@pytest.mark.parametrize(
    ("runtime", "installed", "counts_as"),
    [
        ("onnxruntime", "1.31.1", (1, 31, 1)),
        ("onnxruntime", "1.19.2", (1, 19, 2)),
        ("onnxruntime", "1.18.0", (1, 19, 2)),
        ("onnxruntime", "1.27.0", (1, 31, 1)),
        ("onnxruntime", "2.0.0rc1", (1, 31, 1)),
        ("onnxruntime", "1.15.1", (1, 16, 3)),
        ("torchscript", "1.13.1+cu117", (2, 13, 0)),
        ("executorch", "1.5.1", (1, 5, 1)),
    ],
)
def test_one_import_in_place_of_the_other(
    manifest: Manifest,
    monkeypatch: pytest.MonkeyPatch,
    runtime: str,
    installed: str,
    counts_as: tuple[int, ...],
) -> None:
    monkeypatch.setattr(runtime_memory, "installed_release", lambda row: installed)
    assert runtime_bytes(manifest, runtime) == AT_REST - NEWEST + COST[runtime, counts_as]


@pytest.mark.parametrize("runtime", ["fake", "onnxruntime"])
def test_without_a_figure_the_exporting_hosts_counts(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch, runtime: str
) -> None:
    monkeypatch.setattr(runtime_memory, "installed_release", lambda row: "")
    assert runtime_bytes(manifest, runtime) == AT_REST


def test_the_plan_knows_the_runtime(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_memory, "installed_release", lambda row: "2.13.0")
    plain, torch = (memory.plan(manifest, 8, 3, 1, name) for name in ("onnxruntime", "torchscript"))
    lists = lists_bytes(region_bytes(plain.activations))  # PyTorch has none
    imports = COST["torchscript", (2, 13, 0)] - NEWEST
    assert torch.total_bytes - plain.total_bytes == imports - lists


def test_where_code_stays_it_is_planned(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_memory, "installed_release", lambda row: "1.31.1")
    monkeypatch.setenv("MOBILETL_KEEP_CODE", "1")
    assert runtime_bytes(manifest, "onnxruntime") == AT_REST + GIVEN_BACK_BYTES
    assert runtime_bytes(manifest, "fake") == AT_REST + GIVEN_BACK_BYTES


def test_less_code_stays_of_an_older_release(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_memory, "installed_release", lambda row: "1.19.2")
    given_back = runtime_bytes(manifest, "onnxruntime")
    monkeypatch.setenv("MOBILETL_KEEP_CODE", "1")
    kept = runtime_bytes(manifest, "onnxruntime")
    assert kept - given_back == GIVEN_BACK_TO_1_19 < GIVEN_BACK_BYTES
