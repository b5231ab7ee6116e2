"""State files: round trips, two generations, damage, other bundles, full disks."""

from __future__ import annotations

import errno
import json
import logging
import os
import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.bundle.state_file import StateInfo, load_state, previous_generation, save_state
from mobiletl.device.bundle.stored_state import StoredState
from mobiletl.device.bundle.view import View
from mobiletl.device.errors import BadState, NoSpace
from runtime_tests.support.board.tiny_bundle import WEIGHT, write_tiny_bundle

CLASSES = ("cat", "dog, the second", "naïve ✓")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return open_bundle(write_tiny_bundle(tmp_path / "tiny", graphs=False))


@pytest.fixture
def info(bundle: Bundle) -> StateInfo:
    return StateInfo(
        fit=bundle.manifest.fit,
        class_names=CLASSES,
        epoch=2,
        step=17,
        seed=5,
        best_accuracy=0.75,
        settings={"lr": 0.01, "augment": True, "data": "photos/"},
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "state.safetensors"


def tensors(bundle: Bundle, seed: int = 0) -> Any:
    return bundle.initial_state(len(CLASSES), seed)


def test_round_trip(bundle: Bundle, info: StateInfo, path: Path) -> None:
    save_state(path, tensors(bundle), info)
    found, found_info = load_state(path, bundle.manifest)
    assert found_info == info
    assert set(found) == set(tensors(bundle))
    for name, array in tensors(bundle).items():
        np.testing.assert_array_equal(found[name], array)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_view_comes_back_and_is_left_out_where_nobody_knows(
    bundle: Bundle, info: StateInfo, path: Path
) -> None:
    seen = replace(info, view=View(90, (0.1, 0.0, 0.5, 0.75)))
    save_state(path, tensors(bundle), seen)
    assert load_state(path, bundle.manifest)[1] == seen
    save_state(path, tensors(bundle), info)
    with safe_open(str(path), framework="np") as file:
        assert "view" not in json.loads(file.metadata()["info"]), "as states were written before"


def test_the_file_is_what_the_library_would_read(
    bundle: Bundle, info: StateInfo, path: Path
) -> None:
    save_state(path, tensors(bundle), info)
    stored = load_file(str(path))
    for name, array in tensors(bundle).items():
        np.testing.assert_array_equal(stored[name], array)
    with safe_open(str(path), framework="np") as file:
        assert json.loads(file.metadata()["info"])["class_names"] == list(CLASSES)


def test_arrays_in_any_layout_and_scalars(bundle: Bundle, info: StateInfo, path: Path) -> None:
    state = tensors(bundle)
    state[WEIGHT] = np.asfortranarray(state[WEIGHT])
    save_state(path, {**state, "count": np.array(3, np.float32)}, info)
    stored = load_file(str(path))
    np.testing.assert_array_equal(stored[WEIGHT], state[WEIGHT])
    assert stored["count"].shape == ()


def test_a_name_that_is_no_utf8_survives(bundle: Bundle, info: StateInfo, path: Path) -> None:
    odd = replace(info, class_names=("cat", os.fsdecode(b"caf\xe9"), "dog"))
    save_state(path, tensors(bundle), odd)
    assert load_state(path, bundle.manifest)[1].class_names == odd.class_names


def test_a_folder_is_named_as_one(bundle: Bundle, info: StateInfo, path: Path) -> None:
    path.parent.mkdir()
    with pytest.raises(BadState, match=r"is a folder; name the file of a state"):
        load_state(path.parent, bundle.manifest)
    save_state(path.with_name("state.safetensors"), tensors(bundle), info)
    with pytest.raises(BadState, match=r"is a folder; name .*state\.safetensors, which is in it"):
        load_state(path.parent, bundle.manifest)


def test_two_generations_are_kept(bundle: Bundle, info: StateInfo, path: Path) -> None:
    for step in (1, 2, 3):
        save_state(path, tensors(bundle, seed=step), replace(info, step=step))
    assert load_state(path, bundle.manifest)[1].step == 3
    assert previous_generation(path).name == "state.previous.safetensors"
    assert load_state(previous_generation(path), bundle.manifest)[1].step == 2
    assert len(list(path.parent.iterdir())) == 2


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_tensor_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def change_info(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'\\"seed\\": 5', b'\\"seed\\": 6'))


@pytest.mark.parametrize("damage", [truncate, empty, flip_tensor_bit, change_info, Path.unlink])
def test_damage_falls_back_to_the_previous_generation(
    bundle: Bundle, info: StateInfo, path: Path, damage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    save_state(path, tensors(bundle, 1), replace(info, step=1))
    save_state(path, tensors(bundle, 2), replace(info, step=2))
    damage(path)
    with caplog.at_level(logging.WARNING):
        found, found_info = load_state(path, bundle.manifest)
    assert found_info.step == 1
    np.testing.assert_array_equal(found[WEIGHT], tensors(bundle, 1)[WEIGHT])
    assert "going on from state.previous.safetensors" in caplog.text


@pytest.mark.parametrize("damage", [truncate, empty, flip_tensor_bit, change_info, Path.unlink])
def test_damage_without_another_generation_is_an_error(
    bundle: Bundle, info: StateInfo, path: Path, damage: Any
) -> None:
    save_state(path, tensors(bundle), info)
    damage(path)
    with pytest.raises(BadState, match="no previous generation"):
        load_state(path, bundle.manifest)


@pytest.mark.parametrize("of", ["__init__", "digest"])
def test_a_disk_that_does_not_read_is_named_as_one(
    bundle: Bundle, info: StateInfo, path: Path, of: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_state(path, tensors(bundle), info)

    def refused(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(StoredState, of, refused)
    with pytest.raises(BadState, match=r"cannot be read \(Input/output error; .*dmesg"):
        load_state(path, bundle.manifest)


def test_two_damaged_generations_are_an_error(bundle: Bundle, info: StateInfo, path: Path) -> None:
    save_state(path, tensors(bundle), info)
    save_state(path, tensors(bundle), info)
    truncate(path)
    empty(previous_generation(path))
    with pytest.raises(BadState, match=r"state\.previous\.safetensors is damaged"):
        load_state(path, bundle.manifest)


def test_safetensors_of_another_program_are_refused(bundle: Bundle, path: Path) -> None:
    path.parent.mkdir()
    save_file(tensors(bundle), str(path))
    with pytest.raises(BadState, match=r"not a state of mobiletl \(format: missing"):
        load_state(path, bundle.manifest)


def test_a_state_of_another_bundle_is_refused(bundle: Bundle, info: StateInfo, path: Path) -> None:
    save_state(path, tensors(bundle), replace(info, fit="f" * 64))
    with pytest.raises(BadState, match="trained with another network than this bundle's"):
        load_state(path, bundle.manifest)


def test_tensors_for_another_class_count_are_refused(
    bundle: Bundle, info: StateInfo, path: Path
) -> None:
    save_state(path, bundle.initial_state(4, 0), info)
    with pytest.raises(BadState, match=r"float32 \[4, 6\], not float32 \[3, 6\]"):
        load_state(path, bundle.manifest)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_full_disk_leaves_both_generations(
    bundle: Bundle, info: StateInfo, path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    save_state(path, tensors(bundle, 1), replace(info, step=1))
    save_state(path, tensors(bundle, 2), replace(info, step=2))

    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(NoSpace, match=os.strerror(number)):
        save_state(path, tensors(bundle, 3), replace(info, step=3))
    assert load_state(path, bundle.manifest)[1].step == 2
    assert load_state(previous_generation(path), bundle.manifest)[1].step == 1
    assert len(list(path.parent.iterdir())) == 2


def test_a_system_that_really_refuses(bundle: Bundle, info: StateInfo, path: Path) -> None:
    save_state(path, tensors(bundle), info)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(NoSpace, match=r"File too large.*takes no file of that size"):
            save_state(path, tensors(bundle), info)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_file_in_place_of_the_folder(bundle: Bundle, info: StateInfo, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(NoSpace, match="cannot be written"):
        save_state(tmp_path / "run" / "state.safetensors", tensors(bundle), info)


def test_interrupting_a_write_leaves_nothing_half_written(
    bundle: Bundle, info: StateInfo, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_state(path, tensors(bundle), info)

    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_state(path, tensors(bundle, 9), info)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_saving_copies_no_state(bundle: Bundle, info: StateInfo, path: Path) -> None:
    import tracemalloc

    big = np.zeros(2_000_000, np.float32)
    tracemalloc.start()
    save_state(path, {"big": big}, info)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < big.nbytes / 10
