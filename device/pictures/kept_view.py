"""The view that the pictures of a data set were taken in, kept in the data set's own folder.

`<data>/.mobiletl/view.json` says it; whatever begins with a dot holds no pictures. A folder of
pictures from elsewhere has none.
"""

from __future__ import annotations

import json
from pathlib import Path

from mobiletl.device.bundle.outside_file import OddFile, read_outside
from mobiletl.device.bundle.strict_json import BadJson, parse_json
from mobiletl.device.bundle.view import AskedView, View, view_of
from mobiletl.device.bundle.whole_file import write_whole
from mobiletl.device.errors import BadPictures, UsageError
from mobiletl.device.printable import printable
from mobiletl.device.refusals import cannot_write, reason

FOLDER = ".mobiletl"
# A view takes about a hundred bytes.
MOST_BYTES = 10_000


def view_file(root: Path) -> Path:
    """Return where the data set `root` keeps its view."""
    return root / FOLDER / "view.json"


def load_view(root: Path) -> View | None:
    """Return the kept view, or None where there is none; raises BadPictures for a damaged file."""
    path = view_file(root)
    problems: list[str] = []
    try:
        view = view_of(parse_json(read_outside(path, MOST_BYTES)), "view", problems)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _damaged(path, reason(error)) from error
    except (OddFile, BadJson) as error:
        raise _damaged(path, f"it {error}" if isinstance(error, OddFile) else str(error)) from error
    if view is None:
        raise _damaged(path, "; ".join(problems) or "no view")
    return view


def save_view(root: Path, view: View) -> None:
    """Keep `view` with the data set; raises NoSpace and leaves the former file as it was."""
    path = view_file(root)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, (json.dumps(view.document()) + "\n").encode("ascii"))
    except OSError as error:
        raise cannot_write("the view", path, error, "choose another folder") from error


def settled_view(root: Path, asked: AskedView) -> View:
    """Return the view for more pictures of the data set `root`, and keep it where none is kept.

    `asked` is what flags say. Raises UsageError where the pictures that are there were taken in
    another view, and as `load_view` and `save_view` do.
    """
    kept = load_view(root)
    view = asked.over(kept)
    if kept is not None and kept != view:
        raise UsageError(
            f"the pictures in {printable(str(root))} were taken with {kept.flags()}; "
            "take more of them in the same view, or name another folder"
        )
    if kept is None:
        save_view(root, view)
    return view


def _damaged(path: Path, why: str) -> BadPictures:
    return BadPictures(
        f"{printable(str(path))} is damaged ({printable(why)}); it says how the pictures were "
        "turned and cut out: write it anew as docs/cameras.md shows, or remove it if they were not"
    )
