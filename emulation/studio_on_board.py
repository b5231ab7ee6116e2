"""The studio on a board, used by a client there: `python studio_on_board.py FOLDER EPOCHS`.

FOLDER holds `bundle/`, `camera/` and what this script imports. The studio is started as a person
does, with pictures played as its camera. It is asked for what its page asks for: to pair, to make
classes and record them, to name what the camera sees, to teach, to train while the page is loaded
anew and while the server is killed, to delete a picture, to add a class, to give the network. The
memory of its process and of the training's is read meanwhile. Writes `FOLDER/results.json`, the
network, and pictures with the page's labels in `FOLDER/answered/`. Needs what the board has: the
installed package with its extra `studio`, the standard library, Python 3.8.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from on_board import resident
from studio_client import PATIENCE_S, Studio, Watched, counts
from studio_senses import Ear, Eye

FIRST, LATER = ("temple", "flower", "digit"), "chalk"
RECORDED, RATE = 20, 4
# Pictures of each scene whose labels are compared with those of the downloaded network.
COMPARED = 2
ENDED = ("finished", "failed", "stopped")
# What the server imports, and then waits for its memory to be read.
LIBRARIES = """
import onnxruntime, numpy, PIL, safetensors, starlette, uvicorn, segno
import mobiletl.device.studio_server, mobiletl.device.studio.server, numpy.random
import mobiletl.device.sessions.onnxruntime, anyio._backends._asyncio, uvicorn.loops.auto
print("imported", flush=True)
input()
"""


def main(folder: Path, epochs: int) -> None:
    libraries = imported_bytes()
    words = ["--bundle", folder / "bundle", "--project", folder / "project", "--threads", "1"]
    studio = Studio([*words, "--camera", folder / "camera", "--camera-rate", str(RATE)])
    try:
        results = Visit(studio, folder).all(epochs)
    finally:
        studio.end()
    results.update(
        machine=platform.machine(),
        python=platform.python_version(),
        libraries_bytes=libraries,
        server_bytes=max(one.peak for one in studio.watched),
        server_emulator_bytes=max(one.emulator for one in studio.watched),
    )
    (folder / "results.json").write_text(json.dumps(results, indent=1))


class Visit:
    """What a visitor does, in its order; what there is to check is collected."""

    def __init__(self, studio: Studio, folder: Path) -> None:
        self.studio, self.folder = studio, folder
        studio.ask("POST", "/pair", {"code": "00000000"}, wanted=403)
        studio.ask("GET", "/api/state", wanted=401)
        studio.ask("POST", "/pair", {"code": studio.code})
        studio.ask("GET", "/")
        self.eye, self.ear = Eye(studio, folder / "camera"), Ear(studio)

    def all(self, epochs: int) -> dict[str, Any]:
        began = time.monotonic()
        for name in FIRST:
            self.studio.post("classes", name=name)
        recorded = {name: self.record(name) for name in FIRST}
        labels = {name: self.sees(name) for name in FIRST}
        first_success = time.monotonic() - began
        taught = self.studio.post("teach")["id"]
        trained = self.trained(epochs)
        deleted = self.deletes("digit")
        self.studio.post("classes", name=LATER)
        recorded[LATER] = self.record(LATER)
        labels[LATER] = self.sees(LATER)
        version = trained["training"]["version"]
        self.studio.post("versions/use", id=version)
        answered = self.answers(version)
        onnx = self.studio.ask("GET", f"/api/versions/{version}/onnx")
        (self.folder / "network.onnx").write_bytes(onnx)
        kept = self.studio.ask("GET", f"/api/versions/{taught}/state")
        state = self.studio.state()
        return {
            **trained,
            "recorded": recorded,
            "label_seconds": labels,
            "first_success_seconds": first_success,
            "deleted": deleted,
            "classes": counts(state),
            "answered": answered,
            "versions": {one["kind"]: one["accuracy"] for one in state["versions"]},
            "using": state["using"],
            "onnx_bytes": len(onnx),
            "state_bytes": len(kept),
        }

    def record(self, name: str) -> int:
        """Hold the button of a class while its scene is on, until there are enough pictures."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            found = counts(self.studio.state())[name]
            holds = self.eye.seen[0] == name and found < RECORDED
            self.studio.post("record", **{"class": name, "on": holds})
            if found >= RECORDED:
                time.sleep(1)  # what was on its way is counted, too
                return counts(self.studio.state())[name]
            time.sleep(0.1)
            if not holds:
                self.eye.wait_for(name)
        sys.exit(f"only {found} pictures of {name} were recorded")

    def sees(self, name: str) -> float:
        """Wait until the label is right; return seconds, from when there was the scene to name."""
        self.studio.until("teaching", lambda state: state["teaching"]["state"] == "ready")
        ready = time.monotonic()
        while time.monotonic() < ready + PATIENCE_S:
            self.eye.wait_for(name)
            before = self.ear.answered
            while self.eye.seen[0] == name:
                scene, _, since = self.eye.seen
                if scene == name and self.ear.answered > before and self.said() == name:
                    return time.monotonic() - max(since, ready)
                time.sleep(0.02)
        sys.exit(f"the label of {name} was never right; the last answer is {self.ear.answer}")

    def said(self) -> str:
        """The label over the picture, empty where none is sure."""
        answer = self.ear.answer
        return "" if answer is None or answer["unknown"] else str(answer["labels"][0]["label"])

    def trained(self, epochs: int) -> dict[str, Any]:
        """Train; drop the page's events, and kill the server, while it goes on."""
        studio = self.studio
        began = time.monotonic()
        version = studio.post("train", epochs=epochs, minutes=None)["id"]
        child = None
        while child is None:
            child = studio.training_process()
        watched = Watched(child)
        studio.until("an epoch", lambda state: state["training"]["epoch"] >= 1)
        reloaded = self.ear.drop()["training"]
        studio.kill()
        alone = resident(child)[0] > 0
        studio.start()
        returned = studio.state()
        state = studio.until("training", lambda state: state["training"]["state"] in ENDED)
        watched.end()
        training: dict[str, Any] = state["training"]
        # As in on_board.py: between two samples there may have been more, as it says itself.
        if training["measured_mb"] is not None:
            own = round(1e6 * training["measured_mb"]) - watched.emulator
            watched.peak = max(watched.peak, own)
        return {
            "training": training,
            "training_seconds": time.monotonic() - began,
            "training_bytes": watched.peak,
            "emulator_bytes": watched.emulator,
            "reloaded": [reloaded["version"] == version, reloaded["state"]],
            "alone": alone,
            "returned": [returned["training"]["version"] == version, returned["training"]["state"]],
            "returned_pictures": returned["pictures"],
        }

    def deletes(self, name: str) -> dict[str, int]:
        """Delete a picture of a class; return how many there were, and are."""
        before = counts(self.studio.state())[name]
        listed = json.loads(self.studio.ask("GET", f"/api/pictures?class={name}"))["pictures"]
        picture = listed[0]["id"]
        self.studio.post("pictures/delete", ids=[picture])
        self.studio.ask("GET", f"/api/pictures/{picture}", wanted=404)
        return {"before": before, "after": counts(self.studio.state())[name]}

    def answers(self, version: str) -> list[list[str]]:
        """Return [scene, file, the page's label] of pictures that a trained version has named."""
        (self.folder / "answered").mkdir()
        found: list[list[str]] = []
        for name in FIRST:
            for number in range(COMPARED):
                path = self.folder / "answered" / f"{name}-{number}.jpg"
                path.write_bytes(self.named(name, version))
                label = self.ear.answer["labels"][0]["label"] if self.ear.answer else ""
                found.append([name, path.name, label])
                time.sleep(1)
        return found

    def named(self, name: str, version: str) -> bytes:
        """Return a picture of a scene, once the version's answer is newer than it."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            picture, before = self.eye.wait_for(name), self.ear.answered
            while self.eye.seen[0] == name:
                answer = self.ear.answer
                # The answer to the frame that was on its way is older than the picture.
                if self.ear.answered > before + 1 and answer and answer["version"] == version:
                    return picture
                time.sleep(0.02)
        sys.exit(f"no {name} was named by {version}")


def imported_bytes() -> int:
    """Return what an interpreter takes that has imported the server's libraries."""
    command = [sys.executable, "-c", LIBRARIES]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, universal_newlines=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        own, _ = resident(process.pid)
        process.communicate("\n")
    return own


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]))
