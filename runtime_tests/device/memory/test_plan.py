"""The plan against the formula of docs/bundle.md worked by hand, and the meters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.manifest import GraphMemory, Manifest, Memory, PerClass, RuntimeFiles
from mobiletl.device.features.views import JUDGED
from mobiletl.device.memory import at_rest as runtime_memory
from mobiletl.device.memory import plan as memory
from mobiletl.device.run.options import VIEWS
from mobiletl.device.sessions.arena import lists_bytes, region_bytes
from mobiletl.device.solving import closed_form, keeping
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """Return a manifest whose planned figures are told apart by their digits."""
    tiny = open_bundle(write_tiny_bundle(tmp_path, graphs=False)).manifest
    figures = Memory(
        features=GraphMemory(100, ((0, 1000, 0, 0),)),
        train_step=GraphMemory(20, ((7, 100, 10, 1), (900, 0, 0, 0))),
        predict=GraphMemory(3, ((0, 50, 0, 1),)),
        state=PerClass(10_000, 100),
        slots=PerClass(20_000, 200),
        runtime=1_000_000,
        runtime_release="1.31.1",
    )
    monkeypatch.setattr(runtime_memory, "installed_release", lambda runtime: "1.31.1")
    return replace(tiny, memory=figures)


def test_plan_is_the_sum_of_the_specification(manifest: Manifest) -> None:
    plan = memory.plan(manifest, batch=4, classes=5, micro_batch=1)
    features = 1000
    step = max(7 + 400 + 50 + 20, 900)
    assert features > step
    picture = (4 * 9) * (4 * 9) * 4 // 3 * 4  # 4:3, 4 bytes a pixel
    prepared = 3 * 8 * 8 * 4 + 6 * 8 * 8 * 4 + 8 * (4 * 9) * 4  # the input, six crops, one begun
    lists = (2 * features + 2 * 2**20) // 256 * 8 + 8  # 8 bytes for every 256, begun ones too
    running = picture + prepared + lists + features
    expected = 1_000_000 + 123 + 10_500 + 21_000 + 4 * 24 * 4 + running
    assert plan.total_bytes == expected
    assert plan.rows[-1].name.endswith("features")


def test_a_picture_counts_as_it_is_and_one_nobody_knows_as_a_phone_s(manifest: Manifest) -> None:
    small, large, unknown = (memory.plan(manifest, 4, 5, decoding=one) for one in (10, 9999, None))
    assert large.total_bytes - small.total_bytes == 9989
    assert unknown.total_bytes - small.total_bytes == memory.decoded_bytes(manifest.input) - 10


def test_what_is_known_of_pictures_counts_where_they_are(manifest: Manifest) -> None:
    none, few = (memory.plan(manifest, 4, 5, pictures=pictures) for pictures in (0, 200))
    assert few.total_bytes - none.total_bytes == 200 * memory.PICTURE_BYTES
    (row,) = set(few.rows) - set(none.rows)
    assert row.name == "what is known of 200 pictures"


def test_solving_is_planned_as_it_is_bounded() -> None:
    assert memory.SOLVED_AT_ONCE == closed_form.MOST_PICTURES
    assert memory.MOST_EMBEDDINGS == keeping.MOST_BYTES


def test_code_that_is_given_back_makes_room_for_256_pictures(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_back = [memory.solving_bytes(1280, pictures) for pictures in (0, 60, 256, 512, 1000)]
    assert given_back == [0, 0, 0, 0, (1000 - 2 * 256) * 1280 * 4]
    monkeypatch.setenv("MOBILETL_KEEP_CODE", "1")
    kept = [memory.solving_bytes(1280, pictures) for pictures in (60, 256, 1000, 9000)]
    assert kept == sorted(kept)
    assert memory.solving_bytes(1280, 0) == kept[1], "nobody knows: as many as at once"
    assert kept[-1] == memory.MOST_EMBEDDINGS + 256 * 1280 * 4
    plan = memory.plan(manifest, 4, 5, pictures=60)
    (row,) = (row for row in plan.rows if row.name == "solving for a classifier")
    assert row.bytes == memory.solving_bytes(manifest.embedding.size, 60)


def test_copies_of_the_state_are_planned_where_a_runtime_has_them(manifest: Manifest) -> None:
    names = ("onnxruntime", "onnxruntime-training")
    of_runtime = {name: memory.plan(manifest, 4, 5, runtime=name) for name in names}
    copies = {
        name: sum(row.bytes for row in plan.rows if row.name.startswith("state: copies"))
        for name, plan in of_runtime.items()
    }
    state = sum(one.at(5) for one in (manifest.memory.state, manifest.memory.slots))
    assert copies == {"onnxruntime": 0, "onnxruntime-training": state}


def test_as_many_crops_are_planned_as_are_cut_at_once() -> None:
    assert memory.CROPS == VIEWS == JUDGED


def test_a_region_is_planned_where_a_runtime_has_one(manifest: Manifest) -> None:
    """Its lists count, and the session is told what its tensors take."""
    stock, other = (memory.plan(manifest, 32, 5, 1, name) for name in ("onnxruntime", "fake"))
    assert stock.activations == other.activations == stock.rows[-1].bytes
    (lists,) = (row.bytes for row in stock.rows if row.name.startswith("lists"))
    assert lists == lists_bytes(region_bytes(stock.activations))
    assert not [row for row in other.rows if row.name.startswith("lists")]


def test_holes_are_planned_where_a_runtime_has_a_region(manifest: Manifest) -> None:
    """A share of what is alive in the function whose tensors reach furthest."""
    step = replace(manifest.memory.train_step, holes=((4, 0.5), (8, 0.1)))
    features = replace(manifest.memory.features, holes=((1, 0.25),))
    holed = replace(manifest.memory, train_step=step, features=features)
    holed_manifest = replace(manifest, memory=holed)
    stock, other = (memory.plan(holed_manifest, 32, 5, 1, name) for name in ("onnxruntime", "fake"))
    (holes,) = (row.bytes for row in stock.rows if row.name.startswith("holes"))
    assert holes == round(1.1 * stock.rows[-1].bytes) - stock.rows[-1].bytes
    assert not [row for row in other.rows if row.name.startswith("holes")]
    # With four pictures the frozen layers have most alive, and yet the step reaches further.
    few = memory.plan(holed_manifest, 4, 5)
    (holes,) = (row.bytes for row in few.rows if row.name.startswith("holes"))
    assert few.rows[-1].name.endswith("features")
    assert holes == round(1.5 * 900) - 1000
    assert [step.holes_share(batch) for batch in (1, 4, 6, 8, 9)] == [0.5, 0.5, 0.3, 0.1, 0.1]
    assert manifest.memory.predict.holes_share(4) == 0.0


def test_the_step_sets_the_peak_of_larger_batches(manifest: Manifest) -> None:
    plan = memory.plan(manifest, batch=32, classes=5, micro_batch=1)
    assert plan.rows[-1].name.endswith("train_step")
    assert plan.rows[-1].bytes == 7 + 3200 + 50 + 160


def test_loading_sets_the_peak_of_a_large_prefix_that_runs_in_little(manifest: Manifest) -> None:
    large = replace(manifest.memory, features=GraphMemory(50_000, ((0, 1000, 0, 0),)))
    plan = memory.plan(replace(manifest, memory=large), batch=4, classes=5)
    assert (plan.rows[-1].name, plan.rows[-1].bytes) == ("while features load", 2 * 50_000)
    elsewhere = memory.plan(replace(manifest, memory=large), 4, 5, runtime="torchscript")
    assert elsewhere.rows[-1].name.startswith("activations")


def test_a_micro_batch_counts_in_features_alone(manifest: Manifest) -> None:
    one, four = (memory.plan(manifest, 4, 5, micro_batch) for micro_batch in (1, 4))
    assert four.rows[:-4] == one.rows[:-4]
    assert four.rows[-4].bytes == one.rows[-4].bytes + 3 * (3 * 8 * 8 * 4)
    assert four.rows[-1].bytes == 4 * one.rows[-1].bytes


def test_planned_and_measured_have_a_column_each(manifest: Manifest) -> None:
    plan = memory.plan(manifest, 4, 5)
    lines = memory.table(plan, measured_peak=61_500_000).splitlines()
    planned_end = lines[0].index("planned MB") + len("planned MB")
    for row, line in zip(plan.rows, lines[1:]):
        has_planned = bool(line[34:planned_end].strip())
        has_measured = bool(line[planned_end:].strip())
        assert (has_planned, has_measured) == (row.kind == "planned", row.kind == "measured")
    assert lines[-1].split()[-2:] == ["1.1", "61.5"]
    assert memory.table(plan).splitlines()[-1].split()[-1] == "1.1"


@pytest.mark.parametrize("runtime", ["executorch", "torchscript"])
def test_what_a_runtime_states_counts_before_the_stock_graphs(
    manifest: Manifest, runtime: str
) -> None:
    """An ExecuTorch arena is fixed; a program of TorchScript grows with N and K."""
    stated = {"features": ((4000, 0, 0, 0),), "train_step": ((0, 3000, 0, 0), (90_000, 0, 2, 1))}
    files = RuntimeFiles({}, None, None, stated)
    told = replace(manifest, runtimes={runtime: files})
    plain, other = (memory.plan(m, 4, 5, 1, runtime) for m in (manifest, told))
    assert plain.rows[:-1] == other.rows[:-1]
    assert (other.rows[-1].name, other.rows[-1].bytes) == (
        "activations, largest in train_step", 90_000 + 2 * 5 + 20,
    )  # fmt: skip
    # What it is silent about is planned from the graphs.
    assert told.peak_bytes(runtime, "predict", 4, 5) == manifest.memory.predict.peak_bytes(4, 5)
    # What one runtime states is not said of another.
    assert memory.plan(told, 4, 5).rows[-1].bytes == memory.plan(manifest, 4, 5).rows[-1].bytes
