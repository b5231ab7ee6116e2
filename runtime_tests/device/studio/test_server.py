"""The studio does what its page asks for: a real server, a real client, a real bundle."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Iterator

import pytest

for package in ("httpx", "starlette", "uvicorn"):
    pytest.importorskip(package)

from PIL import Image  # noqa: E402

from mobiletl.device.bundle.bundle import open_bundle  # noqa: E402
from mobiletl.device.bundle.frame import Frame  # noqa: E402
from mobiletl.device.bundle.prepare import prepare  # noqa: E402
from mobiletl.device.pictures.dataset import open_dataset  # noqa: E402
from mobiletl.device.prediction.predictor import open_predictor  # noqa: E402
from runtime_tests.support.board.picture_folders import write_pictures  # noqa: E402
from runtime_tests.support.board.studio_service import (  # noqa: E402
    Client,
    cameras_folder,
    served,
)
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle  # noqa: E402


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("photos"), {"red": 10, "green": 10, "blue": 10})


@pytest.fixture
def client(bundle: Path, tmp_path: Path) -> Iterator[Client]:
    camera = cameras_folder(tmp_path / "camera")
    with served(bundle, tmp_path / "project", camera) as server, Client(server.port) as client:
        yield client.opened()


def picture(shade: int = 0) -> bytes:
    """Return a PNG of its own for each shade."""
    import io

    out = io.BytesIO()
    Image.new("RGB", (24, 18), (shade, 100, 200 - shade)).save(out, "PNG")
    return out.getvalue()


def test_a_new_project_says_what_it_needs(client: Client) -> None:
    found = client.wait(lambda state: state["camera"]["state"] == "live")
    assert found["bundle"] == {"name": "tiny", "resolution": 8}
    assert found["classes"] == []
    assert found["teaching"]["state"] == "needs"
    assert found["training"] is None
    assert found["using"] == "live"
    assert found["camera"]["view"] == {"rotate": 0, "region": [0.0, 0.0, 1.0, 1.0]}


def test_pictures_become_an_ordinary_data_set(client: Client, photos: Path, tmp_path: Path) -> None:
    found = client.teach(photos)
    assert found["classes"] == [{"name": name, "count": 10} for name in ("blue", "green", "red")]
    dataset = open_dataset(tmp_path / "project" / "pictures", 0.2, 0)
    assert dataset.class_names == ("blue", "green", "red")
    assert len(dataset.train) + len(dataset.val) == 30
    assert not dataset.skipped
    for path in (tmp_path / "project" / "pictures").glob("*/*"):
        assert path.stem == hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def test_the_taught_head_answers_as_a_version_of_it_does(
    client: Client, bundle: Path, photos: Path, tmp_path: Path
) -> None:
    client.teach(photos)
    version = client.ask("teach")["id"]
    state = tmp_path / "project" / "versions" / version / "state.safetensors"
    assert client.get(f"/api/versions/{version}/state").content == state.read_bytes()
    with client.stream("GET", "/api/events") as events:
        answer = next(one for name, one in _events(events) if name == "answer" and one)
    assert answer["version"] == "live"
    with open_predictor(open_bundle(bundle), state, threads=1) as predictor:
        said = {
            predictor.predict(path).label: round(predictor.predict(path).probability, 2)
            for path in (tmp_path / "camera").glob("*/*")
        }
        assert predictor.answers is not None
        assert predictor.answers.unknown is not None
    first = answer["labels"][0]
    assert any(
        label == first["label"] and abs(share - first["probability"]) < 0.1
        for label, share in said.items()
    )


def test_events_tell_what_another_visitor_does(client: Client) -> None:
    with client.stream("GET", "/api/events") as events:
        heard = _events(events)
        assert next(heard)[0] == "state"
        client.ask("classes", name="new class")
        state = next(one for name, one in heard if name == "state")
    assert state["classes"] == [{"name": "new class", "count": 0}]


def test_the_camera_gives_whole_jpegs_in_its_view(client: Client) -> None:
    import io

    client.wait(lambda state: state["camera"]["state"] == "live")
    client.ask("camera", rotate=90, region=[0.0, 0.0, 1.0, 0.5])
    client.wait(lambda state: state["camera"]["state"] == "live")
    time.sleep(0.3)
    with client.stream("GET", "/camera.mjpg") as stream:
        assert "multipart/x-mixed-replace" in stream.headers["content-type"]
        content = b""
        for piece in stream.iter_bytes():
            content += piece
            if content.count(b"\xff\xd9") >= 2:
                break
    head, _, rest = content.partition(b"\r\n\r\n")
    size = int(head.split(b"Content-Length:")[1].split()[0])
    # 20 x 16 pixels, turned, the upper half.
    assert Image.open(io.BytesIO(rest[:size])).size == (16, 10)
    assert client.state()["camera"]["view"] == {"rotate": 90, "region": [0.0, 0.0, 1.0, 0.5]}


def test_holding_the_button_adds_frames_and_silence_ends_it(client: Client) -> None:
    client.ask("classes", name="held")
    client.wait(lambda state: state["camera"]["state"] == "live")
    client.ask("record", **{"class": "held", "on": True})
    assert client.state()["recording"] == "held"
    client.ask("classes", name="other")
    client.ask("record", 409, **{"class": "other", "on": True})
    found = client.wait(lambda state: state["recording"] is None, 4)
    # Six different pictures are played, twice as fast as frames are kept; each is kept once.
    assert 3 <= found["classes"][0]["count"] <= 6


def test_moving_renaming_and_deleting(client: Client) -> None:
    for name in ("cat", "dog"):
        client.ask("classes", name=name)
    first = client.add("cat", picture(1))
    assert first.status_code == 201
    again = client.add("dog", picture(1))
    assert (again.status_code, again.json()) == (200, {"id": first.json()["id"], "known": True})
    second = client.add("cat", picture(2)).json()["id"]
    listed = client.get("/api/pictures", params={"class": "cat", "limit": "1"}).json()
    assert listed == {"pictures": [{"id": second, "class": "cat"}], "total": 2}
    assert client.ask("pictures/move", ids=[second], to="dog") == {"moved": 1}
    client.ask("classes/rename", name="dog", to="hund")
    client.ask("classes/rename", 409, name="dog", to="chien")
    client.ask("classes/rename", 409, name="hund", to="cat")
    client.ask("classes", 409, name="cat")
    assert client.get(f"/api/pictures/{second}").content == picture(2)
    thumbnail = client.get(f"/api/pictures/{second}/thumbnail")
    assert thumbnail.headers["content-type"] == "image/jpeg"
    assert client.ask("pictures/delete", ids=[second, second, "0" * 16]) == {"deleted": 1}
    assert client.get(f"/api/pictures/{second}").status_code == 404
    client.ask("classes/delete", name="cat")
    assert client.state()["classes"] == [{"name": "hund", "count": 0}]
    assert client.state()["pictures"] == 0


def test_training_in_a_child_is_seen_and_its_version_used(client: Client, photos: Path) -> None:
    client.teach(photos)
    client.ask("classes", name="empty")
    assert "empty" in client.ask("train", 409, epochs=2)["error"]
    client.ask("classes/delete", name="empty")
    version = client.ask("train", epochs=2)["id"]
    assert "runs already" in client.ask("train", 409, epochs=2)["error"]
    found = client.wait(lambda state: state["training"]["state"] == "finished")
    training = found["training"]
    assert training["version"] == version
    assert (training["epoch"], training["epochs"]) == (2, 2)
    assert [one["epoch"] for one in training["history"]] == [0, 1, 2]
    assert training["planned_mb"] > 0
    assert training["measured_mb"] > 0
    row = found["versions"][0]
    assert (row["id"], row["kind"], row["fits"], row["pictures"]) == (version, "trained", True, 30)
    assert row["classes"] == ["blue", "green", "red"]
    client.ask("versions/use", id=version)
    with client.stream("GET", "/api/events") as events:
        answer = next(one for name, one in _events(events) if name == "answer" and one)
    assert answer["version"] == version
    review = client.get(f"/api/versions/{version}/review").json()
    ids = {one["id"] for one in client.get("/api/pictures?limit=100").json()["pictures"]}
    rows = [*review["worst"], *review["suspects"]]
    assert all(one["id"] in ids for one in rows)
    client.ask("versions/delete", id=version)
    found = client.state()
    assert (found["using"], found["versions"], found["training"]) == ("live", [], None)


def test_a_training_is_stopped_and_goes_on(client: Client, photos: Path) -> None:
    client.teach(photos)
    client.ask("train/stop", 409)
    client.ask("train/go-on", 409)
    client.ask("train", epochs=1000)
    client.wait(lambda state: state["training"]["epoch"] > 2)
    client.ask("train/stop")
    stopped = client.wait(lambda state: state["training"]["state"] == "stopped")["training"]
    client.ask("train/go-on")
    found = client.wait(lambda state: state["training"]["epoch"] > stopped["epoch"] + 2)
    assert found["training"]["state"] == "training"
    client.ask("train/stop")
    client.wait(lambda state: state["training"]["state"] == "stopped")


def test_answers_are_as_quick_after_a_training_as_before(
    bundle: Path, photos: Path, tmp_path: Path
) -> None:
    camera = cameras_folder(tmp_path / "camera")
    with served(bundle, tmp_path / "project", camera) as server, Client(server.port) as client:
        client.opened().teach(photos)
        client.ask("train", epochs=1)
        client.wait(lambda state: state["training"]["state"] == "finished")
        studio = server._studio
        client.wait(lambda _: (studio.live._pause, studio.feed._pause) == (0.0, 0.0), 5)


def test_minutes_become_as_many_epochs_as_fit(client: Client, photos: Path) -> None:
    client.teach(photos)
    client.ask("train", epochs=1000, minutes=0.004)
    found = client.wait(lambda state: (state["training"]["epochs"] or 1000) < 1000)
    assert found["training"]["epochs"] >= 1
    if found["training"]["state"] != "finished":
        client.ask("train/stop")


def test_the_file_for_inference_answers_as_the_version_does(
    client: Client, bundle: Path, photos: Path, tmp_path: Path
) -> None:
    """Run by onnxruntime alone, on a picture that the page would show."""
    pytest.importorskip("onnx")
    import onnxruntime

    client.teach(photos)
    version = client.ask("teach")["id"]
    first = client.get(f"/api/versions/{version}/onnx")
    assert first.status_code == 200, first.text
    assert f'filename="{version}.onnx"' in first.headers["content-disposition"]
    assert client.get(f"/api/versions/{version}/onnx").content == first.content
    session = onnxruntime.InferenceSession(first.content, providers=["CPUExecutionProvider"])
    opened = open_bundle(bundle)
    path = next((tmp_path / "camera").glob("*/*"))
    logits = session.run(
        ["logits"], {"images": prepare(Frame("x", path), opened.manifest.input)[None]}
    )
    state = tmp_path / "project" / "versions" / version / "state.safetensors"
    with open_predictor(opened, state, threads=1) as predictor:
        said = predictor.predict(path)
    assert ("blue", "green", "red")[int(logits[0].argmax())] == said.label


def test_a_phone_picture_is_kept_as_a_jpeg(client: Client, tmp_path: Path) -> None:
    import pillow_heif  # what the studio installs

    pillow_heif.register_heif_opener()
    path = tmp_path / "phone.heic"
    Image.new("RGB", (64, 48), (10, 200, 30)).save(path, "HEIF")
    client.ask("classes", name="phone")
    answer = client.add("phone", path.read_bytes())
    assert answer.status_code == 201, answer.text
    kept = client.get(f"/api/pictures/{answer.json()['id']}")
    assert kept.headers["content-type"] == "image/jpeg"
    assert hashlib.sha256(kept.content).hexdigest()[:16] == answer.json()["id"]


def _events(response: object) -> Iterator[tuple[str, dict]]:  # type: ignore[type-arg]
    """Yield each event with its document."""
    name = ""
    for line in response.iter_lines():  # type: ignore[attr-defined]
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            yield name, json.loads(line[6:])
