"""What a fleet is to do: settled when it begins, kept beside its state, the same after a resume."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.bundle.schema import (
    fields,
    flag,
    integer,
    joined,
    list_of,
    number,
    one_of,
    text,
)
from mobiletl.device.bundle.strict_json import BadJson, parse_json
from mobiletl.device.bundle.whole_file import write_whole
from mobiletl.device.errors import BadState
from mobiletl.device.fleet.asked import PERSONAL, SOFTMAX, Asked
from mobiletl.device.fleet.coding import ENCODINGS
from mobiletl.device.printable import one_line, printable
from mobiletl.device.refusals import cannot_write
from mobiletl.fleet.strategies import NAMES

FILE = "fleet.json"
# Of the rate, how much is gone by the last round: with a constant one boards never settle.
LESS = 0.9

_PLAN = fields(
    {
        "bundle": text(r"(?s).{1,4096}", "a path"),
        "class_names": list_of(text(r"(?s).{1,1000}", "a name"), minimum=2, maximum=100_000),
        "rounds": integer(minimum=1, maximum=1_000_000),
        "boards": integer(minimum=1, maximum=1_000_000),
        "share": number(above=0.0, maximum=1.0),
        "round_seconds": number(above=0.0),
        "strategy": one_of(*NAMES),
        "epochs": integer(minimum=1, maximum=10_000),
        "seconds": number(minimum=0.0),
        "batch": integer(minimum=1, maximum=1 << 20),
        "lr": number(above=0.0),
        "encoding": one_of(*ENCODINGS),
        "personal": one_of(*PERSONAL),
        "softmax": one_of(*SOFTMAX),
        "proximal": number(minimum=0.0, maximum=1e6),
        "server_lr": number(above=0.0),
        "broken": integer(maximum=1_000_000),
        "evaluate": flag(),
        "secagg": flag(),
    }
)


@dataclass(frozen=True)
class Plan:
    """All settings of a fleet; `docs/fleet.md` has them as flags."""

    bundle: Path
    class_names: tuple[str, ...]
    rounds: int
    boards: int
    """A round begins once so many are there."""
    share: float
    """Of the boards that are there, which take part in a round."""
    round_seconds: float
    """A round ends after so many, whoever has not answered."""
    strategy: str
    epochs: int
    seconds: float
    batch: int
    lr: float
    encoding: str
    personal: str
    softmax: str
    proximal: float
    server_lr: float
    broken: int
    """How many boards `krum` reckons with that send anything at all."""
    evaluate: bool
    """Whether boards score each round's result on what they hold out."""
    secagg: bool = False
    """Whether the server sees the sum of what boards send alone (summed.py)."""

    def asked(self, manifest: Manifest, number: int) -> Asked:
        """Return what round `number` asks of a board; the rate falls from the first to the last."""
        return Asked(
            round=number,
            fit=manifest.fit,
            class_names=self.class_names,
            epochs=self.epochs,
            seconds=self.seconds,
            batch=self.batch,
            lr=self.lr * (1.0 - LESS * min((number - 1) / max(self.rounds - 1, 1), 1.0)),
            encoding=self.encoding,
            personal=self.personal,
            softmax=self.softmax,
            proximal=self.proximal if self.strategy == "fedprox" else 0.0,
            secagg=self.secagg,
        )

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {**asdict(self), "bundle": str(self.bundle), "class_names": list(self.class_names)}

    def write(self, folder: Path) -> None:
        """Keep it in the fleet's folder; raises NoSpace."""
        path = folder / FILE
        content = json.dumps(self.document(), indent=1).encode("utf-8")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, content)
        except OSError as error:
            raise cannot_write("what the fleet is to do", path, error) from error

    def differences(self, other: Plan) -> list[str]:
        """Say where `other` is another fleet; more rounds go on with the same one."""
        mine, others = self.document(), other.document()
        may_change = ("rounds", "boards", "share", "round_seconds", "evaluate", "bundle")
        return [
            f"{name.replace('_', ' ')} was {mine[name]} and is {others[name]}"
            for name in mine
            if name not in may_change and mine[name] != others[name]
        ]


def read_plan(folder: Path) -> Plan:
    """Return the plan of the fleet in `folder`; raises BadState."""
    path = folder / FILE
    shown = printable(str(path))
    try:
        document = parse_json(path.read_bytes(), raw_bytes=True)
    except OSError as error:
        raise BadState(
            f"no fleet in {printable(str(folder))} ({one_line(error)}); "
            "name the folder that `mobiletl fleet serve --out` was given"
        ) from error
    except BadJson as error:
        raise BadState(
            f"{shown} is damaged ({error}); begin the fleet in another folder"
        ) from error
    if isinstance(document, dict):
        # Plans of before it was there.
        document.setdefault("secagg", False)
    problems: list[str] = []
    _PLAN(document, "the plan", problems)
    if problems:
        raise BadState(f"{shown} is damaged ({joined(problems, most=3)}); begin in another folder")
    return _plan(document)


def _plan(document: Mapping[str, Any]) -> Plan:
    known = {name: document[name] for name in Plan.__dataclass_fields__}
    known.update(bundle=Path(document["bundle"]), class_names=tuple(document["class_names"]))
    return Plan(**known)
