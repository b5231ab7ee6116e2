"""The bars of a visit to the studio on an emulated board, and the downloaded network beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from emulation.trial import Check
from tools.finished import label_of
from tools.studio_demo import SCENES

# As studio_on_board.py has them.
LATER = "chalk"
RECORDED = 20
SERVER_LIMIT_BYTES = 60_000_000
# Of the whole process that trains.
MEMORY_TOLERANCE = 0.05


def checks(board: dict[str, Any], folder: Path) -> list[Check]:
    """The bars, of what the client has found and left in `folder`."""
    names = [scene.name for scene in SCENES]
    above = board["server_bytes"] - board["libraries_bytes"]
    training = board["training"]
    peak, planned = board["training_bytes"], 1e6 * training["planned_mb"]
    seconds = board["label_seconds"]
    return [
        Check(
            "recorded pictures",
            ", ".join(f"{name} {count}" for name, count in board["recorded"].items()),
            list(board["recorded"]) == [*names, LATER]
            and min(board["recorded"].values()) >= RECORDED,
        ),
        Check(
            "right live label",
            ", ".join(f"{name} after {seconds[name]:.1f} s" for name in seconds)
            + f"; the first three {board['first_success_seconds']:.0f} s after an empty page",
            list(seconds) == [*names, LATER],
        ),
        Check(
            "training",
            f"{training['state']}, {training['epochs']} epochs in "
            f"{board['training_seconds']:.0f} s, accuracy {board['versions']['trained']}",
            training["state"] == "finished"
            and [one["epoch"] for one in training["history"]] == list(range(training["epochs"] + 1))
            and board["versions"]["trained"] is not None,
        ),
        _nothing_is_lost(board),
        Check(
            "a picture deleted",
            "{before} before, {after} after".format(**board["deleted"]),
            board["deleted"]["after"] == board["deleted"]["before"] - 1
            and board["classes"]["digit"] == board["deleted"]["after"],
        ),
        _network_agrees(board, folder),
        Check(
            "server above its libraries",
            f"{above / 1e6:.1f} MB above {board['libraries_bytes'] / 1e6:.1f} (at most "
            f"{SERVER_LIMIT_BYTES / 1e6:.0f}; QEMU itself "
            f"{board['server_emulator_bytes'] / 1e6:.1f} MB, not counted)",
            above <= SERVER_LIMIT_BYTES,
        ),
        Check(
            "training's memory",
            f"{peak / 1e6:.1f} MB, planned {planned / 1e6:.1f}, {peak / planned - 1:+.1%} (at most "
            f"{MEMORY_TOLERANCE:.0%}; QEMU itself {board['emulator_bytes'] / 1e6:.1f} MB, not "
            "counted)",
            abs(peak / planned - 1) <= MEMORY_TOLERANCE,
        ),
    ]


def _nothing_is_lost(board: dict[str, Any]) -> Check:
    """While it trains: the page's events are broken off, and the server is killed."""
    recorded = sum(board["recorded"][scene.name] for scene in SCENES)
    return Check(
        "reload, killed server",
        f"told of '{board['reloaded'][1]}', then of '{board['returned'][1]}' and "
        f"{board['returned_pictures']} pictures",
        board["reloaded"] == [True, "training"]
        and board["alone"]
        and board["returned"] == [True, "training"]
        and board["returned_pictures"] == recorded,
    )


def _network_agrees(board: dict[str, Any], folder: Path) -> Check:
    """The downloaded network, here and with nothing of ours, names what the page names."""
    network = folder / "network.onnx"
    rows = [
        (label, label_of(network, folder / "answered" / f)) for _, f, label in board["answered"]
    ]
    agreeing = sum(one == other for one, other in rows)
    return Check(
        "ONNX beside the page",
        f"{agreeing} of {len(rows)} labels the same",
        agreeing == len(rows) > 0 and board["using"] == board["training"]["version"],
    )
