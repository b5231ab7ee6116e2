"""A board of a fleet: its bundle, its pictures, and what it keeps between two rounds.

board.json             what `mobiletl fleet join` was told
left.safetensors       what rounding has kept from the server so far (coding.py)
personal.safetensors   entries of the state that stay here, as the last round has left them
maps/                  feature maps: pictures go through the frozen layers once, not once a round
run/                   the run of the last round
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Mapping

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mobiletl.device.bundle.arrays import Floats, Tensors
from mobiletl.device.bundle.schema import fields, flag, integer, joined, label, number, text
from mobiletl.device.bundle.strict_json import BadJson, parse_json
from mobiletl.device.bundle.whole_file import write_whole
from mobiletl.device.errors import UsageError
from mobiletl.device.printable import one_line, printable
from mobiletl.device.refusals import cannot_write

# Where a process that Flower starts finds its board.
HOME_VARIABLE = "MOBILETL_FLEET_HOME"
LEFT, PERSONAL = "left.safetensors", "personal.safetensors"
_FILE = "board.json"

_PATH = text(r"(?s).{1,4096}", "a path")
_BOARD = fields(
    {
        "name": label(60),
        "bundle": _PATH,
        "data": _PATH,
        "val_split": number(above=0.0, maximum=0.99),
        "threads": integer(maximum=1 << 10),
        "most_celsius": number(above=0.0),
        "on_battery": flag(),
        "only_sums": flag(),
        "signed_by": text(r"(?s).{0,4096}", "a path, or nothing"),
    }
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Board:
    """What a person has said about a board; `home` is the folder that it keeps things in."""

    home: Path
    name: str
    bundle: Path
    data: Path
    val_split: float = 0.2
    threads: int = 0
    most_celsius: float = 80.0
    """A hotter processor sits a round out."""
    on_battery: bool = False
    """Whether it trains on battery, too."""
    only_sums: bool = False
    """Whether it sits out where the server would see its own parameters (sums.py)."""
    signed_by: Path | None = None
    """A public key of minisign that has signed the bundle, or it is not opened."""

    @property
    def maps(self) -> Path:
        """The folder of the feature maps."""
        return self.home / "maps"

    @property
    def run(self) -> Path:
        """The folder of a round's run."""
        return self.home / "run"

    def write(self) -> None:
        """Keep it for the processes that train; raises NoSpace."""
        document = {name: value for name, value in asdict(self).items() if name != "home"}
        key = "" if self.signed_by is None else str(self.signed_by)
        document.update(bundle=str(self.bundle), data=str(self.data), signed_by=key)
        content = json.dumps(document, indent=1).encode("utf-8")
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            write_whole(self.home / _FILE, content)
        except OSError as error:
            raise cannot_write("what this board is", self.home / _FILE, error) from error

    def keep(self, name: str, tensors: Mapping[str, Floats], fit: str) -> None:
        """Keep `tensors` under `name` for the next round; without any, there is no file.

        Raises NoSpace, leaving what was there.
        """
        path = self.home / name
        try:
            if tensors:
                write_whole(path, save(dict(tensors), {"fit": fit}))
            elif path.exists():
                path.unlink()
        except OSError as error:
            raise cannot_write("what the next round needs", path, error) from error

    def kept(self, name: str, fit: str) -> Tensors:
        """Return what was kept under `name` for states that fit `fit`, nothing where none is.

        A damaged file is nothing, too, and a warning says so: a fleet goes on without it.
        """
        path = self.home / name
        if not path.is_file():
            return {}
        try:
            with safe_open(str(path), "np") as stored:
                if (stored.metadata() or {}).get("fit") != fit:
                    return {}
                return {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            logger.warning(
                "%s cannot be read (%s); the board goes on without it", path, one_line(error)
            )
            return {}


def read_board(home: Path) -> Board:
    """Return the board that `write` has kept; raises UsageError."""
    path = home / _FILE
    shown = printable(str(path))
    again = "give `mobiletl fleet join` again, with --bundle and --data"
    try:
        document = parse_json(path.read_bytes(), raw_bytes=True)
    except OSError as error:
        raise UsageError(f"no board at {shown} ({one_line(error)}); {again}") from error
    except BadJson as error:
        raise UsageError(f"{shown} is damaged ({error}); {again}") from error
    problems: list[str] = []
    _BOARD(document, "board", problems)
    if problems:
        raise UsageError(f"{shown} is damaged ({joined(problems, most=3)}); {again}")
    return Board(
        home=home,
        name=document["name"],
        bundle=Path(document["bundle"]),
        data=Path(document["data"]),
        val_split=document["val_split"],
        threads=document["threads"],
        most_celsius=document["most_celsius"],
        on_battery=document["on_battery"],
        only_sums=document["only_sums"],
        signed_by=Path(document["signed_by"]) if document["signed_by"] else None,
    )


def board_here() -> Board:
    """Return the board that this process was started for; raises UsageError."""
    home = os.environ.get(HOME_VARIABLE)
    if not home:
        raise UsageError(f"no board: {HOME_VARIABLE} is not set; start it by `mobiletl fleet join`")
    return read_board(Path(home))
