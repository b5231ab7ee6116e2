"""What is attacked: a kind of file, how it is changed, and the command that reads it.

Checksums are put right in most cases: whoever makes a file on purpose does that, too.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import random
import shutil
import struct
import zlib
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.decode import UnreadablePicture
from mobiletl.device.bundle.digest import manifest_id
from mobiletl.device.bundle.frame import Frame
from mobiletl.device.bundle.prepare import prepare
from mobiletl.device.commands.table import guarded, main
from mobiletl.device.features.store import FeatureStore
from mobiletl.device.run.checkpoints import RunFolder
from mobiletl.device.run.metrics import MetricsFile
from mobiletl.device.run.plot import draw_plot
from mobiletl.device.run.restoring import load_checkpoint
from mobiletl.device.sessions.runtimes import open_session
from runtime_tests.attacks.mutations import odd_bytes, odd_document
from runtime_tests.attacks.odd_graphs import odd_graph
from runtime_tests.support.board.picture_folders import write_pictures
from runtime_tests.support.board.tiny_bundle import tiny_document, write_tiny_bundle
from runtime_tests.support.board.tiny_levels import LEVEL_FILE, write_tiny_levels

RESEALED = 0.8
PICTURES = {"ant": 4, "bee": 4}


class Scene:
    """A bundle, pictures and a finished run, from which every case starts afresh."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bundle = folder / "bundle"
        self.levels = write_tiny_levels(folder / "levels")
        self.photos = folder / "photos"
        self.run = folder / "run"
        write_tiny_bundle(self.bundle)
        write_pictures(self.photos, PICTURES)
        quietly(
            "train", "--bundle", self.bundle, "--data", self.photos, "--out", self.run,
            "--epochs", "2", "--batch", "4", "--threads", "1", "--cache", folder / "cache",
        )  # fmt: skip
        self.manifest = open_bundle(self.bundle).manifest
        self.store = next((folder / "cache").glob("*.store"))
        self.good = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def restore(self) -> None:
        """Put every file back, and remove what a case has left."""
        for path in sorted(self.folder.rglob("*"), reverse=True):
            if path.is_file() and path not in self.good:
                path.unlink()
        for path, content in self.good.items():
            if (
                not path.is_file()
                or path.stat().st_size != len(content)
                or (path.read_bytes() != content)
            ):
                path.write_bytes(content)

    def seal(self) -> None:
        """Make a manifest that fits the bundle's files."""
        file = self.bundle / "manifest.json"
        file.unlink()
        document = tiny_document(self.bundle)
        sealed = {**document, "id": manifest_id(document)}
        file.write_text(json.dumps(sealed), encoding="utf-8")


def quietly(*words: Any) -> tuple[int, str, str]:
    """Run a command in this process; return its exit code and what it printed."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(word) for word in words])
    return code, out.getvalue(), err.getvalue()


def _reading(body: Callable[[], Any]) -> tuple[int, str, str]:
    """Call a loader as a command would."""
    out, err = io.StringIO(), io.StringIO()

    def run() -> int:
        body()
        return 0

    with redirect_stdout(out), redirect_stderr(err):
        code = guarded(run)
    return code, out.getvalue(), err.getvalue()


def manifest(scene: Scene, draw: random.Random) -> tuple[int, str, str]:
    file = scene.bundle / "manifest.json"
    if draw.random() < 0.25:
        file.write_bytes(odd_bytes(file.read_bytes(), draw))
    else:
        text = odd_document(json.loads(file.read_bytes()), draw)
        if draw.random() < RESEALED:
            text = _resealed(text)
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
    found = quietly("inspect", "--bundle", scene.bundle)
    return found if found[0] else quietly("predict", *_state(scene), "--runtime", "fake")


def level(scene: Scene, draw: random.Random) -> tuple[int, str, str]:
    """A further level's manifest, as it is named by the bundle's or with all ids put right."""
    file = scene.levels / LEVEL_FILE
    if draw.random() < 0.25:
        file.write_bytes(odd_bytes(file.read_bytes(), draw))
    else:
        text = odd_document(json.loads(file.read_bytes()), draw)
        if draw.random() < RESEALED:
            text = _resealed(text)
            _name_level(scene.levels / "manifest.json", text)
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
    found = quietly("inspect", "--bundle", scene.levels, "--blocks", "0")
    if found[0]:
        return found
    return quietly("inspect", "--bundle", scene.levels, "--state", scene.run / "state.safetensors")


def _name_level(file: Path, text: str) -> None:
    """Let the manifest in `file` name the level that `text` is, if it is one with an id."""
    with contextlib.suppress(Exception):
        identity = json.loads(text)["id"]
        document = {**json.loads(file.read_bytes()), "levels": {"0": identity}}
        sealed = {**document, "id": manifest_id(document)}
        file.write_text(json.dumps(sealed), encoding="utf-8")


def _resealed(text: str) -> str:
    """Put the id right, where the text is still a document that has one."""
    try:
        document = json.loads(text)
        return json.dumps({**document, "id": manifest_id(document)})
    except Exception:  # noqa: BLE001 - whatever it is, it stays as it is
        return text


def _state(scene: Scene) -> tuple[Any, ...]:
    picture = next((scene.photos / "ant").iterdir())
    return "--bundle", scene.bundle, "--state", scene.run / "state.safetensors", picture


def state(scene: Scene, draw: random.Random) -> tuple[int, str, str]:
    name = draw.choice(("state.safetensors", "last.safetensors"))
    file = scene.run / name
    for generation in scene.run.glob("*.previous.safetensors"):
        generation.unlink()
    content = file.read_bytes()
    content = odd_bytes(content, draw) if draw.random() < 0.3 else _odd_state(content, draw)
    file.write_bytes(content)
    if name == "last.safetensors":
        return _reading(lambda: load_checkpoint(RunFolder(scene.run), scene.manifest))
    return quietly("predict", *_state(scene), "--runtime", "fake")


def _odd_state(content: bytes, draw: random.Random) -> bytes:
    """Change the header, or the info in it, whose checksum is put right."""
    length = int.from_bytes(content[:8], "little")
    header, rest = json.loads(content[8 : 8 + length]), content[8 + length :]
    if draw.random() < 0.4:
        text = odd_document(header, draw)
    else:
        metadata = header["__metadata__"]
        metadata["info"] = odd_document(json.loads(metadata["info"]), draw)
        metadata["sha256"] = _digest(metadata["info"], header, rest)
        text = json.dumps(header)
    encoded = text.encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(encoded)) + encoded + rest


def _digest(info: str, header: dict[str, Any], rest: bytes) -> str:
    digest = hashlib.sha256(info.encode("utf-8", "surrogatepass"))
    for name in sorted(set(header) - {"__metadata__"}):
        entry = header[name]
        digest.update(json.dumps([name, entry["shape"]]).encode("utf-8"))
        digest.update(rest[slice(*entry["data_offsets"])])
    return digest.hexdigest()


def graph(scene: Scene, draw: random.Random) -> tuple[int, str, str]:
    file = (
        scene.bundle / "onnxruntime" / f"{draw.choice(('features', 'train_step', 'predict'))}.onnx"
    )
    change = odd_bytes if draw.random() < 0.5 else odd_graph
    file.write_bytes(change(file.read_bytes(), draw))
    scene.seal()
    return _reading(lambda: _run_graphs(scene.bundle))


def _run_graphs(folder: Path) -> None:
    """Call all three functions, as training does."""
    bundle = open_bundle(folder)
    side = bundle.manifest.input.resolution
    with open_session(bundle, 2, bundle.initial_state(2, 0), 1) as session:
        h = session.features(np.zeros((1, 3, side, side), np.float32))
        session.train_step(h, np.zeros(1, np.int64), 0.0)
        session.embed(h)


def store(scene: Scene, draw: random.Random) -> tuple[int, str, str]:
    content = scene.store.read_bytes()
    content = odd_bytes(content, draw) if draw.random() < 0.4 else _odd_records(content, draw)
    scene.store.write_bytes(content)
    return _reading(lambda: _read_store(scene))


def _odd_records(content: bytes, draw: random.Random) -> bytes:
    """Change the JSON of one record, and put its checksum right."""
    head = struct.Struct("<4sHIII")
    records, place = [], 0
    while place + head.size <= len(content):
        magic, about, data, _, checksum = head.unpack_from(content, place)
        start = place + head.size
        records.append(
            (magic, content[start : start + about], content[start + about :][:data], checksum)
        )
        place = start + about + data
    chosen = draw.randrange(len(records))
    written = b""
    for index, (magic, about, data, checksum) in enumerate(records):
        text = about
        if index == chosen:
            text = odd_document(json.loads(about), draw).encode("utf-8", "surrogatepass")[:65535]
        crc = zlib.crc32(struct.pack("<HI", len(text), len(data)) + text)
        written += head.pack(magic, len(text), len(data), crc, checksum) + text + data
    return written


def _read_store(scene: Scene) -> None:
    out = np.empty(scene.manifest.feature.shape, np.float32)
    with FeatureStore(scene.store, scene.manifest) as opened:
        for stored in list(opened.maps()):
            opened.read(stored.picture, stored.view, out)
            hash((stored.picture, stored.class_name))


def _odd_lines(file: Path, draw: random.Random) -> None:
    if draw.random() < 0.3:
        file.write_bytes(odd_bytes(file.read_bytes(), draw))
        return
    lines = file.read_text("utf-8").splitlines()
    at = draw.randrange(len(lines))
    lines[at] = odd_document(json.loads(lines[at]), draw)
    if draw.random() < 0.1:
        lines.insert(at, draw.choice(("[]", "null", '"x"', "{", "\x00" * 50, "1" * 2_000_000)))
    file.write_bytes("\n".join([*lines, ""]).encode("utf-8", "surrogatepass"))


def metrics(scene: Scene, draw: random.Random) -> tuple[int, str, str]:
    _odd_lines(scene.run / "metrics.jsonl", draw)

    def read() -> None:
        file = MetricsFile(scene.run / "metrics.jsonl")
        rows = file.rows()
        if rows:
            draw_plot(scene.run / "plot.png", rows, "a run")
        file.keep_before(2)

    return _reading(read)


def events(scene: Scene, draw: random.Random) -> tuple[int, str, str]:
    _odd_lines(scene.run / "events.jsonl", draw)
    return quietly("review", scene.run, "--runtime", "fake", "--threads", "1")


def pictures(scene: Scene, draw: random.Random) -> tuple[int, str, str]:
    kind = draw.choice(("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"))
    pixels = np.frombuffer(
        draw.getrandbits(8 * 32 * 24 * 3).to_bytes(32 * 24 * 3, "little"), np.uint8
    )
    held = io.BytesIO()
    Image.fromarray(pixels.reshape(24, 32, 3)).save(held, kind)
    file = scene.photos / "ant" / "odd.jpg"
    file.write_bytes(odd_bytes(held.getvalue(), draw))

    def read() -> None:
        size = scene.manifest.input
        out = np.empty((3, size.resolution, size.resolution), np.float32)
        try:
            Frame(str(file), file).check()
            prepare(Frame(str(file), file), size, out)
        except UnreadablePicture as error:
            str(error)

    return _reading(read)


def weights(scene: Scene, draw: random.Random) -> tuple[int, str, str]:
    """Weights as a host reads them; they are those of the bundle's own state."""
    content = (scene.bundle / "state.safetensors").read_bytes()
    file = scene.folder / "weights.safetensors"
    if draw.random() < 0.4:
        file.write_bytes(odd_bytes(content, draw))
    else:
        length = int.from_bytes(content[:8], "little")
        text = odd_document(json.loads(content[8 : 8 + length]), draw).encode(
            "utf-8", "surrogatepass"
        )
        file.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    if draw.random() < 0.3:
        import torch

        torch.save({"a": torch.zeros(8), "b": {"c": torch.ones(2, 3)}}, file.with_suffix(".pth"))
        file = file.with_suffix(".pth")
        file.write_bytes(odd_bytes(file.read_bytes(), draw))
    return _reading(partial(_weights_of, file))


def _weights_of(file: Path) -> None:
    from mobiletl.export.own_network import find_network
    from mobiletl.export.weights.loading import weights_of

    weights_of(find_network("mbv2-0.35"), str(file))


KINDS: dict[str, Callable[[Scene, random.Random], tuple[int, str, str]]] = {
    "manifest": manifest,
    "level": level,
    "state": state,
    "graph": graph,
    "store": store,
    "metrics": metrics,
    "events": events,
    "pictures": pictures,
    "weights": weights,
}


def scene_at(folder: Path) -> Scene:
    """Make a scene in an empty `folder`."""
    shutil.rmtree(str(folder), ignore_errors=True)
    folder.mkdir(parents=True)
    return Scene(folder)


def warm_up(scene: Scene) -> None:
    """Import what the commands import, so that no case is blamed for it."""
    _run_graphs(scene.bundle)
    quietly("review", scene.run, "--runtime", "fake", "--threads", "1")
    quietly("predict", *_state(scene))
    scene.restore()


def warm_up_weights(scene: Scene) -> None:
    """Import PyTorch and what it imports when it first reads each kind of file."""
    import torch

    file = scene.folder / "weights.pth"
    torch.save({"a": torch.zeros(8)}, file)
    for path in (file, scene.bundle / "state.safetensors"):
        _reading(partial(_weights_of, path))
    scene.restore()
