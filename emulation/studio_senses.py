"""What a visitor of the studio sees and is told: the camera's picture, and the page's events.

Copied to the board beside studio_on_board.py. Scenes are told apart by their colours in a grid, as
a person tells them apart by looking; nothing of the studio's is asked for that. Needs Pillow, which
the board has.
"""

from __future__ import annotations

import http.client
import io
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

from PIL import Image
from studio_client import PATIENCE_S, Studio

GRID = (4, 3)
# A scene counts when so many of its frames have gone by, and so many are to come.
MARGIN = 4


class Eye:
    """Looks through the page's camera all the time."""

    def __init__(self, studio: Studio, camera: Path) -> None:
        """`camera` is the folder that is played; its files are called NUMBER-SCENE-NUMBER.jpg."""
        self._studio, self._known = studio, []
        files = sorted(camera.iterdir())
        names = [path.stem.split("-")[1] for path in files]
        for at, path in enumerate(files):
            inside = len(set(names[max(0, at - MARGIN) : at + MARGIN + 1])) == 1
            self._known.append((_colours(Image.open(path)), names[at], inside))
        self.seen: tuple[str | None, bytes, float] = (None, b"", 0.0)
        """The scene, None near its ends; the picture; since when it is this scene."""
        threading.Thread(target=self._look, daemon=True).start()

    def wait_for(self, name: str) -> bytes:
        """Return the picture as soon as it shows this scene."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            scene, picture, _ = self.seen
            if scene == name:
                return picture
            time.sleep(0.05)
        sys.exit(f"the camera has shown no {name}")

    def _look(self) -> None:
        while True:
            try:
                _, answer = self._studio.connect("GET", "/camera.mjpg")
                while True:
                    self._take(_frame(answer))
            # The server is killed in between, and started again.
            except (OSError, ValueError, http.client.HTTPException):
                self.seen = (None, b"", 0.0)
                time.sleep(0.5)

    def _take(self, content: bytes) -> None:
        colours = _colours(Image.open(io.BytesIO(content)))
        _, name, inside = min(self._known, key=lambda one: _distance(one[0], colours))
        before, _, since = self.seen
        scene = name if inside else None
        self.seen = (scene, content, since if scene == before else time.monotonic())


class Ear:
    """Listens to the page's events, and comes back when they end."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self.answer: dict[str, Any] | None = None
        self.answered, self.connected = 0, 0
        """How many answers there were, and how often a first state came over a connection."""
        self.state: dict[str, Any] = {}
        self._answer: Any = None
        threading.Thread(target=self._listen, daemon=True).start()

    def drop(self) -> dict[str, Any]:
        """Break the connection off; return the first state that is told over the next one."""
        before = self.connected
        self._answer.close()
        self._connection.sock.close()
        end = time.monotonic() + PATIENCE_S
        while self.connected == before:
            if time.monotonic() > end:
                sys.exit("the events did not come back")
            time.sleep(0.05)
        return self.state

    def _listen(self) -> None:
        while True:
            try:
                self._connection, self._answer = self._studio.connect("GET", "/api/events")
                self._hear()
            except (OSError, ValueError, AttributeError, http.client.HTTPException):
                pass
            time.sleep(0.2)

    def _hear(self) -> None:
        event, first = b"", True
        for line in iter(self._answer.readline, b""):
            if line.startswith(b"event: "):
                event = line[7:].strip()
            elif line.startswith(b"data: ") and event == b"answer":
                self.answer = json.loads(line[6:])
                self.answered += 1
            elif line.startswith(b"data: "):
                self.state = json.loads(line[6:])
                self.connected += first
                first = False


def _frame(answer: Any) -> bytes:
    """Read one picture of the stream."""
    for line in iter(answer.readline, b""):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
            answer.readline()
            content: bytes = answer.read(length)
            return content
    raise OSError("the camera's stream has ended")


def _colours(image: Image.Image) -> list[int]:
    return list(image.convert("RGB").resize(GRID, Image.BOX).tobytes())


def _distance(one: list[int], other: list[int]) -> int:
    return sum(abs(a - b) for a, b in zip(one, other))
