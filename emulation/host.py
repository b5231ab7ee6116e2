"""What an emulated board takes from the machine it runs on: a cache folder, the package index."""

from __future__ import annotations

import fcntl
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

INDEX_SETTINGS = {"index-url": "PIP_INDEX_URL", "extra-index-url": "PIP_EXTRA_INDEX_URL"}
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
TIMEOUT_S = 20


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/mobiletl/emulation`, by default below `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "mobiletl" / "emulation"


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold `file` as a lock: two runs must not build the same thing at once."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def package_index() -> dict[str, str]:
    """pip's environment variables for the index that the host uses; empty for pip's own.

    Folders on the host's disk are left out: the board can't see them, and their wheels are x86's.
    """
    found = {name: os.environ[name] for name in PROXIES if name in os.environ}
    for setting, variable in INDEX_SETTINGS.items():
        command = [sys.executable, "-m", "pip", "config", "get", f"global.{setting}"]
        asked = subprocess.run(command, capture_output=True, text=True, check=False)
        named = os.environ.get(variable, asked.stdout)
        urls = [url for url in named.split() if url.startswith(("http:", "https:"))]
        if urls:
            found[variable] = " ".join(urls)
    return found


def certificates() -> Path | None:
    """The host's certificate authorities, with those that an administrator added."""
    file = os.environ.get("PIP_CERT") or ssl.get_default_verify_paths().cafile
    return Path(file).resolve() if file and Path(file).exists() else None


def index_answers() -> bool:
    """Whether pip, told no more than a board is told, finds the runtime."""
    settings = {k: v for k, v in os.environ.items() if not k.startswith("PIP_") or k == "PIP_CERT"}
    settings.update(package_index(), PIP_CONFIG_FILE=os.devnull)
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "index", "versions"]
    command += ["onnxruntime", "--retries", "0", "--timeout", str(TIMEOUT_S)]
    return subprocess.run(command, env=settings, capture_output=True, check=False).returncode == 0
