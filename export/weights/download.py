"""Published weights: downloaded once, checked by their hash, kept in the user's cache."""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from mobiletl.core.errors import BadWeights, NoNetwork, NoSpace

_LOG = logging.getLogger(__name__)
_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class PublishedFile:
    """A file on the web whose SHA-256, in hex, starts with `sha256_prefix`."""

    url: str
    sha256_prefix: str

    @property
    def name(self) -> str:
        """The file's own name, the last part of the address."""
        return self.url.rpartition("/")[2]


# torchvision's newest ImageNet weights of each backbone that it has, by our name. The names of the
# files carry the first digits of their SHA-256 (torch.hub checks the same).
_TORCHVISION = "https://download.pytorch.org/models"
IMAGENET: Mapping[str, PublishedFile] = MappingProxyType(
    {
        "mbv2": PublishedFile(f"{_TORCHVISION}/mobilenet_v2-7ebf99e0.pth", "7ebf99e0"),
        "mbv3-small": PublishedFile(f"{_TORCHVISION}/mobilenet_v3_small-047dcff4.pth", "047dcff4"),
        "mbv3-large": PublishedFile(f"{_TORCHVISION}/mobilenet_v3_large-5c1a4163.pth", "5c1a4163"),
    }
)


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/mobiletl`, by default `~/.cache/mobiletl`; not created here."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification has relative paths ignored.
    return (Path(root) if Path(root).is_absolute() else Path.home() / ".cache") / "mobiletl"


def fetch(published: PublishedFile, folder: Path) -> Path:
    """The path of the file in `folder`, downloaded if it is not there or not as published.

    Raises NoNetwork if the download fails, BadWeights if what came has another hash, NoSpace if
    it can't be kept.
    """
    path = folder / published.name
    try:
        if _matches(path.read_bytes(), published):
            return path
        _LOG.warning("%s is damaged, downloading it again", path)
    except FileNotFoundError:
        _LOG.info("downloading %s", published.url)
    except OSError as error:
        raise NoSpace(f"can't read {path} ({error.strerror}); set XDG_CACHE_HOME") from error
    content = _download(published)
    try:
        _write_whole(path, content)
    except OSError as error:
        raise NoSpace(
            f"can't keep {len(content)} bytes in {folder} ({error.strerror}); "
            "free some space or set XDG_CACHE_HOME to another folder"
        ) from error
    return path


def _matches(content: bytes, published: PublishedFile) -> bool:
    return hashlib.sha256(content).hexdigest().startswith(published.sha256_prefix)


def _download(published: PublishedFile) -> bytes:
    try:
        with urllib.request.urlopen(published.url, timeout=_TIMEOUT_S) as response:
            content: bytes = response.read()
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is the response, and holds its socket
        raise NoNetwork(
            f"can't download {published.url} ({reason}); without a network use "
            "--weights demo, --weights none or --weights PATH"
        ) from error
    if not _matches(content, published):
        found = hashlib.sha256(content).hexdigest()
        raise BadWeights(
            f"{published.url}: the {len(content)} bytes that came have SHA-256 {found[:16]}..., "
            f"expected {published.sha256_prefix}...; try again, or on another network"
        )
    return content


def _write_whole(path: Path, content: bytes) -> None:
    """All of it or nothing: a file beside `path`, then a rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=path.name, suffix=".part", dir=path.parent)
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
