"""The server's processes: Flower's SuperLink, and the run of our ServerApp that is handed to it.

this process       waits for the fleet's end, and tells of each round
  `-- SuperLink    what boards connect to; it starts the process of the ServerApp
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from mobiletl.device.errors import NoFleet
from mobiletl.device.fleet.environment import flower_environment
from mobiletl.device.printable import printable
from mobiletl.device.refusals import cannot_write
from mobiletl.fleet.folder import FINISHED, FleetFolder
from mobiletl.fleet.keys import CA, LIST, SERVER, SERVER_KEY

LOOPBACK = "127.0.0.1"
START_SECONDS = 60.0
LOOK_SECONDS = 0.5
# To ask Flower takes a second of a core.
ASK_SECONDS = 60.0
STOP_SECONDS = 10.0
# Flower takes an app as a folder with this in it. The code is what is installed here.
_APP = """\
[project]
name = "fleet"
version = "1.0.0"
description = "Rounds of mobiletl"
license = {{ text = "Apache-2.0" }}
dependencies = []

[tool.flwr.app]
publisher = "mobiletl"

[tool.flwr.app.components]
serverapp = "mobiletl.fleet.server_app:app"
clientapp = "mobiletl.device.fleet.client_app:app"

[tool.flwr.app.config]
folder = {folder}
state-key = {key}

[tool.flwr.federations]
default = "here"

[tool.flwr.federations.here]
address = {address}
{trust}
"""

_README = "The code of this app is the installed package mobiletl.\n"

OnRound = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Listening:
    """Where boards find the server, and with which keys; without keys nothing is encrypted."""

    address: str
    keys: Path | None


def serve(folder: FleetFolder, listening: Listening, on_round: OnRound) -> None:
    """Serve until the plan's last round; raises NoFleet where it does not come to that."""
    told = len(folder.read_rounds())
    folder.outcome.unlink(missing_ok=True)
    control = f"{LOOPBACK}:{_free_port()}"
    superlink = _start(folder, listening, control)
    try:
        _await(control, superlink, folder)
        _hand_over(folder, listening, control)
        asked_at = time.monotonic()
        while folder.ended() is None:
            time.sleep(LOOK_SECONDS)
            told = _tell(folder, told, on_round)
            if time.monotonic() > asked_at + ASK_SECONDS:
                _check_run(folder)
                asked_at = time.monotonic()
            if superlink.poll() is not None:
                raise NoFleet(f"Flower's SuperLink has ended; look at {_log(folder)}")
        _tell(folder, told, on_round)
    finally:
        _stop(superlink)
    outcome, message = folder.ended() or ("", "")
    if outcome != FINISHED:
        raise NoFleet(f"the fleet has failed: {printable(message)}; look at {_log(folder)}")


def _start(folder: FleetFolder, listening: Listening, control: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "mobiletl.fleet.superlink", str(os.getpid())]
    command += ["--fleet-api-address", listening.address, "--control-api-address", control]
    command += ["--serverappio-api-address", f"{LOOPBACK}:{_free_port()}"]
    if listening.keys is None:
        command.append("--insecure")
    else:
        keys = listening.keys
        command += ["--ssl-ca-certfile", str(keys / CA), "--ssl-certfile", str(keys / SERVER)]
        command += ["--ssl-keyfile", str(keys / SERVER_KEY)]
        command += ["--auth-list-public-keys", str(keys / LIST)]
    try:
        folder.flower.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, **flower_environment(folder.flower)}
        with _log(folder).open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    except OSError as error:
        raise cannot_write("the log of the SuperLink", _log(folder), error) from error


def _await(control: str, superlink: subprocess.Popen[bytes], folder: FleetFolder) -> None:
    host, _, port = control.rpartition(":")
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and superlink.poll() is None:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise NoFleet(f"Flower's SuperLink does not start; look at {_log(folder)}")


def _hand_over(folder: FleetFolder, listening: Listening, control: str) -> None:
    """Hand the app to the SuperLink, as `flwr run` does."""
    trust = "insecure = true"
    if listening.keys is not None:
        trust = f"root-certificates = {json.dumps(str((listening.keys / CA).resolve()))}"
    app = folder.flower / "app"
    text = _APP.format(
        folder=json.dumps(str(folder.path.resolve())),
        key=json.dumps("" if folder.state_key is None else str(folder.state_key.resolve())),
        address=json.dumps(control),
        trust=trust,
    )
    try:
        app.mkdir(parents=True, exist_ok=True)
        (app / "pyproject.toml").write_text(text, encoding="utf-8")
        # Flower cannot unpack an app that has no other file.
        (app / "README.md").write_text(_README, encoding="utf-8")
    except OSError as error:
        raise cannot_write("what Flower starts", app, error) from error
    said, document = _flwr(folder, "run")
    if not document.get("success"):
        raise NoFleet(f"Flower does not take the fleet's app: {said}")


def _flwr(folder: FleetFolder, name: str) -> tuple[str, dict[str, Any]]:
    """Run a command of Flower's for our app; return what it says, and as JSON if it is that."""
    command = [str(Path(sys.executable).parent / "flwr"), name, str(folder.flower / "app"), "here"]
    environment = {**os.environ, **flower_environment(folder.flower)}
    found = subprocess.run(
        [*command, "--format", "json"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    said = printable(" ".join((found.stdout + found.stderr).split())[-500:])
    try:
        document = json.loads(found.stdout[found.stdout.index("{") :])
    except ValueError:
        document = {}
    return said, document if isinstance(document, dict) else {}


def _check_run(folder: FleetFolder) -> None:
    """Raise NoFleet where Flower says that the app has ended and the app does not: it was killed,
    or could not even begin.
    """
    _, document = _flwr(folder, "ls")
    states = [str(run.get("status")) for run in document.get("runs") or []]
    if states and states[0].startswith("finished") and folder.ended() is None:
        raise NoFleet(f"the fleet's app has ended ({states[0]}); look at {_log(folder)}")


def _tell(folder: FleetFolder, told: int, on_round: OnRound) -> int:
    rounds = folder.read_rounds()
    for one in rounds[told:]:
        on_round(one)
    return len(rounds)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _log(folder: FleetFolder) -> Path:
    return folder.flower / "superlink.log"


def _free_port() -> int:
    with socket.socket() as found:
        found.bind((LOOPBACK, 0))
        port: int = found.getsockname()[1]
        return port
