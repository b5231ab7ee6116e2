"""What a run says it has written is what the system counts."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from mobiletl.device.bundle.records import own_token
from mobiletl.device.bundle.replacing import replacing, sync_file
from mobiletl.device.bundle.wear import NO_WEAR, Wear, count, sync, wear, write_all
from mobiletl.device.run.library import train
from runtime_tests.support.board.picture_folders import write_pictures
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle

IO = Path("/proc/self/io")


def written_by_system() -> int:
    """Bytes that this process has given to write(2) and its relatives."""
    return int(IO.read_text().split("wchar: ")[1].split()[0])


@pytest.mark.skipif(not IO.exists(), reason="this system doesn't count a process's writes")
@pytest.mark.parametrize("use_cache", [True, False])
def test_a_run_counts_what_the_system_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use_cache: bool
) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", graphs=False)
    photos = write_pictures(tmp_path / "photos", {"ant": 8, "bee": 8})
    own_token()  # which is written once for each user
    synced = []
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: (synced.append(descriptor), real(descriptor))
    )
    before = written_by_system()
    outcome = train(
        bundle, photos, tmp_path / "run", runtime="fake", epochs=3, batch=4, threads=1,
        use_cache=use_cache, save_budget=None,
    )  # fmt: skip
    after = written_by_system()
    # The event that tells the sum, which is the last line, is not in it; the outcome has it.
    assert outcome.wear == Wear(after - before, len(synced))
    assert outcome.wear.bytes > 20_000
    assert outcome.wear.fsyncs > 20


def test_all_that_writes_counts(tmp_path: Path) -> None:
    before = wear()
    with replacing(tmp_path / "file") as stream:
        stream.write(b"x" * 100_000)
    assert wear().since(before) == Wear(100_000, 2)  # the file and its folder
    descriptor = os.open(str(tmp_path / "file"), os.O_WRONLY)
    write_all(descriptor, b"yy")
    sync(descriptor)
    os.close(descriptor)
    sync_file(tmp_path / "file")
    sync_file(tmp_path / "missing")
    assert wear().since(before) == Wear(100_002, 4)


def test_each_thread_has_sums_of_its_own() -> None:
    before, found = wear(), []

    def body() -> None:
        count(7)
        found.append(wear())

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert found == [Wear(7, 0)]
    assert wear().since(before) == NO_WEAR
