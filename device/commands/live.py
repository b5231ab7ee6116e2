"""`mobiletl predict --camera`: the flags of live labels, and what they set going."""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Callable

from mobiletl.device.announcing.broker import broker_of, login_of, prefix_of
from mobiletl.device.announcing.discovery import Topics
from mobiletl.device.announcing.json_lines import JsonLines, summary
from mobiletl.device.announcing.mqtt import Mqtt
from mobiletl.device.announcing.on_change import OnChange, words_of
from mobiletl.device.announcing.text import CLEAR_LINE, Text
from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.signature import require_state_signature
from mobiletl.device.bundle.view import AskedView, View
from mobiletl.device.cameras.base import CameraStopped
from mobiletl.device.cameras.stream import CameraStream, open_stream
from mobiletl.device.commands.camera_flags import camera_of
from mobiletl.device.commands.flags import below_least, chosen_bundle
from mobiletl.device.errors import NoCamera
from mobiletl.device.installed import installed_release
from mobiletl.device.prediction.live import Ends, Hearer, Live, Tally
from mobiletl.device.prediction.looking import AT_ONCE, Looks, looks
from mobiletl.device.prediction.predictor import open_predictor
from mobiletl.device.prediction.smoothing import Smoother
from mobiletl.device.printable import printable
from mobiletl.device.run.stop import StopFlag
from mobiletl.device.sessions.runtimes import usable_cores

NOTICE = b"\nmobiletl: stopping after this frame; once more stops at once\n"
# What makes sense with a camera alone, and what it is when it is not given.
WITH_A_CAMERA = {
    "frames": None,
    "seconds": None,
    "every": None,
    "on_change": None,
    "mqtt": None,
    "mqtt_topic": None,
    "mqtt_login": None,
    "mqtt_tls": False,
    "mqtt_ca": None,
    "mqtt_classes": False,
}


def add_live(parser: argparse.ArgumentParser) -> None:
    """Add the flags that need a camera, but those of the camera."""
    add = parser.add_argument_group("live labels, with --camera").add_argument
    add("--frames", type=int, metavar="N", help="end after N frames")
    add("--seconds", type=float, metavar="S", help="end after S seconds")
    add(
        "--every",
        type=float,
        metavar="S",
        help="with --json and --mqtt: not only changes but at least one answer in S seconds, "
        "0 for every frame",
    )
    add(
        "--on-change",
        metavar="COMMAND",
        help="run it, without a shell, when the answer changes; MOBILETL_LABEL, "
        "MOBILETL_PROBABILITY, MOBILETL_UNKNOWN and MOBILETL_TIME are in its environment",
    )
    add("--mqtt", metavar="HOST[:PORT]", help="publish to a broker, with Home Assistant discovery")
    add("--mqtt-topic", metavar="PREFIX", help="default: mobiletl/ and the name of this host")
    add("--mqtt-classes", action="store_true", help="a binary sensor for each class, too")
    add("--mqtt-tls", action="store_true", help="encrypt, and check the broker's certificate")
    add("--mqtt-ca", type=Path, metavar="FILE", help="the authority that signed it; implies TLS")
    add(
        "--mqtt-login",
        type=Path,
        metavar="FILE",
        help="user and password, a line each; default: MOBILETL_MQTT_USER, MOBILETL_MQTT_PASSWORD",
    )


def problems(flags: argparse.Namespace) -> list[str]:
    """Say what is wrong with the flags of `add_live`, or with giving them at all."""
    if flags.camera is None:
        return [
            f"--{name.replace('_', '-')} needs --camera"
            for name, without in WITH_A_CAMERA.items()
            if getattr(flags, name) != without
        ]
    found = below_least(flags, {"frames": 1})
    if flags.seconds is not None and not flags.seconds > 0:
        found.append(f"--seconds is {flags.seconds:g}, expected more than 0")
    if flags.every is not None and not flags.every >= 0:
        found.append(f"--every is {flags.every:g}, expected at least 0")
    if flags.every is not None and not flags.json and flags.mqtt is None:
        found.append("--every needs --json or --mqtt")
    if flags.mqtt is None:
        found += [
            f"--{name.replace('_', '-')} needs --mqtt"
            for name, without in WITH_A_CAMERA.items()
            if name.startswith("mqtt_") and getattr(flags, name) != without
        ]
    return found


def predict_live(flags: argparse.Namespace) -> int:
    """Answer a camera's frames until something ends that; returns the exit code."""
    # What a person has mistyped is told before a camera is opened.
    words = None if flags.on_change is None else words_of(flags.on_change)
    prefix = prefix_of(flags.mqtt_topic)
    login = login_of(os.environ, flags.mqtt_login)
    broker = flags.mqtt and broker_of(flags.mqtt, flags.mqtt_tls, flags.mqtt_ca, login)
    bundle = open_bundle(chosen_bundle(flags.bundle), flags.trust_bundle, flags.require_signature)
    require_state_signature(Path(flags.state), flags.state_key)
    shown = JsonLines(sys.stdout, flags.every) if flags.json else Text(sys.stdout)
    tell = _teller(shown)
    with ExitStack() as opened, StopFlag(NOTICE) as stop:
        predictor = opened.enter_context(
            open_predictor(
                bundle, flags.state, flags.threads, flags.runtime, flags.unknown, AT_ONCE
            )
        )
        hearers: list[Hearer] = [opened.enter_context(shown)]
        if words is not None:
            hearers.append(opened.enter_context(OnChange(words, tell)))
        if broker:
            topics = Topics(prefix)
            names = predictor.class_names
            # A runner that was merely copied has no release.
            release = installed_release("mobiletl") or "copied"
            hearers.append(
                opened.enter_context(
                    Mqtt(broker, topics, names, tell, flags.every, flags.mqtt_classes, release)
                )
            )
        live = Live(predictor, Smoother(len(predictor.class_names)), hearers)
        chosen = camera_of(flags)
        view = _view(chosen.view, predictor.view, tell)
        try:
            stream = opened.enter_context(
                open_stream(flags.camera, chosen.wanted, view, tell, stop)
            )
        except CameraStopped:
            return 0
        # Without a core to spare a frame is prepared when the network has done with the former.
        spare = 0 < flags.threads < usable_cores()
        frames = looks(stream, predictor, spare)
        _answer(live, stream, frames, Ends(flags.frames, flags.seconds), stop, shown)
    return 0


def _view(asked: AskedView, trained: View | None, tell: Callable[[str], None]) -> View:
    """Return the view that the state was trained in, but for what is asked for."""
    view = asked.over(trained)
    if trained is not None and view != trained:
        tell(
            f"the state was trained on pictures taken with {trained.flags()}, and the camera is "
            f"looked through with {view.flags()}; leave these flags out to see what was trained"
        )
    return view


def _answer(
    live: Live,
    stream: CameraStream,
    frames: Looks,
    ends: Ends,
    stop: StopFlag,
    shown: Text | JsonLines,
) -> None:
    """Run `live` on a camera that is open, and say what it came to, however it ends."""
    try:
        live.run(frames, ends, lambda: bool(stop))
    finally:
        interrupted = bool(stop)
        stop.request()
        frames.close()
        shown.close()
        _summarise(live.tally, frames.unreadable, stream, shown)
    if not live.tally.frames and not ends.seconds and not interrupted:
        raise NoCamera(f"{stream.name} gave no frame that can be read; give another --camera")


def _summarise(
    tally: Tally, unreadable: int, stream: CameraStream, shown: Text | JsonLines
) -> None:
    losses, dropped = stream.losses, stream.dropped
    if isinstance(shown, JsonLines):
        shown.write("ended", time.time(), summary(tally, unreadable, losses, dropped))
    parts = [
        f"{tally.frames} frames in {tally.seconds:.1f} s",
        f"{tally.frames_per_s:.1f} frames/s",
        f"{tally.changes} changes",
        f"{tally.other_share:.0%} of a frame's time is not the network",
    ]
    if unreadable:
        parts.append(f"{unreadable} frames could not be read")
    # Of a file nothing is dropped, and it is not lost.
    if stream.live:
        parts.append(f"{dropped} frames dropped")
    if losses:
        parts.append(f"the camera lost {'once' if losses == 1 else f'{losses} times'}")
    print(f"mobiletl: {', '.join(parts)}", file=sys.stderr)


def _teller(shown: Text | JsonLines) -> Callable[[str], None]:
    """Return what says something beside the answers, from any thread."""

    def tell(text: str) -> None:
        if isinstance(shown, JsonLines):
            shown.write("note", time.time(), {"text": text})
        # A line that is being rewritten is on the same terminal.
        clear = CLEAR_LINE if sys.stderr.isatty() and sys.stdout.isatty() else ""
        line = printable(f"mobiletl: {text}", sys.stderr.encoding)
        sys.stderr.write(f"{clear}{line}\n")
        sys.stderr.flush()

    return tell
