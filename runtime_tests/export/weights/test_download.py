"""Published weights: downloaded once, checked, kept; and each way that can fail."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from mobiletl.core.backbones import find_backbone
from mobiletl.core.backbones.mobilenetv2 import MobileNetV2
from mobiletl.core.errors import BadWeights, NoNetwork, NoSpace
from mobiletl.export.weights import loading as weights
from mobiletl.export.weights.download import IMAGENET, PublishedFile, cache_folder, fetch
from mobiletl.export.weights.loading import load_weights


class Quiet(SimpleHTTPRequestHandler):
    """Serves the current test's folder and counts what it was asked for."""

    asked: list[str]

    def log_message(self, format: str, *args: object) -> None:
        self.asked.append(self.path)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path, list[str]]]:
    """A web server on this machine: its address, the folder it serves, the paths asked for."""
    folder, asked = tmp_path / "site", list[str]()
    folder.mkdir()
    monkeypatch.setenv("no_proxy", "*")

    class Handler(Quiet):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

    Handler.asked = asked
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder, asked
        server.shutdown()
        thread.join()


def published(address: str, content: bytes) -> PublishedFile:
    """The published file `w.pth` whose name would carry the hash of `content`."""
    return PublishedFile(f"{address}/w.pth", hashlib.sha256(content).hexdigest()[:8])


def test_download_is_kept_and_asked_for_once(
    tmp_path: Path, site: tuple[str, Path, list[str]]
) -> None:
    address, folder, asked = site
    (folder / "w.pth").write_bytes(b"weights")
    for _ in range(2):
        path = fetch(published(address, b"weights"), tmp_path / "a" / "b")
        assert path.read_bytes() == b"weights"
    assert len(asked) == 1
    assert list((tmp_path / "a" / "b").iterdir()) == [path]


def test_damaged_cache_is_downloaded_again(
    tmp_path: Path, site: tuple[str, Path, list[str]]
) -> None:
    address, folder, _ = site
    (folder / "w.pth").write_bytes(b"weights")
    (tmp_path / "w.pth").write_bytes(b"weig")
    assert fetch(published(address, b"weights"), tmp_path).read_bytes() == b"weights"


def test_download_with_another_hash_is_refused_and_not_kept(
    tmp_path: Path, site: tuple[str, Path, list[str]]
) -> None:
    address, folder, _ = site
    (folder / "w.pth").write_bytes(b"a login page")
    with pytest.raises(BadWeights, match="the 12 bytes that came have SHA-256"):
        fetch(published(address, b"weights"), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_missing_page_names_the_alternatives(
    tmp_path: Path, site: tuple[str, Path, list[str]]
) -> None:
    with pytest.raises(NoNetwork) as caught:
        fetch(published(site[0], b"weights"), tmp_path)
    assert "(File not found)" in str(caught.value)
    assert "--weights demo, --weights none or --weights PATH" in str(caught.value)


def test_download_that_cannot_be_kept(tmp_path: Path, site: tuple[str, Path, list[str]]) -> None:
    address, folder, _ = site
    (folder / "w.pth").write_bytes(b"weights")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "w.pth").mkdir()
    with pytest.raises(NoSpace, match="XDG_CACHE_HOME"):
        fetch(published(address, b"weights"), tmp_path / "cache")


def test_imagenet_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")
    # The discard port: nothing listens there.
    unreachable = {"mbv2": PublishedFile("http://127.0.0.1:9/w.pth", "00")}
    monkeypatch.setattr(weights, "IMAGENET", unreachable)
    with pytest.raises(NoNetwork) as caught:
        load_weights("imagenet", "mbv2")
    message = str(caught.value)
    assert "\n" not in message
    assert "--weights demo, --weights none or --weights PATH" in message


def test_imagenet_takes_the_cached_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: tuple[str, Path, list[str]]
) -> None:
    address, folder, _ = site
    network = MobileNetV2(3)
    torch.save(network.state_dict(), folder / "w.pth")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    content = (folder / "w.pth").read_bytes()
    monkeypatch.setattr(weights, "IMAGENET", {"mbv2": published(address, content)})
    loaded = load_weights("imagenet", "mbv2")
    assert loaded is not None
    assert torch.equal(loaded["features.18.0.weight"], network.state_dict()["features.18.0.weight"])
    assert (tmp_path / "mobiletl" / "w.pth").is_file()


@pytest.mark.parametrize("model", IMAGENET)
def test_published_names_carry_their_own_hash(model: str) -> None:
    row = IMAGENET[model]
    assert row.name.endswith(f"-{row.sha256_prefix}.pth")
    assert find_backbone(model).width == 1.0


def test_cache_folder_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == tmp_path / ".cache" / "mobiletl"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    assert cache_folder() == tmp_path / "elsewhere" / "mobiletl"
