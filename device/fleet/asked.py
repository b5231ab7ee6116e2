"""What a round asks of a board, as the server sends it beside the parameters; checked here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping

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
from mobiletl.device.errors import BadRound
from mobiletl.device.fleet.coding import ENCODINGS
from mobiletl.device.fleet.wire import Shape

# Rises when a board of the former one would misunderstand a round.
PROTOCOL = 2
NOTHING, NORMS, HEAD = "nothing", "norms", "head"
PERSONAL = (NOTHING, NORMS, HEAD)
# Over which classes a board has its softmax (training.py).
ALL, OWN = "all", "own"
SOFTMAX = (ALL, OWN)
# In a sum of two each board knows what the other has sent.
LEAST_IN_SUM = 3
# Flower's own key, which its strategies write themselves.
ROUND_KEY, PROXIMAL_KEY = "server-round", "proximal-mu"

_ASKED = fields(
    {
        "protocol": one_of(PROTOCOL),
        "round": integer(minimum=1),
        "fit": text(r"[0-9a-f]{64}", "64 lower-case hex digits"),
        "classes": list_of(text(r"(?s).{1,1000}", "a name"), minimum=2, maximum=100_000),
        "epochs": integer(minimum=1, maximum=10_000),
        "seconds": number(minimum=0.0),
        "batch": integer(minimum=1, maximum=1 << 20),
        "lr": number(above=0.0),
        "encoding": one_of(*ENCODINGS),
        "personal": one_of(*PERSONAL),
        "softmax": one_of(*SOFTMAX),
        "secagg": flag(),
        PROXIMAL_KEY: number(minimum=0.0, maximum=1e6),
    }
)


@dataclass(frozen=True)
class Asked:
    """One round: what to train, for how long, and what to send."""

    round: int
    """Counted from 1 over the whole life of the fleet."""
    fit: str
    """`fit` of the manifest that the state belongs to."""
    class_names: tuple[str, ...]
    """The K classes of the fleet, in the order of the logits."""
    epochs: int
    seconds: float
    """A board stops after so many, and sends what it has; 0 is no limit."""
    batch: int
    lr: float
    encoding: str
    personal: str
    softmax: str
    proximal: float
    secagg: bool = False
    """Whether the server sees the sum of what boards send, and no board's own."""

    def document(self) -> dict[str, Any]:
        """Return it as what is sent."""
        return {
            "protocol": PROTOCOL,
            "round": self.round,
            "fit": self.fit,
            "classes": list(self.class_names),
            "epochs": self.epochs,
            "seconds": float(self.seconds),
            "batch": self.batch,
            "lr": float(self.lr),
            "encoding": self.encoding,
            "personal": self.personal,
            "softmax": self.softmax,
            "secagg": self.secagg,
            PROXIMAL_KEY: float(self.proximal),
        }


def asked_of(values: Mapping[str, Any], manifest: Manifest) -> Asked:
    """Return what the server asks; raises BadRound if it makes no sense or is of another bundle."""
    problems: list[str] = []
    document = {name: values[name] for name in values if name != ROUND_KEY}
    document.setdefault(PROXIMAL_KEY, 0.0)
    if document.get("protocol") != PROTOCOL:
        raise BadRound(
            f"the server speaks version {document.get('protocol')!r} of the rounds, this board "
            f"version {PROTOCOL}; install the same mobiletl on both"
        )
    _ASKED(document, "the round", problems)
    if problems:
        raise BadRound(f"the server asks for what makes no sense: {joined(problems, most=3)}")
    if len(set(document["classes"])) < len(document["classes"]):
        raise BadRound("the server names a class twice")
    if document["fit"] != manifest.fit:
        raise BadRound(
            f"the round is of another bundle than this board's ({manifest.model.name}, "
            f"{manifest.method.name}, {manifest.method.blocks} blocks); "
            "copy the server's bundle to the board"
        )
    return Asked(
        round=document["round"],
        fit=document["fit"],
        class_names=tuple(document["classes"]),
        epochs=document["epochs"],
        seconds=document["seconds"],
        batch=document["batch"],
        lr=document["lr"],
        encoding=document["encoding"],
        personal=document["personal"],
        softmax=document["softmax"],
        proximal=document[PROXIMAL_KEY],
        secagg=document["secagg"],
    )


def round_shapes(manifest: Manifest, classes: int) -> dict[str, Shape]:
    """Return what a round's parameters are: everything of a state that lasts, by name."""
    return {
        entry.name: entry.shape_for(classes) for entry in manifest.state if entry.role != "slot"
    }


def personal_names(manifest: Manifest, personal: str) -> frozenset[str]:
    """Return the entries that never leave a board: of its head, or of norms with statistics."""
    entries = [entry for entry in manifest.state if entry.role != "slot"]
    if personal == HEAD:
        return frozenset(entry.name for entry in entries if "K" in entry.shape)
    if personal == NORMS:
        owners = {_owner(entry.name) for entry in entries if entry.role == "statistic"}
        return frozenset(entry.name for entry in entries if _owner(entry.name) in owners)
    return frozenset()


def _owner(name: str) -> str:
    return name.rpartition(".")[0]
