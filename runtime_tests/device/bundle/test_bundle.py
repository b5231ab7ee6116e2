"""Opening a bundle: what is on disk against the manifest, and the state it starts from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.manifest_files import MANIFEST_LIMIT_BYTES
from mobiletl.device.errors import BadBundle, UsageError
from runtime_tests.support.board.tiny_bundle import (
    BIAS,
    MEAN,
    STATE,
    WEIGHT,
    tiny_document,
    write_manifest,
    write_tiny_bundle,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "tiny", graphs=False)


def test_an_intact_bundle_opens(folder: Path) -> None:
    bundle = open_bundle(str(folder))
    assert bundle.path == folder
    assert bundle.manifest.model.name == "tiny"
    assert bundle.file("state.safetensors").is_file()


def test_files_that_are_not_listed_are_ignored(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    assert "notes.txt" not in open_bundle(folder).manifest.files


def test_a_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BadBundle, match="is not a bundle"):
        open_bundle(tmp_path)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "state.safetensors").unlink()
    with pytest.raises(BadBundle, match=r"state\.safetensors is missing"):
        open_bundle(folder)


def test_a_truncated_file_is_named(folder: Path) -> None:
    file = folder / "state.safetensors"
    size = file.stat().st_size
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(BadBundle, match=f"has {size - 1} bytes, not {size}"):
        open_bundle(folder)


def test_one_changed_bit_is_noticed(folder: Path) -> None:
    file = folder / "state.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(BadBundle, match="another SHA-256"):
        open_bundle(folder)


def test_every_bad_file_is_reported(folder: Path) -> None:
    (folder / "a.txt").write_text("a")
    (folder / "b.txt").write_text("b")
    document = tiny_document(folder)
    del document["files"]["manifest.json"]
    write_manifest(folder, document)
    (folder / "a.txt").unlink()
    (folder / "b.txt").write_text("c")
    with pytest.raises(BadBundle, match=r"a\.txt is missing; b\.txt has another SHA-256"):
        open_bundle(folder)


def test_a_link_out_of_the_folder_is_refused(folder: Path) -> None:
    outside = folder.parent / "outside"
    (folder / "state.safetensors").rename(outside)
    (folder / "state.safetensors").symlink_to(outside)
    with pytest.raises(BadBundle, match=r"state\.safetensors is a link"):
        open_bundle(folder)


def test_a_folder_in_place_of_a_file_is_missing(folder: Path) -> None:
    (folder / "state.safetensors").unlink()
    (folder / "state.safetensors").mkdir()
    with pytest.raises(BadBundle, match="is a folder, expected a file"):
        open_bundle(folder)


def test_a_manifest_that_is_no_text_is_refused(folder: Path) -> None:
    (folder / "manifest.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadBundle, match="cannot be read"):
        open_bundle(folder)


def test_a_huge_manifest_is_not_read(folder: Path) -> None:
    with (folder / "manifest.json").open("wb") as stream:
        stream.truncate(MANIFEST_LIMIT_BYTES + 1)
    with pytest.raises(BadBundle, match="expected at most 4000000"):
        open_bundle(folder)


def test_a_newer_bundle_names_who_made_it(folder: Path) -> None:
    newer = {"format": "mobiletl-bundle", "version": 7, "created_by": "mobiletl 3.1"}
    (folder / "manifest.json").write_text(json.dumps(newer))
    with pytest.raises(BadBundle, match=r"version 7, made by 'mobiletl 3\.1'"):
        open_bundle(folder)


def test_initial_state_follows_the_manifest(folder: Path) -> None:
    state = open_bundle(folder).initial_state(3, seed=0)
    assert list(state) == [entry["name"] for entry in STATE]
    assert all(array.dtype == np.float32 for array in state.values())
    np.testing.assert_array_equal(state[MEAN], np.linspace(-0.1, 0.1, 6, dtype=np.float32))
    assert not state[BIAS].any()
    expected = np.random.default_rng(0).normal(0.0, 0.01, (3, 6)).astype(np.float32)
    np.testing.assert_array_equal(state[WEIGHT], expected)


def test_a_seed_names_one_state(folder: Path) -> None:
    bundle = open_bundle(folder)
    first, again, other = (bundle.initial_state(4, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first[WEIGHT], again[WEIGHT])
    assert (first[WEIGHT] != other[WEIGHT]).any()


def test_one_class_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="at least 2"):
        open_bundle(folder).initial_state(1, seed=0)


@pytest.mark.parametrize(
    ("stored", "named"),
    [
        ({MEAN: np.zeros(5, np.float32)}, MEAN),
        ({MEAN: np.zeros(6, np.float32), "more": np.zeros(1, np.float32)}, "more"),
        ({"other": np.zeros(6, np.float32)}, "other"),
        ({MEAN: np.zeros(6, np.float64)}, "F64"),
    ],
)
def test_stored_state_must_be_exactly_what_the_manifest_says(
    folder: Path, stored: dict[str, np.ndarray], named: str
) -> None:
    save_file(stored, str(folder / "state.safetensors"))
    reseal(folder)
    with pytest.raises(BadBundle, match=named):
        open_bundle(folder).initial_state(3, seed=0)


def test_stored_state_that_is_no_safetensors_is_refused(folder: Path) -> None:
    (folder / "state.safetensors").write_bytes(b"\x80\x04not a header")
    reseal(folder)
    with pytest.raises(BadBundle, match="cannot be read"):
        open_bundle(folder).initial_state(3, seed=0)


def reseal(folder: Path) -> None:
    """Make a bundle whose checksums are right and whose content is not."""
    (folder / "manifest.json").unlink()
    write_manifest(folder, tiny_document(folder))
