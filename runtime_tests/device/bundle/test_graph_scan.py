"""A graph that reaches outside its file, or that would end a runtime, is refused unread."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.graph_scan import graph_bytes_problem, graph_problem
from mobiletl.device.errors import BadBundle
from runtime_tests.support.board.reaching_graphs import WAYS, write_reaching
from runtime_tests.support.board.tiny_bundle import (
    tiny_document,
    write_manifest,
    write_tiny_bundle,
)

onnx = pytest.importorskip("onnx")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "tiny")


def reseal(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    write_manifest(folder, tiny_document(folder))


def features(folder: Path) -> Path:
    return folder / "onnxruntime" / "features.onnx"


def changed(folder: Path, change: Callable[[Any], Any]) -> str:
    """Return what is wrong with the bundle's features after `change`."""
    model = onnx.load(str(features(folder)))
    change(model)
    return graph_bytes_problem(model.SerializeToString())


@pytest.mark.parametrize("name", ["features", "train_step", "predict"])
def test_a_sound_graph_has_no_problem(bundle: Path, name: str) -> None:
    assert graph_problem(bundle / "onnxruntime" / f"{name}.onnx") == ""


@pytest.mark.parametrize("way", WAYS)
def test_every_way_out_of_the_file_is_refused(bundle: Path, way: str) -> None:
    (bundle.parent / "secret").write_bytes(np.ones(18, np.float32).tobytes())
    write_reaching(bundle, way, "../../secret")
    reseal(bundle)
    with pytest.raises(BadBundle, match=r"features\.onnx (has the numbers|holds|asks)"):
        open_bundle(bundle)


def test_a_pipe_is_not_waited_for(bundle: Path) -> None:
    """onnxruntime 1.16.3 opens it and waits for ever."""
    os.mkfifo(str(bundle / "pipe"))
    write_reaching(bundle, "initializer", "../pipe")
    document = tiny_document(bundle)
    (bundle / "manifest.json").unlink()
    write_manifest(bundle, {**document, "files": _without(document["files"], "manifest.json")})
    with pytest.raises(BadBundle, match="in another file"):
        open_bundle(bundle)


def _without(files: dict[str, Any], name: str) -> dict[str, Any]:
    return {path: record for path, record in files.items() if path != name}


@pytest.mark.parametrize("place", ["onnxruntime/features.onnx", "state.safetensors"])
def test_a_pipe_in_place_of_a_file_is_refused(bundle: Path, place: str) -> None:
    (bundle / place).unlink()
    os.mkfifo(str(bundle / place))
    with pytest.raises(BadBundle, match="is a pipe, expected a file"):
        open_bundle(bundle)


def test_a_folder_that_is_a_link_is_refused(bundle: Path) -> None:
    (bundle / "onnxruntime").rename(bundle.parent / "elsewhere")
    (bundle / "onnxruntime").symlink_to(bundle.parent / "elsewhere")
    with pytest.raises(BadBundle, match="is behind the link onnxruntime"):
        open_bundle(bundle)


def test_a_graph_of_another_name_is_looked_at_too(bundle: Path) -> None:
    write_reaching(bundle, "initializer", "../../secret")
    features(bundle).rename(bundle / "onnxruntime" / "prefix.dat")
    document = tiny_document(bundle)
    document["files"].pop("manifest.json")
    document["runtimes"]["onnxruntime"]["files"]["features"] = "onnxruntime/prefix.dat"
    write_manifest(bundle, document)
    with pytest.raises(BadBundle, match=r"prefix\.dat has the numbers"):
        open_bundle(bundle)


ODD: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a group of none": (lambda m: _attribute(m, "Conv", "group", 0), "has 0 as 'group of Conv'"),
    "no stride": (lambda m: _attribute(m, "AveragePool", "strides", [0, 4]), "strides"),
    "a huge pad": (lambda m: _attribute(m, "AveragePool", "pads", [1 << 40] * 4), "pads"),
    "another operator": (lambda m: setattr(m.graph.node[0], "op_type", "Loop"), "operator 'Loop'"),
    "another domain": (lambda m: setattr(m.graph.node[0], "domain", "mine"), "'mine.Constant'"),
    "a graph twice": (lambda m: m.graph.node.append(m.graph.node[0]), "twice"),
    "a cycle": (lambda m: m.graph.node[1].input.__setitem__(0, "h"), "before anything makes it"),
    "no output": (lambda m: setattr(m.graph.output[0], "name", "x"), "nothing computes"),
    "an old opset": (lambda m: setattr(m.opset_import[0], "version", 3), "opset 3"),
    "a foreign set": (lambda m: m.opset_import.add(domain="x", version=1), "operators of 'x'"),
    "a new format": (lambda m: setattr(m, "ir_version", 99), "ONNX format 99"),
    "a long shape": (lambda m: _tensor(m).dims.__setitem__(0, 7), "asks for 84"),
    "a huge shape": (lambda m: _tensor(m).dims.__setitem__(0, 1 << 62), "of shape"),
    "texts": (lambda m: setattr(_tensor(m), "data_type", 8), "of type 8"),
    "a long name": (lambda m: setattr(m.graph.node[0], "op_type", "x" * 5000), "name of 5000"),
}


def _attribute(model: Any, kind: str, name: str, value: Any) -> None:
    node = next(one for one in model.graph.node if one.op_type == kind)
    for attribute in list(node.attribute):
        if attribute.name == name:
            node.attribute.remove(attribute)
    node.attribute.append(onnx.helper.make_attribute(name, value))


def _tensor(model: Any) -> Any:
    return model.graph.node[0].attribute[0].t


@pytest.mark.parametrize(("change", "message"), ODD.values(), ids=ODD.keys())
def test_what_a_runtime_would_trip_over_is_named(
    bundle: Path, change: Callable[[Any], Any], message: str
) -> None:
    assert message in changed(bundle, change)


def test_graphs_in_graphs_end_somewhere(bundle: Path) -> None:
    from onnx import helper

    def nest(model: Any) -> None:
        inner = helper.make_graph([helper.make_node("Identity", ["images"], ["o"])], "g", [], [])
        for level in range(20):
            node = helper.make_node("Scan", ["images"], [f"o{level}"], body=inner)
            inner = helper.make_graph([node], "g", [], [])
        model.graph.node.append(helper.make_node("Scan", ["images"], ["last"], body=inner))

    assert "more than 3 deep" in changed(bundle, nest)


@pytest.mark.parametrize(
    "content", [b"", b"\x00", b"\xff" * 40, b"MZ", b"\x3a\x80\x80\x80\x80\x80"]
)
def test_what_is_no_graph_is_refused(content: bytes) -> None:
    assert graph_bytes_problem(content)


def test_a_shape_without_its_numbers_is_refused(bundle: Path) -> None:
    from onnx import TensorProto

    tensor = TensorProto(name="w", data_type=1, dims=[100_000_000], raw_data=b"@" * 10)
    message = changed(bundle, lambda model: model.graph.initializer.append(tensor))
    assert "10 bytes of 'w', its shape asks for 400000000" in message


def test_weights_are_not_read(tmp_path: Path) -> None:
    """Half a gigabyte of them takes a few kilobytes."""
    from onnx import TensorProto

    held = TensorProto(name="w", data_type=2, dims=[1 << 29]).SerializeToString()
    tensor = held + b"\x4a" + _varint(1 << 29)
    size = len(tensor) + (1 << 29)
    graph = b"\x2a" + _varint(size) + tensor
    head = b"\x08\x08\x42\x02\x10\x12\x3a" + _varint(len(graph) + (1 << 29))
    file = tmp_path / "large.onnx"
    with file.open("wb") as stream:
        stream.write(head + graph)
        stream.truncate(len(head) + len(graph) + (1 << 29))
    tracemalloc.start()
    assert graph_problem(file) == ""
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000


def _varint(value: int) -> bytes:
    written = b""
    while value >= 0x80:
        written += bytes([value & 0x7F | 0x80])
        value >>= 7
    return written + bytes([value])
