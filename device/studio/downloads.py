"""What a version gives away: its state, one file for inference, and a review of its pictures.

The last two are made by processes of their own: what they take of memory is free again afterwards,
and a review that goes wrong ends nothing but itself.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from pathlib import Path
from typing import Any, Sequence

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from mobiletl.device.printable import printable
from mobiletl.device.studio.files import check_room, no_space, remove_quietly
from mobiletl.device.studio.refused import Refused
from mobiletl.device.studio.streams import Slots
from mobiletl.device.studio.studio import Studio

SECONDS = 900.0
LIMIT = 60
REVIEW, FINISH = (Path(__file__).resolve().parents[1] / name for name in ("review.py", "finish.py"))


class Downloads:
    """The endpoints below /api/versions/ID."""

    def __init__(self, studio: Studio) -> None:
        """Serve nothing yet."""
        self._studio = studio
        self._makers = Slots(1, "reviews or files are made")

    async def state(self, request: Request) -> Response:
        """Answer GET /api/versions/ID/state."""
        version = request.path_params["id"]
        return attachment(self._studio.versions.state(version), f"{version}.safetensors")

    async def onnx(self, request: Request) -> Response:
        """Answer GET /api/versions/ID/onnx with what `mobiletl finish` writes, made once."""
        version = request.path_params["id"]
        state = self._studio.versions.state(version)
        made = state.with_name("model.onnx")
        if not await run_in_threadpool(_is_newer, made, state):
            self._check_idle()
            check_room(state.parent)
            new = state.with_name(f"new-{secrets.token_hex(4)}.onnx")
            words = ["--bundle", str(self._studio.bundle.path), "--state", str(state)]
            try:
                await self._run(FINISH, [*words, "--out", str(new)])
                new.replace(made)
            except OSError as error:
                raise no_space(made, error) from error
            finally:
                remove_quietly(new)
        return attachment(made, f"{version}.onnx")

    def _check_idle(self) -> None:
        if self._studio.training.runs:
            raise Refused(409, "this takes memory; wait for the training, or stop it")

    async def review(self, request: Request) -> Response:
        """Answer GET /api/versions/ID/review with what `mobiletl review --json` gives."""
        studio = self._studio
        folder = studio.versions.fitting(request.path_params["id"])
        self._check_idle()
        words = [str(folder), "--bundle", str(studio.bundle.path), "--json"]
        words += ["--data", str(studio.album.folder), "--limit", str(LIMIT)]
        out = await self._run(REVIEW, words)
        try:
            found = json.loads(out)
        except ValueError:
            raise Refused(500, "the review said nothing that can be read") from None
        await run_in_threadpool(self._add_ids, found)
        return JSONResponse(found)

    async def _run(self, script: Path, words: Sequence[str]) -> bytes:
        """Return what a command prints; raises Refused with its own line where it ends badly."""
        with self._makers.one():
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(script),
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            try:
                out, errors = await asyncio.wait_for(process.communicate(), SECONDS)
            except asyncio.TimeoutError:
                raise Refused(504, f"it took longer than {SECONDS / 60:.0f} minutes") from None
            finally:
                if process.returncode is None:
                    process.kill()
        if process.returncode != 0:
            lines = errors.decode("utf-8", "replace").strip().splitlines()
            said = lines[-1] if lines else f"it ended with {process.returncode}"
            raise Refused(409, printable(said[:500]))
        return out

    def _add_ids(self, found: Any) -> None:
        """Say which pictures of the project the paths in `found` are, at any depth."""
        root, by_path = self._studio.album.folder, self._studio.album.by_path()
        todo = [found]
        while todo:
            value = todo.pop()
            if isinstance(value, dict):
                if isinstance(value.get("path"), str):
                    value["id"] = by_path.get(root / value["path"])
                if isinstance(value.get("paths"), list):
                    value["ids"] = [by_path.get(root / str(path)) for path in value["paths"]]
                todo += value.values()
            elif isinstance(value, list):
                todo += value


def _is_newer(made: Path, state: Path) -> bool:
    """Return whether a file was made of the state as it is: a training may have gone on."""
    try:
        return made.stat().st_mtime_ns >= state.stat().st_mtime_ns
    except OSError:
        return False


def attachment(path: Path, name: str) -> Response:
    """Return a file that a browser saves as `name`; raises Refused (404) if it is gone."""
    if not path.is_file():
        raise Refused(404, "this file is gone")
    return FileResponse(path, media_type="application/octet-stream", filename=name)
