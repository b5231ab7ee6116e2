"""A real fleet on this machine, in the environment that has Flower and no PyTorch."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mobiletl.fleet import plan
from runtime_tests.support.board.shared_files import REPOSITORY, shared

PYTHON = REPOSITORY / ".venv-fleet" / "bin" / "python"
# Which digits, or classes, a board has pictures of: six each, and no board has all.
DIGITS = {
    "kitchen": (0, 1, 2, 3, 4, 5),
    "garden": (2, 3, 4, 5, 6, 7),
    "attic": (4, 5, 6, 7, 8, 9),
    "porch": (0, 1, 6, 7, 8, 9),
}
HELD_OUT = 0.2
CIFAR = "data/cifar10-8k.zip"

needs_fleet_env = pytest.mark.skipif(
    not PYTHON.exists(), reason="Flower is not set up (make fleet; Python 3.9 to 3.12)"
)


def write_digits(folder: Path) -> None:
    """Write handwritten digits as `BOARD/DIGIT/`, all of them as `all/train` and `all/val`."""
    from sklearn.datasets import load_digits

    pictures, labels = load_digits(return_X_y=True)
    pixels = np.round(pictures.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    draw = random.Random(0)
    for digit in range(10):
        rows = np.flatnonzero(labels == digit).tolist()
        draw.shuffle(rows)
        owners = [board for board, mine in DIGITS.items() if digit in mine]
        held_out = round(HELD_OUT * len(rows))
        for place, row in enumerate(rows):
            names = ["all/val"] if place < held_out else ["all/train", owners[place % len(owners)]]
            for name in names:
                target = folder / name / str(digit)
                target.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels[row]).save(target / f"{row:04d}.png")


def write_cifar(folder: Path) -> None:
    """Write CIFAR-10 likewise, six classes of ten for each board; skips the test without it."""
    with zipfile.ZipFile(shared(CIFAR)) as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")]
        classes = sorted({name.split("/")[-2] for name in names})
        for place, name in enumerate(sorted(names)):
            part, label, file = name.split("/")[-3:]
            owners = [board for board, mine in DIGITS.items() if classes.index(label) in mine]
            chosen = ["all/train", owners[place % len(owners)]] if part == "train" else ["all/val"]
            for one in chosen:
                target = folder / one / label
                target.mkdir(parents=True, exist_ok=True)
                (target / file).write_bytes(archive.read(name))


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Fleet:
    """The processes of a fleet in `folder`; killed at the end, whatever happens."""

    def __init__(self, folder: Path, bundle: Path) -> None:
        self.folder, self.bundle = folder, bundle
        self.address = f"127.0.0.1:{free_port()}"
        self.keys, self.server = folder / "keys", folder / "server"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        boards = ",".join(DIGITS)
        self.call("keys", "--out", self.keys, "--host", "127.0.0.1", "--boards", boards)

    def call(self, *words: object) -> str:
        done = subprocess.run(
            self._command(*words), capture_output=True, text=True, check=False, cwd=self.folder
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def serve(self, *words: object) -> None:
        self._start(
            "server",
            "serve",
            "--out",
            self.server,
            "--keys",
            self.keys,
            "--address",
            self.address,
            *words,
        )

    def join(self, board: str, data: Path, *words: object) -> None:
        key = self.keys / "boards" / board
        self._start(
            board,
            "join",
            "--server",
            self.address,
            "--ca",
            self.keys / "ca.pem",
            "--key",
            key,
            "--bundle",
            self.bundle,
            "--data",
            data,
            "--threads",
            1,
            "--home",
            self.folder / f"home-{board}",
            "--name",
            board,
            *words,
        )

    def kill(self, name: str) -> None:
        """As when the power goes: nothing is said, nothing is finished."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def rounds(self) -> list[dict[str, Any]]:
        """Return the rounds so far; none before the server has written its plan."""
        if not (self.server / plan.FILE).exists():
            return []
        status = json.loads(self.call("status", self.server, "--json"))
        found: list[dict[str, Any]] = status["rounds"]
        return found

    def wait_for_round(self, number: int, seconds: float = 300) -> None:
        self.wait(lambda: any(one["round"] >= number for one in self.rounds()), seconds)

    def wait(self, condition: Callable[[], bool], seconds: float) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, self.logs()
            for name, process in self.processes.items():
                assert process.poll() is None or name == "server", self.logs()
            time.sleep(1)

    def finish(self, seconds: float) -> int:
        """Wait for the server's end and return its exit code."""
        try:
            return self.processes["server"].wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(self.logs()) from None

    def logs(self) -> str:
        files = [*sorted(self.folder.glob("*.log")), self.server / "flower" / "superlink.log"]
        return "\n".join(
            f"--- {file.name}\n{file.read_text(errors='replace')[-3000:]}"
            for file in files
            if file.is_file()
        )

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()

    def _start(self, name: str, *words: object) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                self._command(*words),
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    @staticmethod
    def _command(*words: object) -> list[str]:
        return [str(PYTHON), "-m", "mobiletl.fleet.commands", *map(str, words)]
