"""A server may send any code along with a run: no board unpacks it."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("flwr")

from flwr.app import Context, Message, RecordDict
from flwr.common.typing import Fab, Run
from flwr.supernode.runtime import run_clientapp as runtime

from mobiletl.device.fleet import client_app
from mobiletl.device.fleet.board import HOME_VARIABLE
from mobiletl.device.fleet.executor import use_installed_app

HOSTILE = """\
from pathlib import Path
from flwr.client import ClientApp
Path({mark!r}).touch()
app = ClientApp()
"""
PROJECT = """\
[project]
name = "fleet"
version = "1.0.0"
license = "Apache-2.0"
[tool.flwr.app]
publisher = "mobiletl"
[tool.flwr.app.components]
serverapp = "hostile:app"
clientapp = "hostile:app"
"""


def archive(mark: Path) -> bytes:
    """A Flower app whose module leaves a mark once it is imported."""
    files = {
        "pyproject.toml": PROJECT.encode(),
        "hostile.py": HOSTILE.format(mark=str(mark)).encode(),
    }
    rows = [f"{name},{hashlib.sha256(files[name]).hexdigest()},0" for name in files]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        for name, data in {**files, ".info/CONTENT": "\n".join(rows).encode()}.items():
            packed.writestr(name, data)
    return stream.getvalue()


@pytest.fixture
def answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let Flower's process answer a message that comes with the archive; returns the answer."""
    mark = tmp_path / "ran"
    content = archive(mark)
    message = Message(RecordDict(), 1, "train")
    message.metadata.__dict__["_message_id"] = "1"
    context = Context(1, 1, {}, RecordDict(), {})
    run = Run.create_empty(1)
    run.fab_id, run.fab_version = "mobiletl/fleet", "1.0.0"
    fab = Fab(hashlib.sha256(content).hexdigest(), content)
    found: list[Message] = []
    monkeypatch.setattr(runtime, "pull_clientappinputs", lambda **_: (message, context, run, fab))
    monkeypatch.setattr(
        runtime, "push_clientappoutputs", lambda **given: found.append(given["message"])
    )

    def answer() -> tuple[Message, bool]:
        runtime.run_clientapp("127.0.0.1:1", "token", flwr_dir=str(tmp_path / "flower"))
        return found[0], mark.exists()

    return answer


def test_flower_alone_would_run_it(answered: Any) -> None:
    """So that the other test means something."""
    assert answered()[1]


def test_a_board_answers_with_the_code_that_is_installed(
    answered: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("install_from_fab", "get_load_client_app_fn"):
        monkeypatch.setattr(runtime, name, getattr(runtime, name))
    monkeypatch.delenv(HOME_VARIABLE, raising=False)
    use_installed_app(runtime)
    reply, ran = answered()
    assert not ran
    assert not (tmp_path / "flower").exists()
    assert reply.error.code == client_app.FAILED
    assert HOME_VARIABLE in str(reply.error.reason)
