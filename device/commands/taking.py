"""Pictures taken by a camera until there are enough, a person ends it, or the camera does."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mobiletl.device.bundle.view import AskedView
from mobiletl.device.cameras.base import CameraStopped, Wanted
from mobiletl.device.cameras.stream import open_stream
from mobiletl.device.capturing.attended import Attended
from mobiletl.device.capturing.guided import Guided
from mobiletl.device.capturing.keys import Keys
from mobiletl.device.capturing.photo_folder import PhotoFolder
from mobiletl.device.capturing.recorder import Recorder
from mobiletl.device.capturing.selection import Rules
from mobiletl.device.capturing.showing import Showing, pictures
from mobiletl.device.commands.camera_flags import ChosenCamera
from mobiletl.device.errors import BadPictures, Interrupted
from mobiletl.device.pictures.kept_view import settled_view
from mobiletl.device.printable import printable
from mobiletl.device.run.stop import StopFlag


@dataclass(frozen=True)
class Order:
    """Which pictures a person wants; `guided` leads class by class, else keys choose."""

    data: Path
    names: tuple[str, ...]
    goal: int | None
    guided: bool
    countdown: bool
    camera: ChosenCamera
    rules: Rules
    limit_bytes: int
    seconds: float | None = None

    def document(self) -> dict[str, Any]:
        """What JSON says of it, for `order_of`."""
        return {
            **vars(self),
            "data": str(self.data),
            "camera": {
                "source": self.camera.source,
                "wanted": asdict(self.camera.wanted),
                "view": asdict(self.camera.view),
            },
            "rules": asdict(self.rules),
        }


def order_of(document: dict[str, Any]) -> Order:
    """Return what `Order.document` gave."""
    camera, order = document["camera"], Order(**document)
    rotate, region = camera["view"]["rotate"], camera["view"]["region"]
    return replace(
        order,
        data=Path(document["data"]),
        names=tuple(document["names"]),
        camera=ChosenCamera(
            camera["source"],
            Wanted(**camera["wanted"]),
            AskedView(rotate, None if region is None else tuple(region)),
        ),
        rules=Rules(**document["rules"]),
    )


@dataclass(frozen=True)
class Taken:
    """What was taken: frames that were `seen`, pictures `kept`, and all that classes have now.

    `black` are those of the seen ones that were black.
    """

    seen: int
    kept: int
    counts: dict[str, int]
    finished: bool
    """False if a person has ended it."""
    black: int = 0


def take(order: Order, stop: StopFlag | None = None) -> Taken:
    """Take pictures until there are enough, a person ends it, or the camera does.

    Counts are shown on standard error. Without `stop` the signals that ask to stop are taken here;
    with it they are the caller's. Raises UsageError, NoCamera, NoSpace, MissingDependency,
    BadPictures where no class has a picture although frames came, and Interrupted after a stop;
    what was kept by then stays.
    """
    showing = Showing(sys.stderr)
    folder = PhotoFolder(order.data, order.limit_bytes)
    for row, name in enumerate(order.names):
        folder.check_class(name, list(order.names[:row]))
    counts = {name: folder.count(name) for name in order.names}
    if order.goal is not None and all(count >= order.goal for count in counts.values()):
        showing.note(f"each class has {order.goal} pictures already")
        return Taken(0, 0, counts, True)
    view = settled_view(order.data, order.camera.view)
    source = order.camera.source
    assert source is not None
    with contextlib.ExitStack() as own:
        stopped = own.enter_context(StopFlag()) if stop is None else stop
        try:
            with open_stream(source, order.camera.wanted, view, showing.note, stopped) as stream:
                recorder = Recorder(stream, folder, order.names, order.rules)
                counts = recorder.counts
                with Keys() as keys:
                    finished = _run(order, recorder, keys, showing, stopped)
        except CameraStopped:
            finished = False
        finally:
            showing.close()
        if stopped:
            raise Interrupted(
                f"stopped; {printable(str(order.data))} has {pictures(sum(counts.values()))}, and "
                "the same command goes on with them"
            )
    if recorder.seen and not any(counts.values()):
        raise BadPictures(_nothing(recorder))
    return Taken(recorder.seen, recorder.kept, counts, finished, recorder.black)


def _nothing(recorder: Recorder) -> str:
    """Say why nothing was kept of what came, and what to do."""
    seen, black = recorder.seen, recorder.black
    found = f"no frame of {recorder.stream.name} was kept: of {seen} frames {black} were black"
    if black == seen:
        return f"{found}; take the cover off the lens, give it light, or name another --camera"
    return f"{found} and {seen - black} not sharp; move more slowly, or lower --min-sharpness"


def _run(order: Order, recorder: Recorder, keys: Keys, showing: Showing, stop: StopFlag) -> bool:
    if order.guided or not keys.there:
        goal = order.goal
        assert goal is not None
        return Guided(recorder, keys, goal, showing, order.countdown).run(order.seconds)
    Attended(recorder, keys, order.goal, showing, stop).run(order.seconds)
    return True
