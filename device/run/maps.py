"""Which feature maps a run finds when it begins, and which it leaves for the next one."""

from __future__ import annotations

import contextlib
from pathlib import Path

from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.features.replay import begin_memory, discard_memory, keep_memory
from mobiletl.device.features.store import store_path
from mobiletl.device.run.opening import Opened
from mobiletl.device.run.options import Options


def take_over(opened: Opened, manifest: Manifest) -> None:
    """Take over what the former run kept of its pictures, and nothing else."""
    folder, former = opened.folder.path, opened.former
    if opened.checkpoint is None:
        discard_memory(folder, manifest)
    if former is not None:
        begin_memory(former.run, folder, manifest, former.renamed)


def leave(options: Options, opened: Opened, manifest: Manifest) -> None:
    """Keep maps of this run's pictures for the next one, and free the disk of the others."""
    cache = store_path(cache_folder(options, opened), manifest)
    keep_memory(opened.folder.path, manifest, cache, opened.dataset, options.replay_bytes)
    if options.cache is None:
        with contextlib.suppress(OSError):
            cache.unlink()


def cache_folder(options: Options, opened: Opened) -> Path:
    """Return where maps are while the run trains."""
    return options.cache or opened.folder.path
