"""The folder of a fleet: everything that a server needs to go on after it was killed.

fleet.json               the plan
state.safetensors        the state after the last round: what `predict` takes
  .minisig               its signature, where the server has a key for it (state_key.py)
best.safetensors         that after the round whose result boards' held-out pictures liked best
strategy.safetensors     what the strategy remembers from round to round (FedAdam's moments)
rounds.jsonl             one line per round
outcome.json             how the server has ended
flower/                  what Flower keeps while the server runs
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mobiletl.device.bundle.arrays import Tensors
from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.bundle.replacing import open_appended
from mobiletl.device.bundle.state_file import StateInfo, load_state, save_state
from mobiletl.device.bundle.strict_json import BadJson, parse_json
from mobiletl.device.bundle.whole_file import write_whole
from mobiletl.device.fleet.training import with_slots
from mobiletl.device.printable import one_line
from mobiletl.device.refusals import cannot_read, cannot_write
from mobiletl.device.run.lines import read_lines, sealed
from mobiletl.fleet.state_key import sign_file

FINISHED, FAILED = "finished", "failed"

logger = logging.getLogger(__name__)


class FleetFolder:
    """Reads and writes a fleet's files; each is whole at any moment."""

    def __init__(self, path: Path, state_key: Path | None = None) -> None:
        """Touch nothing yet; `state_key` signs the state."""
        self.path = path
        self.state_key = state_key
        self.state = path / "state.safetensors"
        self.best = path / "best.safetensors"
        self.strategy = path / "strategy.safetensors"
        self.rounds = path / "rounds.jsonl"
        self.outcome = path / "outcome.json"
        self.flower = path / "flower"
        self.lock = path / ".lock"

    def save(
        self, manifest: Manifest, classes: tuple[str, ...], tensors: Tensors, done: int
    ) -> None:
        """Write the state after `done` rounds; raises NoSpace, leaving the former one."""
        info = StateInfo(manifest.fit, classes, epoch=done, step=done, seed=0)
        whole = with_slots(manifest, tensors, len(classes))
        ordered = {entry.name: whole[entry.name] for entry in manifest.state}
        save_state(self.state, ordered, info)
        self.sign(done)

    def keep_best(self, done: int) -> None:
        """Keep the state, which is that after `done` rounds, as the best; raises NoSpace."""
        try:
            write_whole(self.best, self.state.read_bytes())
        except OSError as error:
            raise cannot_write("the best state", self.best, error) from error
        self._sign(self.best, done)

    def sign(self, done: int) -> None:
        """Sign the state after `done` rounds, if there is a key; raises NoSpace, UsageError.

        A server that was killed between the two signs it when it begins again.
        """
        self._sign(self.state, done)

    def _sign(self, state: Path, done: int) -> None:
        if self.state_key is None:
            return
        try:
            sign_file(state, self.state_key, f"state of a fleet after round {done}")
        except OSError as error:
            raise cannot_write("the signature of the state", state, error) from error

    def load(self, manifest: Manifest) -> tuple[Tensors, StateInfo]:
        """Return what lasts of the state, and how many rounds it has (`epoch`); raises BadState."""
        tensors, info = load_state(self.state, manifest)
        slots = {entry.name for entry in manifest.state if entry.role == "slot"}
        return {name: tensor for name, tensor in tensors.items() if name not in slots}, info

    def save_strategy(self, tensors: dict[str, Any], done: int) -> None:
        """Write what a strategy remembers after `done` rounds; raises NoSpace."""
        arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
        self._write(self.strategy, save(arrays, {"rounds": str(done)}))

    def load_strategy(self, done: int) -> dict[str, Any]:
        """Return what the strategy remembers of `done` rounds; nothing where that is not kept."""
        if not self.strategy.is_file():
            return {}
        try:
            with safe_open(str(self.strategy), "np") as stored:
                if (stored.metadata() or {}).get("rounds") != str(done):
                    return {}
                return {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            logger.warning(
                "%s cannot be read (%s); the strategy begins anew", self.strategy, one_line(error)
            )
            return {}

    def add_round(self, document: dict[str, Any]) -> None:
        """Append a line; raises NoSpace."""
        try:
            descriptor = open_appended(self.rounds)
            try:
                size = os.fstat(descriptor).st_size
                torn = size and os.pread(descriptor, 1, size - 1) != b"\n"
                os.write(descriptor, (b"\n" if torn else b"") + sealed(document))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise cannot_write("the record of rounds", self.rounds, error) from error

    def read_rounds(self) -> list[dict[str, Any]]:
        """Return a line per round, the later one where a round was done twice."""
        if not self.rounds.is_file():
            return []
        try:
            lines = read_lines(self.rounds)
        except OSError as error:
            raise cannot_read("the record of rounds", self.rounds, error) from error
        found = {line["round"]: line for line in lines if isinstance(line.get("round"), int)}
        return [found[number] for number in sorted(found)]

    def best_round(self) -> tuple[int, float] | None:
        """Return after which round boards' held-out pictures were answered best, and the share.

        A round's result is scored by the boards of the next one, before they train.
        """
        scores = [
            (line["figures"]["accuracy-before"], line["round"] - 1)
            for line in self.read_rounds()
            if isinstance((line.get("figures") or {}).get("accuracy-before"), float)
        ]
        if not scores:
            return None
        accuracy, number = max(scores)
        return number, accuracy

    def end(self, outcome: str, message: str = "") -> None:
        """Say how the server has ended; raises NoSpace."""
        self._write(self.outcome, json.dumps({"outcome": outcome, "message": message}).encode())

    def ended(self) -> tuple[str, str] | None:
        """Return how the server has ended and what it said, None while it has not."""
        try:
            document = parse_json(self.outcome.read_bytes())
        except (OSError, BadJson):
            return None
        if not isinstance(document, dict):
            return None
        return str(document.get("outcome")), str(document.get("message"))

    def _write(self, path: Path, content: bytes) -> None:
        try:
            write_whole(path, content)
        except OSError as error:
            raise cannot_write("the fleet's files", path, error) from error
