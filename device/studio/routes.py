"""Which address is served by what; docs/studio-api.md describes each."""

from __future__ import annotations

from typing import Any, Awaitable, Callable, Mapping, Sequence

import anyio
import anyio.to_thread
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from mobiletl.device.bundle.schema import Check, either, integer, list_of, number, one_of, text
from mobiletl.device.bundle.view import view_of
from mobiletl.device.studio.downloads import Downloads
from mobiletl.device.studio.project import LIVE, VERSION_ID
from mobiletl.device.studio.refused import Refused
from mobiletl.device.studio.requests import asked, document, save
from mobiletl.device.studio.state import state
from mobiletl.device.studio.streams import MOST_UPLOADS, Slots, Streams
from mobiletl.device.studio.studio import Studio
from mobiletl.device.studio.uploads import MOST_BYTES

Endpoint = Callable[[Request], Awaitable[Response]]
Work = Callable[[Mapping[str, Any]], Any]

THUMBNAIL_SIDE = 160
DECODERS = 2
LISTED, MOST_LISTED = 60, 500
MOST_AT_ONCE = 5000
MOST_EPOCHS, MOST_MINUTES = 1000, 7 * 24 * 60
# A picture's id is the hash of what it is, so what it shows never changes.
FOREVER = "private, max-age=31536000, immutable"
MEDIA = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png"}


def _or_null(check: Check, what: str) -> Check:
    return either(one_of(None), check, f"{what} or null")


NAME = text(r"(?s).{1,300}", "a name")
PICTURES = list_of(text(r"[0-9a-f]{16}", "the id of a picture"), minimum=1)
VERSION = text(f"{LIVE}|{VERSION_ID}", "the id of a version")
FLAG = one_of(True, False)
CAMERA = {
    "on": _or_null(FLAG, "true, false"),
    "rotate": _or_null(integer(), "degrees"),
    "region": _or_null(list_of(number(minimum=0.0), length=4), "four shares"),
}
TRAIN = {
    "epochs": _or_null(integer(1), "a number of epochs"),
    "minutes": _or_null(number(above=0.0), "a number of minutes"),
}


def table(studio: Studio, streams: Streams, downloads: Downloads) -> list[Route]:
    """Return one row for each address below /api, and the camera."""
    album, training = studio.album, studio.training
    pictures = _Pictures(studio)
    posts: Sequence[tuple[str, Mapping[str, Check], Work]] = (
        ("classes", {"name": NAME}, lambda d: album.add_class(d["name"])),
        (
            "classes/rename",
            {"name": NAME, "to": NAME},
            lambda d: album.rename_class(d["name"], d["to"]),
        ),
        ("classes/delete", {"name": NAME}, lambda d: album.delete_class(d["name"])),
        ("record", {"class": NAME, "on": FLAG}, lambda d: _record(studio, d)),
        (
            "pictures/move",
            {"ids": PICTURES, "to": NAME},
            lambda d: {"moved": album.move(_few(d["ids"]), d["to"])},
        ),
        (
            "pictures/delete",
            {"ids": PICTURES},
            lambda d: {"deleted": album.delete(_few(d["ids"]))},
        ),
        ("teach", {}, lambda d: {"id": studio.teach()}),
        ("train", TRAIN, lambda d: _train(studio, d)),
        ("train/stop", {}, lambda d: training.stop()),
        ("train/go-on", {}, lambda d: training.go_on()),
        ("versions/use", {"id": VERSION}, lambda d: studio.use(d["id"])),
        ("versions/delete", {"id": VERSION}, lambda d: studio.delete_version(d["id"])),
        ("camera", CAMERA, lambda d: _camera(studio, d)),
    )
    return [
        Route("/camera.mjpg", streams.camera, methods=["GET"]),
        Route("/api/events", streams.events, methods=["GET"]),
        Route("/api/state", _get(lambda: state(studio)), methods=["GET"]),
        *(
            Route(f"/api/{path}", _post(fields, work), methods=["POST"])
            for path, fields, work in posts
        ),
        Route("/api/pictures", pictures.either_way, methods=["GET", "POST"]),
        Route("/api/pictures/{id}", pictures.whole, methods=["GET"]),
        Route("/api/pictures/{id}/thumbnail", pictures.thumbnail, methods=["GET"]),
        Route("/api/versions/{id}/state", downloads.state, methods=["GET"]),
        Route("/api/versions/{id}/onnx", downloads.onnx, methods=["GET"]),
        Route("/api/versions/{id}/review", downloads.review, methods=["GET"]),
    ]


class _Pictures:
    """The endpoints whose answers or bodies are pictures."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._uploads = Slots(MOST_UPLOADS, "pictures are sent")
        self._decoders: anyio.CapacityLimiter | None = None

    async def either_way(self, request: Request) -> Response:
        """Answer /api/pictures: a list, or a picture more."""
        return await (self.upload if request.method == "POST" else self.listed)(request)

    async def listed(self, request: Request) -> Response:
        start = asked(request, "from", 0, 10**9)
        limit = asked(request, "limit", LISTED, MOST_LISTED)
        found, total = self._studio.album.listed(request.query_params.get("class"), start, limit)
        rows = [{"id": kept.id, "class": kept.class_name} for kept in found]
        return JSONResponse({"pictures": rows, "total": total})

    async def upload(self, request: Request) -> Response:
        name = request.query_params.get("class", "")
        inbox = self._studio.inbox
        with self._uploads.one():
            self._studio.album.check_class(name)
            arrived = await run_in_threadpool(inbox.temporary)
            await save(request, arrived, MOST_BYTES)
            picture, new = await self._decoding(inbox.take, arrived, name)
        self._studio.live.nudge()
        if new:
            return JSONResponse({"id": picture}, 201)
        return JSONResponse({"id": picture, "known": True})

    async def whole(self, request: Request) -> Response:
        kept = self._studio.album.find(request.path_params["id"])
        if not await run_in_threadpool(kept.path.is_file):
            raise Refused(404, "this picture is gone")
        media = MEDIA.get(kept.path.suffix.lower(), "application/octet-stream")
        return FileResponse(kept.path, media_type=media, headers={"cache-control": FOREVER})

    async def _decoding(self, work: Callable[..., Any], *words: Any) -> Any:
        """Do what decodes a picture in a thread, of which a few are kept for it: who asks for the
        state is not to wait for pictures.
        """
        if self._decoders is None:
            self._decoders = anyio.CapacityLimiter(DECODERS)
        return await anyio.to_thread.run_sync(work, *words, limiter=self._decoders)

    async def thumbnail(self, request: Request) -> Response:
        kept = self._studio.album.find(request.path_params["id"])
        content = await self._decoding(self._studio.inbox.thumbnail, kept.path, THUMBNAIL_SIDE)
        return Response(content, media_type="image/jpeg", headers={"cache-control": FOREVER})


def _record(studio: Studio, asked_for: Mapping[str, Any]) -> None:
    recorder = studio.recorder
    (recorder.hold if asked_for["on"] else recorder.release)(asked_for["class"])


def _train(studio: Studio, asked_for: Mapping[str, Any]) -> dict[str, Any]:
    epochs, minutes = asked_for["epochs"], asked_for["minutes"]
    if (epochs or 0) > MOST_EPOCHS or (minutes or 0) > MOST_MINUTES:
        raise Refused(400, f"expected at most {MOST_EPOCHS} epochs and {MOST_MINUTES} minutes")
    studio.training.begin(epochs, minutes)
    return {"id": studio.training.version}


def _camera(studio: Studio, asked_for: Mapping[str, Any]) -> None:
    if studio.feed.source is None:
        raise Refused(409, "the studio has no camera; start it with --camera")
    if asked_for["rotate"] is not None or asked_for["region"] is not None:
        former = studio.feed.view
        wanted = {
            "rotate": former.rotate if asked_for["rotate"] is None else asked_for["rotate"],
            "region": list(former.region) if asked_for["region"] is None else asked_for["region"],
        }
        problems: list[str] = []
        view = view_of(wanted, "", problems)
        if view is None:
            raise Refused(400, "; ".join(problems).lstrip(": ."))
        studio.look(view)
    if asked_for["on"] is not None:
        studio.feed.switch(asked_for["on"])


def _few(pictures: Sequence[str]) -> Sequence[str]:
    if len(pictures) > MOST_AT_ONCE:
        raise Refused(400, f"{len(pictures)} pictures, expected at most {MOST_AT_ONCE} at once")
    return pictures


def _get(work: Callable[[], Any]) -> Endpoint:
    async def answer(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(work))

    return answer


def _post(table: Mapping[str, Check], work: Work) -> Endpoint:
    """Return an endpoint that checks a document and works on it in a thread."""

    async def answer(request: Request) -> Response:
        found = await document(request, table)
        result = await run_in_threadpool(work, found)
        return Response(status_code=204) if result is None else JSONResponse(result)

    return answer
