"""A board that takes part in a fleet for as long as it runs: Flower's SuperNode, and what answers.

    this process         asks the SuperNode for messages to answer, and starts executor.py for each
      |-- SuperNode      holds the connection to the server; started again when it ends
      `-- executor.py    one at a time: a run as any other, whose memory is free again after it

A board that is killed at any point joins again by the same command. What it was training is lost,
the server goes on without it, and the next round has it again.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from flwr.proto.clientappio_pb2_grpc import ClientAppIoStub
from flwr.supercore.superexec.plugin import ClientAppExecPlugin
from flwr.supercore.superexec.run_superexec import run_superexec

from mobiletl.device.fleet.board import HOME_VARIABLE, Board
from mobiletl.device.printable import say

LOOPBACK = "127.0.0.1"
# Between two SuperNodes: a server that refuses a board is not asked without a pause.
PAUSE_SECONDS = 5.0


@dataclass(frozen=True)
class Way:
    """How a board reaches its server, and what it shows there."""

    address: str
    root_certificate: Path | None
    """What the server's certificate is checked with; None is a connection that is not encrypted."""
    key: Path | None
    """The board's own private key; its public one is beside it, with `.pub`."""


class _Node:
    """The SuperNode, for as long as this process runs; it is started again when it ends."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def keep(self) -> None:
        """Start it, and again whenever it ends; never returns."""
        while True:
            self._process = subprocess.Popen(self._command)
            code = self._process.wait()
            say(f"the connection to the server has ended ({code}); trying again", sys.stderr)
            time.sleep(PAUSE_SECONDS)

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The one that runs now, or ran last."""
        return self._process

    def give_up(self, asked: subprocess.Popen[bytes] | None) -> None:
        """End the SuperNode that has `asked`: it would wait forever for an answer that is lost.

        One that was started since has never asked, as after a new start of the server.
        """
        if asked is not None and asked is self._process:
            asked.kill()


class _Plugin(ClientAppExecPlugin):  # type: ignore[misc]
    """Starts executor.py where Flower's own plugin starts its own program."""

    node: _Node
    """Set by `join`: Flower makes the plugin itself."""

    def launch_app(self, token: str, run_id: int) -> None:
        """See Flower's ExecPlugin."""
        command = [sys.executable, "-m", "mobiletl.device.fleet.executor", "--insecure"]
        command += [self.appio_api_address_arg, self.appio_api_address, "--token", token]
        command += ["--parent-pid", str(os.getpid()), "--flwr-dir", self.flwr_dir]
        arguments = (command, self.node.process)
        threading.Thread(target=self._answer, args=arguments, daemon=True).start()

    def _answer(self, command: list[str], asked: subprocess.Popen[bytes] | None) -> None:
        code = subprocess.run(command, check=False).returncode
        if code:
            say(f"the answer to a round was cut off ({code}), and is given up", sys.stderr)
            self.node.give_up(asked)


def join(board: Board, way: Way) -> None:
    """Take part until the process is stopped; it has `flower_environment` already."""
    board.write()
    os.environ[HOME_VARIABLE] = str(board.home)
    own = f"{LOOPBACK}:{_free_port()}"
    _Plugin.node = _Node(_node_command(way, own))
    threading.Thread(target=_Plugin.node.keep, daemon=True).start()
    _await(own)
    run_superexec(
        plugin_class=_Plugin,
        stub_class=ClientAppIoStub,
        appio_api_address=own,
        flwr_dir=str(board.home / "flower"),
    )


def _node_command(way: Way, own: str) -> list[str]:
    command = [sys.executable, "-m", "mobiletl.device.fleet.supernode", str(os.getpid())]
    command += ["--superlink", way.address, "--isolation", "process"]
    command += ["--clientappio-api-address", own]
    if way.root_certificate is None:
        command.append("--insecure")
    else:
        command += ["--root-certificates", str(way.root_certificate)]
    if way.key is not None:
        command += ["--auth-supernode-private-key", str(way.key)]
        command += ["--auth-supernode-public-key", f"{way.key}.pub"]
    return command


def _await(own: str) -> None:
    """Wait for the SuperNode: who is too early waits for longer and longer in Flower."""
    host, _, port = own.rpartition(":")
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return


def _free_port() -> int:
    with socket.socket() as found:
        found.bind((LOOPBACK, 0))
        port: int = found.getsockname()[1]
        return port
