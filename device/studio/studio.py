"""All parts of one studio, opened and closed together."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.closing import Closing
from mobiletl.device.bundle.prepare import evaluation_short_side
from mobiletl.device.bundle.view import AskedView, View
from mobiletl.device.cameras.base import Wanted
from mobiletl.device.commands.flags import at_blocks
from mobiletl.device.errors import BadBundle, MobileTLError
from mobiletl.device.pictures.augment import training_short_side
from mobiletl.device.pictures.kept_view import load_view, save_view, settled_view
from mobiletl.device.printable import printable
from mobiletl.device.studio.album import Album
from mobiletl.device.studio.embeddings import Embeddings
from mobiletl.device.studio.feed import Feed
from mobiletl.device.studio.files import no_space
from mobiletl.device.studio.live import READY, Live
from mobiletl.device.studio.network import Network
from mobiletl.device.studio.project import LIVE, Project
from mobiletl.device.studio.recorder import Recorder
from mobiletl.device.studio.refused import Refused
from mobiletl.device.studio.training import Training
from mobiletl.device.studio.uploads import Inbox
from mobiletl.device.studio.versions import Versions


@dataclass(frozen=True)
class Asked:
    """What a person named on the command line."""

    bundle: Path
    project: Path
    camera: str | None = None
    wanted: Wanted = field(default_factory=Wanted)
    view: AskedView = field(default_factory=AskedView)
    threads: int = 0
    runtime: str | None = None
    blocks: int | None = None
    """The level of the bundle; None is its own."""


class Studio(Closing):
    """A context manager; threads run from `start` on."""

    def __init__(self, asked: Asked) -> None:
        """Open everything that is on disk; raises BadBundle, NoSpace, UsageError."""
        bundle = at_blocks(open_bundle(asked.bundle), asked.blocks)
        if bundle.manifest.classifier is None:
            raise BadBundle(
                "the network's last layer has no bias, so that no classifier can be solved for; "
                "train it with `mobiletl train` instead"
            )
        self.bundle = bundle
        self.project = Project(asked.project)
        try:
            view = self._settled(asked.view)
            self.album = Album(self.project.pictures)
        except OSError as error:
            self.project.close()
            raise no_space(self.project.pictures, error) from error
        except MobileTLError:
            self.project.close()
            raise
        size = bundle.manifest.input
        short_side = max(evaluation_short_side(size), training_short_side(size))
        self.inbox = Inbox(self.album, short_side)
        self.feed = Feed(asked.camera, asked.wanted, view)
        self.network = Network(bundle, asked.threads, asked.runtime)
        embeddings = Embeddings(
            self.project.path, bundle.manifest.id, bundle.manifest.embedding.size
        )
        self.live = Live(self.album, self.feed, self.network, embeddings)
        self.recorder = Recorder(self.inbox, self.feed)
        self.versions = Versions(self.project.versions, bundle)
        self.training = Training(self.project, self.versions, self.album, bundle, asked.runtime)

    @property
    def notes(self) -> list[str]:
        """Sentences that a person should read."""
        problem = [self.recorder.problem] if self.recorder.problem else []
        return [*self.project.notes, *self.album.notes[:5], *problem]

    def start(self, told: Callable[[], None] = lambda: None) -> None:
        """Begin to read the camera, to learn, and to follow a training that runs.

        `told` is called in the thread of the camera with every frame.
        """

        def frame() -> None:
            self.live.nudge()
            told()

        self.live.start()
        self.feed.start(frame)
        self.training.start(self.live, self.feed)
        using = self.project.kept.using
        if using != LIVE:
            try:
                self.live.use(using, self.versions.state(using))
            except (MobileTLError, Refused) as error:
                text = f"version {using} cannot be used: {printable(str(error))}"
                self.project.notes.append(text)

    def use(self, version: str) -> None:
        """Answer with a version from now on, also after a restart; raises Refused, BadState."""
        self.live.use(version, None if version == LIVE else self.versions.state(version))
        self.project.keep(using=version)

    def teach(self) -> str:
        """Keep the live classifier as a version; raises Refused, NoSpace."""
        teaching, solved = self.live.teaching, self.live.solved
        if teaching.state != READY or solved is None:
            raise Refused(409, f"nothing is taught yet: {teaching.message}")
        return self.versions.keep_taught(solved, load_view(self.project.pictures)).id

    def look(self, view: View) -> None:
        """Cut something else out of the camera's frames, also after a restart; raises NoSpace."""
        save_view(self.project.pictures, view)
        self.feed.look(view)

    def _settled(self, asked: AskedView) -> View:
        """Return the view that the pictures were taken in: what was trained is what is seen.

        What is asked for becomes the project's view where it keeps none; raises UsageError for
        another one.
        """
        if asked != AskedView():
            return settled_view(self.project.pictures, asked)
        try:
            return load_view(self.project.pictures) or View()
        except MobileTLError as error:
            self.project.notes.append(printable(str(error)))
            return View()

    def delete_version(self, version: str) -> None:
        """Delete a version, and answer with the live classifier if it was in use."""
        self.versions.find(version)
        self.training.forget(version)
        if self.live.using == version:
            self.use(LIVE)
        self.versions.delete(version)

    def close(self) -> None:
        """Stop everything but a training, which goes on by itself."""
        with contextlib.ExitStack() as closing:
            for part in (self.project, self.live, self.feed, self.recorder, self.training):
                closing.callback(part.close)
