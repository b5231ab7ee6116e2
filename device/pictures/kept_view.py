"""The view that the pictures of a data set were taken in, kept in the data set's own folder.

`<data>/.mobiletl/view.json` says it; whatever begins with a dot holds no pictures. A folder of
pictures from elsewhere has none.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from mobiletl.device.bundle.view import View, view_of
from mobiletl.device.errors import BadPictures, NoSpace, UsageError
from mobiletl.device.printable import one_line, printable

FOLDER = ".mobiletl"
# A view takes about a hundred bytes.
MOST_BYTES = 10_000


def view_file(root: Path) -> Path:
    """Return where the data set `root` keeps its view."""
    return root / FOLDER / "view.json"


def load_view(root: Path) -> View | None:
    """Return the kept view, or None where there is none; raises BadPictures for a damaged file."""
    path = view_file(root)
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _damaged(path, error.strerror or one_line(error)) from error
    problems: list[str] = []
    try:
        # RecursionError: a file of nothing but opening brackets.
        document = json.loads(content.decode("utf-8")) if len(content) <= MOST_BYTES else None
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"no JSON: {one_line(error)}") from error
    view = view_of(document, "view", problems)
    if view is None:
        raise _damaged(path, "; ".join(problems) or "no view")
    return view


def save_view(root: Path, view: View) -> None:
    """Keep `view` with the data set; raises NoSpace and leaves the former file as it was."""
    path = view_file(root)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(json.dumps(view.document()) + "\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise NoSpace(
            f"the view cannot be written to {printable(str(path))} ({error.strerror or error}); "
            "free space there, or choose another folder"
        ) from error


def settled_view(root: Path, asked: View | None) -> View:
    """Return the view for more pictures of the data set `root`, and keep it where none is kept.

    `asked` is what flags say, None where they say nothing. Raises UsageError where the pictures
    that are there were taken in another view, and as `load_view` and `save_view` do.
    """
    kept = load_view(root)
    if kept is not None and asked not in (None, kept):
        raise UsageError(
            f"the pictures in {printable(str(root))} were taken with {kept.flags()}; "
            "take more of them in the same view, or name another folder"
        )
    view = kept or asked or View()
    if kept is None:
        save_view(root, view)
    return view


def _damaged(path: Path, reason: str) -> BadPictures:
    return BadPictures(
        f"{printable(str(path))} is damaged ({printable(reason)}); it says how the pictures were "
        "turned and cut out: write it anew as docs/cameras.md shows, or remove it if they were not"
    )
