"""Several levels in one bundle, exported for real: each trains as a bundle of its own would."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from PIL import Image
from safetensors import safe_open

from mobiletl.core.errors import UnsupportedModel, UsageError
from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.bundle.state_file import StateInfo, load_state, save_state
from mobiletl.device.commands.table import main
from mobiletl.device.sessions.runtimes import open_session
from mobiletl.export.chain import cut, link, links
from mobiletl.export.finish.finish import Order, finish
from mobiletl.export.memory.plan import plan_graph
from mobiletl.export.writing.export_bundle import export_bundle
from runtime_tests.support.exported_bundles import Case, exported, invented_pictures

LEVELS = Case("mobiletl", 5, levels=(1, 3))
DEPTHS = (5, 3, 1)
CLASSES, SIDE = 3, 64
# The runtime lays maps out as it likes inside a file and not between two, so sums round otherwise:
# relative to the largest number of a map, and of a step's loss and change of weights.
MAPS, STEPS = 2e-6, 2e-5
SCALARS = 64
Floats = NDArray[np.float32]
Factory = pytest.TempPathFactory


@pytest.fixture(scope="module")
def folder(tmp_path_factory: Factory) -> Path:
    return exported(tmp_path_factory, LEVELS)


def alone(factory: Factory, blocks: int) -> Bundle:
    return open_bundle(exported(factory, replace(LEVELS, blocks=blocks, levels=())))


def difference(found: Floats, expected: Floats) -> float:
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30))


@dataclass(frozen=True)
class Said:
    """What the three functions gave, and the state after a step."""

    h: Floats
    loss: float
    state: dict[str, Floats]
    logits: Floats


def said(bundle: Bundle) -> Said:
    images = invented_pictures(4, SIDE)
    state = bundle.initial_state(CLASSES, 0)
    with open_session(bundle, CLASSES, state, 1) as session:
        h = session.features(images)
        taken = session.train_step(h, np.array([0, 1, 2, 0]), 0.05)
        after = {name: value.copy() for name, value in session.state().items()}
        return Said(h, taken.loss, after, session.predict(h).copy())


@pytest.mark.parametrize("blocks", DEPTHS)
def test_a_level_computes_what_its_own_bundle_does(
    folder: Path, blocks: int, tmp_path_factory: Factory
) -> None:
    one, level = alone(tmp_path_factory, blocks), open_bundle(folder).at(blocks)
    assert level.manifest.fit == one.manifest.fit
    assert level.manifest.state == one.manifest.state
    expected, found = said(one), said(level)
    assert difference(found.h, expected.h) <= (0.0 if blocks == 5 else MAPS)
    assert found.loss == pytest.approx(expected.loss, rel=STEPS)
    assert difference(found.logits, expected.logits) <= STEPS
    for name, value in expected.state.items():
        assert difference(found.state[name], value) <= STEPS, name


@pytest.mark.parametrize("blocks", DEPTHS)
def test_a_levels_memory_is_planned_as_its_own_bundles_is(
    folder: Path, blocks: int, tmp_path_factory: Factory
) -> None:
    """But for the map between two files, and for what the runtime keeps about one more file."""
    own = alone(tmp_path_factory, blocks).manifest.memory
    found = open_bundle(folder).at(blocks).manifest.memory
    assert (found.state, found.slots) == (own.state, own.slots)
    assert (found.train_step, found.predict) == (own.train_step, own.predict)
    # Bounds of activations are in every file.
    assert found.features.weights == pytest.approx(own.features.weights, abs=SCALARS)
    peaks = [memory.features.peak_bytes(1, CLASSES) for memory in (found, own)]
    assert peaks[0] == pytest.approx(peaks[1], rel=0.02)
    assert abs(found.runtime - own.runtime) < 3_000_000


def test_every_number_is_stored_once(folder: Path, tmp_path_factory: Factory) -> None:
    """Frozen layers are in no two files, and the state is the deepest level's."""
    bundle = open_bundle(folder)
    files = bundle.at(1).manifest.runtimes["onnxruntime"]
    assert files.chain == ("features", "features.1", "features.2")
    chain = [onnx.load(bundle.file(files.files[role])) for role in files.chain]
    constants = Counter(
        numpy_helper.to_array(tensor).tobytes()
        for model in chain
        for tensor in model.graph.initializer
        if numpy_helper.to_array(tensor).size > 100
    )
    assert max(constants.values()) == 1
    whole = plan_graph(onnx.load(alone(tmp_path_factory, 1).file("onnxruntime/features.onnx")))
    assert sum(plan_graph(m).weights for m in chain) == pytest.approx(whole.weights, abs=SCALARS)
    with safe_open(folder / "state.safetensors", "np") as state:
        stored = set(state.keys())
    assert stored == {e.name for e in bundle.manifest.state if e.init == "file"}
    for blocks in (3, 1):
        assert {e.name for e in bundle.at(blocks).manifest.state if e.init == "file"} < stored
    sizes = [_size(alone(tmp_path_factory, blocks).path) for blocks in DEPTHS]
    assert _size(folder) < 0.6 * sum(sizes)


def _size(folder: Path) -> int:
    """Bytes of graphs and state."""
    files = [folder / "state.safetensors", *(folder / "onnxruntime").iterdir()]
    return sum(file.stat().st_size for file in files)


def test_the_same_export_is_the_same_bundle(folder: Path, tmp_path: Path) -> None:
    again = export_bundle(LEVELS.request(tmp_path / "again"))
    first, second = open_bundle(folder), open_bundle(again)
    assert first.manifest.id == second.manifest.id
    assert first.manifest.files == second.manifest.files
    assert first.manifest.levels == second.manifest.levels


def test_one_level_writes_what_it_always_wrote(tmp_path_factory: Factory) -> None:
    path = exported(tmp_path_factory, replace(LEVELS, blocks=3, levels=()))
    assert "levels" not in json.loads((path / "manifest.json").read_text())
    assert not (path / "levels").exists()
    assert sorted(file.name for file in (path / "onnxruntime").iterdir()) == [
        "features.onnx",
        "predict.onnx",
        "train_step.onnx",
    ]


@pytest.mark.parametrize("step", ["float32", "int8"])
def test_the_command_takes_a_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], step: str
) -> None:
    words = ["export", "--weights", "demo", "--out", str(tmp_path / "b"), "--step", step]
    assert main([*words, "--blocks", "1,2,2"]) == 0
    assert "to train 1 or 2 blocks" in capsys.readouterr().out
    assert list(open_bundle(tmp_path / "b").levels) == [2, 1]
    assert open_bundle(tmp_path / "b").at(1).manifest.step == step


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["--blocks", "1,x"], UsageError, "invalid int value: '1,x', expected a number such as 3"),
        (["--blocks", "1,"], UsageError, "invalid int value: '1,'"),
        (["--blocks", "1,99"], UnsupportedModel, "99 blocks to train, but"),
        (
            ["--blocks", "1,3", "--runtimes", "onnxruntime,torchscript"],
            UnsupportedModel,
            "--blocks 3,1: several levels in one bundle are for onnxruntime alone; leave "
            "torchscript out of --runtimes",
        ),
        (["--blocks", "1,3", "--method", "ft-last"], UnsupportedModel, "blocks"),
    ],
)
def test_what_does_not_go_with_levels_is_one_line_and_leaves_nothing(
    words: list[str],
    code: Any,
    line: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "b"
    assert main(["export", "--weights", "demo", "--out", str(out), *words]) == code.exit_code
    (shown,) = capsys.readouterr().err.strip().splitlines()
    assert line in shown
    assert not list(tmp_path.iterdir())


def _graph(folder: Path, role: str = "features") -> onnx.ModelProto:
    return onnx.load(folder / "onnxruntime" / f"{role}.onnx")


def test_a_cut_is_where_the_deeper_level_ends(tmp_path_factory: Factory) -> None:
    deep, whole = (_graph(alone(tmp_path_factory, blocks).path) for blocks in (5, 3))
    part = cut(whole, deep)
    assert len(part.graph.node) == len(whole.graph.node) - len(deep.graph.node)
    file = link(part).graph
    assert ([v.name for v in file.input], [v.name for v in file.output]) == (["below"], ["h"])
    assert file.input[0].type == deep.graph.output[0].type
    assert len(links([deep, whole])) == 2


def test_levels_that_are_no_beginnings_of_one_another_are_refused(
    tmp_path_factory: Factory,
) -> None:
    deep, whole = (_graph(alone(tmp_path_factory, blocks).path) for blocks in (5, 3))
    with pytest.raises(UnsupportedModel, match="are not the beginning of another's"):
        cut(deep, whole)
    other = onnx.ModelProto.FromString(deep.SerializeToString())
    kernel = next(tensor for tensor in other.graph.initializer if len(tensor.dims) == 4)
    kernel.raw_data = bytes(len(kernel.raw_data))
    with pytest.raises(UnsupportedModel, match="are not the beginning of another's"):
        cut(whole, other)
    skipping = onnx.ModelProto.FromString(whole.SerializeToString())
    skipping.graph.node[-1].input[0] = skipping.graph.node[0].output[0]
    with pytest.raises(UnsupportedModel, match="is read besides the map there"):
        cut(skipping, deep)


@pytest.mark.parametrize("blocks", [3, 1])
def test_a_state_of_a_level_finishes(
    folder: Path, blocks: int, tmp_path: Path, tmp_path_factory: Factory
) -> None:
    """On the host from the layers read back, on a board from the joined graphs."""
    from mobiletl.device.finishing.finish import finish as finish_on_board

    bundle = open_bundle(folder).at(blocks)
    tensors = bundle.initial_state(CLASSES, 1)
    state = tmp_path / "state.safetensors"
    save_state(state, tensors, StateInfo(bundle.manifest.fit, ("a", "b", "c"), 1, 1, 0))
    load_state(state, alone(tmp_path_factory, blocks).manifest)
    assert finish(Order(folder, state, "onnx", out=tmp_path / "host.onnx")).difference < 1e-4
    assert finish_on_board(folder, state, tmp_path / "board.onnx").difference < 1e-4


def test_frozen_layers_in_bytes_are_cut_without_changing_a_bit(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    draw = np.random.default_rng(0)
    for index in range(8):
        pixels = draw.integers(0, 256, (8, 8, 3)).astype(np.uint8)
        Image.fromarray(pixels).resize((80, 80)).save(pictures / f"{index}.png")
    request = replace(LEVELS.request(tmp_path / "levels"), prefix="int8", calibrate=pictures)
    bundle = open_bundle(export_bundle(request))
    images = invented_pictures(2, SIDE)
    for blocks in (3, 1):
        of_its_own = replace(request, blocks=blocks, levels=(), out=tmp_path / str(blocks))
        one, level = open_bundle(export_bundle(of_its_own)), bundle.at(blocks)
        assert level.manifest.fit == one.manifest.fit
        assert level.manifest.prefix == one.manifest.prefix
        maps = []
        for opened in (one, level):
            with open_session(opened, 2, opened.initial_state(2, 0), 1) as session:
                maps.append(session.features(images))
        assert np.array_equal(*maps)
