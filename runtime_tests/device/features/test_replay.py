"""What a run keeps of its pictures: as many of each class, and many pictures before many views."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.features.quantised import NARROW, WIDE
from mobiletl.device.features.replay import (
    HEADER_BYTES,
    begin_memory,
    chosen,
    keep_memory,
    kept_parts,
    memory_path,
)
from mobiletl.device.features.store import FeatureStore, StoredMap, store_path
from mobiletl.device.pictures.dataset import Dataset, Picture
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle

SIZE = 100


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = tmp_path_factory.mktemp("bundle")
    return open_bundle(write_tiny_bundle(folder, graphs=False)).manifest


def stored_maps(counts: dict[str, int], views: int) -> list[StoredMap]:
    return [
        StoredMap(f"{name}-{number}", view, name, 0, SIZE)
        for name, count in counts.items()
        for number in range(count)
        for view in range(views)
    ]


def test_every_class_keeps_as_many() -> None:
    taken = chosen(stored_maps({"ant": 100, "bee": 10, "cat": 4}, 1), 24 * SIZE)
    assert Counter(one.class_name for one in taken) == {"ant": 10, "bee": 10, "cat": 4}


@pytest.mark.parametrize("limit", [0, 99, 100, 250, 1399, 1400, 10**9])
def test_the_limit_is_kept_and_used(limit: int) -> None:
    maps = stored_maps({"ant": 5, "bee": 2}, 2)
    taken = chosen(maps, limit)
    assert sum(one.length for one in taken) <= limit
    assert len(taken) == min(limit // SIZE, len(maps))
    assert len(set(taken)) == len(taken)


def test_one_view_of_many_pictures_comes_first() -> None:
    maps = stored_maps({"ant": 10, "bee": 10}, 6)
    taken = chosen(maps, 20 * SIZE)
    assert len({one.picture for one in taken}) == 20
    assert {one.view for one in taken} == {0}
    taken = chosen(maps, 30 * SIZE)
    assert Counter(one.view for one in taken) == {0: 20, 1: 10}


def test_pictures_that_stay_go_on_staying() -> None:
    """A run after another, each with ten new pictures: what is left of old ones only shrinks."""
    maps = stored_maps({"ant": 10}, 1)
    before = set(chosen(maps, 8 * SIZE))
    more = [StoredMap(f"new-{number}", 0, "ant", 0, SIZE) for number in range(10)]
    after = set(chosen([*before, *more], 8 * SIZE))
    assert after - set(more) <= before
    assert after == set(chosen([*maps, *more], 8 * SIZE))


def identity(number: int) -> str:
    return f"{number:064x}"


def fill(path: Path, manifest: Manifest, maps: dict[tuple[int, int], str]) -> None:
    """Write maps of (picture, view) in a class."""
    with FeatureStore(path, manifest) as store:
        for (number, view), name in maps.items():
            h = np.full((6, 2, 2), number + view / 8, np.float32)
            store.add(identity(number), view, name, store.codec.encode(h))


def read(path: Path, manifest: Manifest) -> dict[tuple[int, int], str]:
    with FeatureStore(path, manifest) as store:
        found = {(int(one.picture, 16), one.view): one.class_name for one in store.maps()}
        for number, view in found:
            out = np.empty((6, 2, 2), np.float32)
            assert store.read(identity(number), view, out)
            assert (out == np.float32(number + view / 8)).all()
    return found


def test_pictures_that_are_gone_train_and_validate(tmp_path: Path, manifest: Manifest) -> None:
    maps = {(number, view): "ant" for number in range(20) for view in (0, 2)}
    maps.update({(number, 0): "bee" for number in range(20, 30)})
    fill(tmp_path / "m.store", manifest, maps)
    with FeatureStore(tmp_path / "m.store", manifest) as memory:
        found = kept_parts(memory, {identity(3), identity(29)}, ("ant", "bee"), {}, 0.2)
    train = {int(one.picture, 16) for one in found.train}
    val = {int(one.picture, 16) for one in found.val}
    assert train | val == {*range(20), *range(20, 30)} - {3, 29}
    assert not train & val
    assert len(val & set(range(20))) == round(0.2 * 19)
    assert len(val & set(range(20, 30))) == round(0.2 * 9)
    assert found.counts() == {"ant": 19, "bee": 9}
    for one in (*found.train, *found.val):
        ant = int(one.picture, 16) < 20
        assert one.views == ((0, 2) if ant else (0,))
        assert (one.class_name, one.label) == (("ant", 0) if ant else ("bee", 1))


def test_pictures_that_validated_before_validate_again(tmp_path: Path, manifest: Manifest) -> None:
    """Trained pictures have several views, those that validated the central one alone."""
    maps = {(number, view): "ant" for number in range(8) for view in range(3)}
    maps.update({(number, 0): "ant" for number in (8, 9)})
    fill(tmp_path / "m.store", manifest, maps)
    with FeatureStore(tmp_path / "m.store", manifest) as memory:
        found = kept_parts(memory, (), ("ant",), {}, 0.2)
    assert {int(one.picture, 16) for one in found.val} == {8, 9}


def test_maps_have_their_new_class_or_none(tmp_path: Path, manifest: Manifest) -> None:
    fill(tmp_path / "m.store", manifest, {(1, 0): "ant", (2, 0): "bee", (3, 0): "cat"})
    with FeatureStore(tmp_path / "m.store", manifest) as memory:
        renamed = {"ant": "wasp", "bee": None}
        found = kept_parts(memory, (), ("cat", "wasp"), renamed, 0.2)
        assert found.counts() == {"cat": 1, "wasp": 1}
        assert kept_parts(memory, (), ("dog",), {}, 0.2).counts() == {}


def test_a_damaged_map_counts_for_nothing(tmp_path: Path, manifest: Manifest) -> None:
    path = tmp_path / "m.store"
    fill(path, manifest, {(1, 0): "ant", (1, 1): "ant", (2, 0): "ant"})
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with FeatureStore(path, manifest) as memory:
        found = kept_parts(memory, (), ("ant",), {}, 0.2)
    assert [(int(one.picture, 16), one.views) for one in found.train] == [(1, (0, 1))]


def dataset_of(pictures: dict[str, str]) -> Dataset:
    """Return files `path` of a class; each has its own number of bytes."""
    names = tuple(sorted(set(pictures.values())))
    files = [Picture(p, names.index(c), n, 0) for n, (p, c) in enumerate(pictures.items())]
    return Dataset(Path("photos"), names, tuple(files), (), (), ())


def test_a_run_begins_with_what_the_former_kept(tmp_path: Path, manifest: Manifest) -> None:
    former, folder = tmp_path / "former", tmp_path / "folder"
    begin_memory(former, folder, manifest, {})
    assert not folder.exists(), "nothing was kept"
    fill(memory_path(former, manifest), manifest, {(1, 0): "ant", (2, 0): "bee", (3, 0): "cat"})
    before = memory_path(former, manifest).read_bytes()
    folder.mkdir()
    begin_memory(former, folder, manifest, {"ant": "wasp", "bee": None})
    expected = {(1, 0): "wasp", (3, 0): "cat"}
    assert read(memory_path(folder, manifest), manifest) == expected
    assert memory_path(former, manifest).read_bytes() == before
    assert [file.name for file in folder.iterdir()] == [memory_path(folder, manifest).name]


def test_a_run_keeps_its_own_pictures_and_those_it_began_with(
    tmp_path: Path, manifest: Manifest
) -> None:
    """Others use the same cache, and a picture has moved to another class since it was read."""
    cache = store_path(tmp_path / "cache", manifest)
    fill(cache, manifest, {(1, 0): "ant", (1, 1): "ant", (2, 0): "ant", (7, 0): "ant"})
    data = dataset_of({"ant/1.png": "ant", "bee/2.png": "bee"})
    with FeatureStore(cache, manifest) as store:
        for file, number in zip(data.train, (1, 2)):
            store.remember(file, identity(number))
    path = memory_path(tmp_path, manifest)
    fill(path, manifest, {(5, 0): "bee", (6, 0): "gone", (2, 3): "ant"})
    keep_memory(tmp_path, manifest, cache, data, 10**6)
    expected = {(1, 0): "ant", (1, 1): "ant", (2, 0): "bee", (2, 3): "bee", (5, 0): "bee"}
    assert read(path, manifest) == expected
    with FeatureStore(path, manifest) as memory:
        assert [memory.picture_of(file) for file in data.train] == [identity(1), identity(2)]
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("begun", [True, False])
def test_a_run_may_keep_nothing(tmp_path: Path, manifest: Manifest, begun: bool) -> None:
    data = dataset_of({"ant/1.png": "ant"})
    path = memory_path(tmp_path, manifest)
    if begun:
        fill(path, manifest, {(5, 0): "ant"})
    cache = store_path(tmp_path, manifest)
    keep_memory(tmp_path, manifest, cache, data, 0)
    assert not path.exists()
    assert not cache.exists()


def test_without_a_cache_there_is_what_it_began_with(tmp_path: Path, manifest: Manifest) -> None:
    data = dataset_of({"ant/1.png": "ant"})
    cache, path = store_path(tmp_path, manifest), memory_path(tmp_path, manifest)
    keep_memory(tmp_path, manifest, cache, data, 10**6)
    assert list(tmp_path.iterdir()) == []
    fill(path, manifest, {(5, 0): "ant"})
    keep_memory(tmp_path, manifest, cache, data, 10**6)
    assert read(path, manifest) == {(5, 0): "ant"}
    assert not cache.exists()


def test_the_file_stays_within_the_limit(tmp_path: Path, manifest: Manifest) -> None:
    cache = store_path(tmp_path / "cache", manifest)
    fill(cache, manifest, {(n, v): "ant" for n in range(30) for v in range(3)})
    data = dataset_of({f"ant/{number}.png": "ant" for number in range(30)})
    with FeatureStore(cache, manifest) as store:
        for number, file in enumerate(data.train):
            store.remember(file, identity(number))
        size = next(iter(store.maps())).length
    limit = 40 * size
    keep_memory(tmp_path, manifest, cache, data, limit)
    path = memory_path(tmp_path, manifest)
    assert Counter(view for _, view in read(path, manifest)) == {0: 30, 1: 9}
    assert limit - 2 * size - HEADER_BYTES < path.stat().st_size <= limit


def test_maps_are_kept_in_four_bits_where_eight_leave_no_room(
    tmp_path: Path, manifest: Manifest
) -> None:
    cache = store_path(tmp_path / "cache", manifest)
    fill(cache, manifest, {(n, 0): "ant" for n in range(30)})
    data = dataset_of({f"ant/{number}.png": "ant" for number in range(30)})
    with FeatureStore(cache, manifest) as store:
        for number, file in enumerate(data.train):
            store.remember(file, identity(number))
    path = memory_path(tmp_path, manifest)
    for limit, bits in ((10**6, WIDE), (5000, NARROW), (10**6, NARROW)):
        keep_memory(tmp_path, manifest, cache, data, limit)
        cache.unlink(missing_ok=True) if bits == NARROW else None
        with FeatureStore(path, manifest, writes=False) as store:
            maps = list(store.maps())
            assert {one.bits for one in maps} == {bits}
            for one in maps:
                h = np.empty(manifest.feature.shape, np.float32)
                assert store.read(one.picture, one.view, h)
                assert store.sound(one)
