"""The manifests of a bundle: its own, and one for each further level (docs/bundle.md, levels).

A level's manifest lies under a name that follows from its number of blocks, so that no text of a
bundle becomes a path. The bundle's own manifest names it by its id, which covers all of it but what
was measured.
"""

from __future__ import annotations

from pathlib import Path

from mobiletl.device.bundle.manifest import Manifest, parse_manifest
from mobiletl.device.bundle.manifest_schema import MANIFEST_FILE
from mobiletl.device.bundle.outside_file import OddFile, inside_problem, read_outside
from mobiletl.device.bundle.schema import joined, shown
from mobiletl.device.errors import BadBundle

# A manifest of a few hundred state entries has about 100 kB; more is an accident or an attack.
MANIFEST_LIMIT_BYTES = 4_000_000


def read_manifest(folder: Path) -> Manifest:
    """Check and return the manifest of a bundle, whose other files are not looked at."""
    return parse_manifest(manifest_text(folder))


def manifest_text(folder: Path) -> bytes:
    """Return what `manifest.json` holds; raises BadBundle."""
    file = folder / MANIFEST_FILE
    try:
        return _read(file)
    except (FileNotFoundError, NotADirectoryError):
        raise BadBundle(
            f"{folder} is not a bundle: {file} not found. "
            "A bundle is the folder that `mobiletl export` writes"
        ) from None


def level_file(blocks: int) -> str:
    """Return where in a bundle the manifest of the level of so many blocks lies."""
    return f"levels/{blocks}.json"


def read_levels(folder: Path, manifest: Manifest) -> dict[int, Manifest]:
    """Return the manifests of all levels by blocks, the deepest first, `manifest` among them.

    A bundle of one level has none. Raises BadBundle for a level that is missing, is not the one
    that `manifest` names, is of another network, or has files that `manifest` does not list.
    """
    if not manifest.levels:
        return {}
    levels = {blocks: _level(folder, manifest, blocks) for blocks in manifest.levels}
    levels[manifest.method.blocks] = manifest
    return {blocks: levels[blocks] for blocks in sorted(levels, reverse=True)}


def _level(folder: Path, manifest: Manifest, blocks: int) -> Manifest:
    name = level_file(blocks)
    problem = inside_problem(folder, name)
    if problem:
        raise BadBundle(f"{folder / name} {problem}; copy the bundle again")
    try:
        content = _read(folder / name)
    except (FileNotFoundError, NotADirectoryError):
        raise BadBundle(
            f"{folder} is not the bundle that was exported: {name} is missing. "
            "Copy it to this board again"
        ) from None
    level = parse_manifest(content, name)
    if level.id != manifest.levels[blocks]:
        raise BadBundle(
            f"{folder} is not the bundle that was exported: {name} has another id than "
            f"{MANIFEST_FILE} names. Copy it to this board again"
        )
    problems = _differences(level, manifest, blocks)
    if problems:
        raise BadBundle(f"{folder / name} is no level of its bundle: {joined(problems)}")
    return level


def _differences(level: Manifest, manifest: Manifest, blocks: int) -> list[str]:
    """Say where a level is not another way to train the same network with the same files."""
    problems = []
    if level.method.blocks != blocks:
        problems.append(f"it has {level.method.blocks} blocks")
    if level.levels:
        problems.append("it names levels of its own")
    for what in ("model", "input", "embedding"):
        if getattr(level, what) != getattr(manifest, what):
            problems.append(f"its {what} is another than {MANIFEST_FILE}'s")
    if level.method.name != manifest.method.name:
        problems.append(f"its method is {shown(level.method.name)}")
    problems += [
        f"{shown(path)} is not in files of {MANIFEST_FILE}, or otherwise there"
        for path, record in level.files.items()
        if manifest.files.get(path) != record
    ]
    return problems


def _read(file: Path) -> bytes:
    """Raises BadBundle, and FileNotFoundError or NotADirectoryError where there is no such file."""
    try:
        return read_outside(file, MANIFEST_LIMIT_BYTES, follow=False)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OddFile as error:
        raise BadBundle(f"{file} {error}; export or copy the bundle again") from error
    except OSError as error:
        raise BadBundle(
            f"{file} cannot be read ({error.strerror or error}); copy the bundle again"
        ) from error
