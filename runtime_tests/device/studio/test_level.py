"""A studio at a further level of its bundle: what it trains is trained there, and answers there."""

from __future__ import annotations

from pathlib import Path

import pytest

for package in ("httpx", "starlette", "uvicorn"):
    pytest.importorskip(package)

from mobiletl.device.bundle.bundle import open_bundle  # noqa: E402
from mobiletl.device.bundle.levels import of_state  # noqa: E402
from mobiletl.device.errors import UsageError  # noqa: E402
from mobiletl.device.studio.studio import Asked, Studio  # noqa: E402
from runtime_tests.support.board.picture_folders import write_pictures  # noqa: E402
from runtime_tests.support.board.studio_service import Client, served  # noqa: E402
from runtime_tests.support.board.tiny_levels import write_tiny_levels  # noqa: E402


def test_a_training_has_the_studios_level(tmp_path: Path) -> None:
    bundle = write_tiny_levels(tmp_path / "bundle")
    photos = write_pictures(tmp_path / "photos", {"red": 8, "green": 8})
    with served(bundle, tmp_path / "project", blocks=0) as server, Client(server.port) as client:
        client.opened().teach(photos)
        client.ask("train", epochs=1)
        done = client.wait(
            lambda state: (state["training"] or {}).get("state") in ("finished", "failed")
        )
        assert (done["training"]["state"], done["training"]["message"]) == ("finished", "")
        version = done["training"]["version"]
        state = next((tmp_path / "project").rglob(f"{version}/state.safetensors"))
        assert of_state(open_bundle(bundle), state).manifest.method.blocks == 0
        client.ask("versions/use", id=version)


def test_a_level_that_is_not_there_is_refused(tmp_path: Path) -> None:
    bundle = write_tiny_levels(tmp_path / "bundle")
    with pytest.raises(UsageError, match="it has levels of 0, 1; "):
        Studio(Asked(bundle, tmp_path / "project", blocks=7))
    assert not (tmp_path / "project").exists()
