"""The store of feature maps: what is cut off, changed or of another bundle is never read."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobiletl.device.bundle.arrays import Floats
from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.errors import NoSpace
from mobiletl.device.features.quantised import Codec
from mobiletl.device.features.store import _HEAD, FeatureStore, store_path
from mobiletl.device.pictures.dataset import Picture
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle

ONE, TWO, THREE = "1" * 64, "2" * 64, "3" * 64
FILE = Picture("ant/000.png", 0, 812, 1_600_000_000_123_456_789)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = tmp_path_factory.mktemp("bundle")
    return open_bundle(write_tiny_bundle(folder, graphs=False)).manifest


@pytest.fixture
def path(tmp_path: Path, manifest: Manifest) -> Path:
    return store_path(tmp_path / "new" / "folder", manifest)


def map_of(picture: str, view: int) -> Floats:
    return np.random.default_rng((int(picture[0]), view)).normal(size=(6, 2, 2)).astype(np.float32)


def add(store: FeatureStore, picture: str, view: int, class_name: str = "ant") -> None:
    store.add(picture, view, class_name, store.codec.encode(map_of(picture, view)))


def read(store: FeatureStore, picture: str, view: int) -> Floats | None:
    out = np.full((6, 2, 2), np.nan, np.float32)
    return out if store.read(picture, view, out) else None


def assert_sound(store: FeatureStore, picture: str, view: int) -> None:
    assert store.has(picture, view)
    found = read(store, picture, view)
    assert found is not None
    expected = np.empty_like(found)
    store.codec.decode(store.codec.encode(map_of(picture, view)), expected)
    np.testing.assert_array_equal(found, expected)


def views(store: FeatureStore) -> list[tuple[str, int, str]]:
    return [(stored.picture, stored.view, stored.class_name) for stored in store.maps()]


def written(path: Path, manifest: Manifest) -> list[int]:
    """Write three maps and a file, and return where each of the five records begins."""
    with FeatureStore(path, manifest) as store:
        ends = [path.stat().st_size]
        for picture, view in ((ONE, 0), (ONE, 4), (TWO, 1)):
            add(store, picture, view)
            ends.append(path.stat().st_size)
        store.remember(FILE, ONE)
    return [0, *ends]


def test_what_was_added_is_there_in_the_next_run(path: Path, manifest: Manifest) -> None:
    with FeatureStore(path, manifest) as store:
        add(store, ONE, 3)
        add(store, TWO, 0, "it's \udcff \u65e5\u672c")
        add(store, ONE, 0)
        assert_sound(store, ONE, 3)
        store.remember(FILE, TWO)
        store.flush()
    with FeatureStore(path, manifest) as store:
        for picture, view in ((ONE, 3), (TWO, 0), (ONE, 0)):
            assert_sound(store, picture, view)
        assert views(store) == [
            (ONE, 0, "ant"),
            (ONE, 3, "ant"),
            (TWO, 0, "it's \udcff \u65e5\u672c"),
        ]
        assert store.picture_of(FILE) == TWO
        assert not store.has(ONE, 1)
        assert read(store, ONE, 1) is None
        assert read(store, THREE, 0) is None


def test_a_file_that_has_changed_is_another_picture(path: Path, manifest: Manifest) -> None:
    with FeatureStore(path, manifest) as store:
        store.remember(FILE, ONE)
        for changed in (
            Picture("ant/001.png", 0, FILE.bytes, FILE.mtime_ns),
            Picture(FILE.path, 0, FILE.bytes + 1, FILE.mtime_ns),
            Picture(FILE.path, 0, FILE.bytes, FILE.mtime_ns + 1),
        ):
            assert store.picture_of(changed) is None
        assert store.picture_of(Picture(FILE.path, 5, FILE.bytes, FILE.mtime_ns)) == ONE


def test_the_later_of_two_maps_counts(path: Path, manifest: Manifest) -> None:
    with FeatureStore(path, manifest) as store:
        store.add(ONE, 0, "ant", store.codec.encode(map_of(TWO, 0)))
        add(store, ONE, 0, "bee")
    with FeatureStore(path, manifest) as store:
        assert_sound(store, ONE, 0)
        assert views(store) == [(ONE, 0, "bee")]


def test_a_torn_tail_is_cut_off(path: Path, manifest: Manifest) -> None:
    written(path, manifest)
    begin = path.stat().st_size
    with FeatureStore(path, manifest) as store:
        add(store, THREE, 2)
    whole = path.read_bytes()
    for size in range(begin, len(whole)):
        path.write_bytes(whole[:size])
        with FeatureStore(path, manifest) as store:
            assert path.stat().st_size == begin
            assert views(store) == [(ONE, 0, "ant"), (ONE, 4, "ant"), (TWO, 1, "ant")]
            assert store.picture_of(FILE) == ONE
            assert_sound(store, TWO, 1)
            add(store, THREE, 2)
        assert path.read_bytes() == whole


@pytest.mark.parametrize("size", [0, 1, 17, 30])
def test_a_file_cut_in_its_first_record_begins_afresh(
    path: Path, manifest: Manifest, size: int
) -> None:
    first = written(path, manifest)[1]
    assert size < first
    sound = path.read_bytes()
    path.write_bytes(sound[:size])
    with FeatureStore(path, manifest) as store:
        assert views(store) == []
    assert path.read_bytes() == sound[:first]


def test_a_flipped_bit_in_the_data_makes_one_map_missing(path: Path, manifest: Manifest) -> None:
    begins = written(path, manifest)
    sound = path.read_bytes()
    size = Codec(manifest.feature.shape).size
    for place in range(begins[3] - size, begins[3]):  # the data of the second map
        path.write_bytes(flipped(sound, place))
        with FeatureStore(path, manifest) as store:
            damaged = list(store.maps())[1]
            assert (damaged.picture, damaged.view) == (ONE, 4)
            assert not store.sound(damaged)
            assert read(store, ONE, 4) is None
            assert not store.has(ONE, 4)
            assert_sound(store, ONE, 0)
            assert_sound(store, TWO, 1)
    with FeatureStore(path, manifest) as store:
        add(store, ONE, 4)
        assert_sound(store, ONE, 4)
    with FeatureStore(path, manifest) as store:
        assert_sound(store, ONE, 4)


def test_a_flipped_bit_in_a_head_ends_the_file_there(path: Path, manifest: Manifest) -> None:
    begins = written(path, manifest)
    sound = path.read_bytes()
    size = Codec(manifest.feature.shape).size
    of_data = range(begins[2] + _HEAD.size - 4, begins[2] + _HEAD.size)
    for place in range(begins[2], begins[3] - size):  # all of the second map but its data
        path.write_bytes(flipped(sound, place))
        with FeatureStore(path, manifest) as store:
            assert_sound(store, ONE, 0)
            assert read(store, ONE, 4) is None
            if place in of_data:  # the checksum of the data: the next map is still found
                assert_sound(store, TWO, 1)
            else:
                assert views(store) == [(ONE, 0, "ant")]
                assert path.stat().st_size == begins[2]


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


@pytest.mark.parametrize("changed", [{"frozen": "6" * 64}, {"feature": {"shape": [6, 2, 1]}}])
def test_maps_of_another_bundle_are_not_read(
    path: Path, manifest: Manifest, tmp_path: Path, changed: dict[str, Any]
) -> None:
    written(path, manifest)
    other = open_bundle(write_tiny_bundle(tmp_path / "b", graphs=False, **changed)).manifest
    with FeatureStore(path, other) as store:
        assert views(store) == []
        assert store.picture_of(FILE) is None
    with FeatureStore(path, manifest) as store:
        assert views(store) == []


def test_a_file_of_something_else_begins_afresh(path: Path, manifest: Manifest) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no store at all" * 9)
    with FeatureStore(path, manifest) as store:
        add(store, ONE, 0)
    with FeatureStore(path, manifest) as store:
        assert_sound(store, ONE, 0)


def test_two_openings_append_to_the_same_file(path: Path, manifest: Manifest) -> None:
    with FeatureStore(path, manifest) as one, FeatureStore(path, manifest) as two:
        for view in range(4):
            add(one, ONE, view)
            add(two, TWO, view, "bee")
        for view in range(4):
            assert_sound(one, ONE, view)
            assert_sound(two, TWO, view)
    with FeatureStore(path, manifest) as store:
        assert len(views(store)) == 8
        for view in range(4):
            assert_sound(store, ONE, view)
            assert_sound(store, TWO, view)


def test_two_openings_may_begin_the_file_at_once(path: Path, manifest: Manifest) -> None:
    first = written(path, manifest)[1]
    content = path.read_bytes()
    path.write_bytes(content[:first] + content)
    with FeatureStore(path, manifest) as store:
        assert len(views(store)) == 3
        assert_sound(store, TWO, 1)


class Full:
    """A file on a disk with room for so many bytes."""

    def __init__(self, file: Any, room: int) -> None:
        self._file, self._room = file, room

    def write(self, content: bytes) -> int:
        if self._room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        count: int = self._file.write(content[: self._room])
        self._room -= count
        return count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.mark.parametrize("room", [0, 1, 40, 100])
def test_a_full_disk_loses_nothing(path: Path, manifest: Manifest, room: int) -> None:
    written(path, manifest)
    sound = path.read_bytes()
    store = FeatureStore(path, manifest)
    store._file = Full(store._file, room)  # type: ignore[assignment]
    wanted = r"cannot be written.*free space there.*--cache DIR.*--no-cache"
    with store, pytest.raises(NoSpace, match=wanted) as raised:
        add(store, THREE, 0)
    assert raised.value.exit_code == 6
    assert not store.has(THREE, 0)
    assert path.read_bytes()[: len(sound)] == sound
    with FeatureStore(path, manifest) as again:
        assert len(views(again)) == 3
        add(again, THREE, 0)
    assert path.read_bytes()[: len(sound)] == sound
    with FeatureStore(path, manifest) as again:
        assert_sound(again, THREE, 0)


def test_a_folder_that_cannot_be_made(tmp_path: Path, manifest: Manifest) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NoSpace, match="--no-cache"):
        FeatureStore(store_path(tmp_path / "file", manifest), manifest)


def test_copies_have_new_names_and_the_files_of_their_pictures(
    path: Path, manifest: Manifest, tmp_path: Path
) -> None:
    begins = written(path, manifest)
    path.write_bytes(flipped(path.read_bytes(), begins[3] - 1))
    with FeatureStore(path, manifest) as store:
        store.remember(Picture("bee/1.png", 1, 3, 4), TWO)
        with FeatureStore(tmp_path / "copy.store", manifest) as target:
            for stored in list(store.maps())[:2]:
                store.copy(stored, target, "wasp")
            store.copy_files(target)
            store.copy_files(target)
            # The damaged map is left behind, and so is a file of whose picture there is no map.
            assert views(target) == [(ONE, 0, "wasp")]
            assert_sound(target, ONE, 0)
            assert target.picture_of(FILE) == ONE
            assert target.picture_of(Picture("bee/1.png", 1, 3, 4)) is None
        with FeatureStore(tmp_path / "copy.store", manifest) as target:
            # What it knows already is not written again.
            store.copy_files(target)
            assert views(target) == [(ONE, 0, "wasp")]
            assert (tmp_path / "copy.store").read_bytes().count(b'"path"') == 1


def test_bytes_of_a_map_are_known_beforehand(path: Path, manifest: Manifest) -> None:
    with FeatureStore(path, manifest) as store:
        add(store, ONE, 0, "a class")
        (stored,) = store.maps()
        assert stored.length <= store.map_bytes <= stored.length + 60
