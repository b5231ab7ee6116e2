"""A real broker: what it keeps, that it restarts or is away, logins, certificates, a dead board."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Iterator

import pytest

pytest.importorskip("paho.mqtt.client")

from mobiletl.device.announcing.broker import Broker, Login
from mobiletl.device.announcing.discovery import Topics, word_of
from mobiletl.device.announcing.mqtt import Mqtt
from mobiletl.device.errors import UsageError
from runtime_tests.support.board.answers import answer
from runtime_tests.support.board.mosquitto import Mosquitto, free_port, needs_mosquitto

TOPICS = Topics("home/kitchen")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    found = Mosquitto(tmp_path)
    yield found
    found.stop()


def until(true: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def opened(broker: Broker, told: list[str], **more: object) -> Mqtt:
    return Mqtt(broker, TOPICS, ("ant", "bee"), told.append, **more)  # type: ignore[arg-type]


@needs_mosquitto
def test_a_newcomer_is_told_the_present(broker: Mosquitto) -> None:
    told: list[str] = []
    with opened(Broker("127.0.0.1", broker.port), told, with_classes=True) as mqtt:
        mqtt.hear(answer("ant"))
        broker.wait_for(TOPICS.label, "ant")
        mqtt.hear(answer("bee", changed=False))
        mqtt.hear(answer(None, time_s=1234.5))
        broker.wait_for(TOPICS.label, "unknown")
        kept = broker.retained()
        assert kept[TOPICS.availability] == "online"
        assert json.loads(kept[TOPICS.attributes]) == {
            "most_like": "ant",
            "probability": 0.9,
            "unknown": True,
            "unknown_share": 1.0,
            "time": 1234.5,
            "frames_per_s": 12.5,
        }
        mqtt.hear(answer("bee"))
        broker.wait_for(TOPICS.of_class("bee"), "ON")
        kept = broker.retained()
        assert kept[TOPICS.of_class("ant")] == "OFF"
        config = json.loads(kept["homeassistant/sensor/home_kitchen/label/config"])
        # Home Assistant finds with it what is published.
        assert kept[config["state_topic"]] == "bee"
        assert kept[config["availability_topic"]] == config["payload_available"]
        assert not json.loads(kept[config["json_attributes_topic"]])["unknown"]
        topic = f"homeassistant/binary_sensor/home_kitchen/{word_of('bee')}/config"
        config = json.loads(kept[topic])
        assert kept[config["state_topic"]] == config["payload_on"]
    assert broker.retained(TOPICS.availability) == {TOPICS.availability: "offline"}
    assert told == [f"MQTT broker 127.0.0.1:{broker.port} is connected"]


@needs_mosquitto
def test_a_broker_that_was_away_is_told_everything_again(broker: Mosquitto) -> None:
    told: list[str] = []
    with opened(Broker("127.0.0.1", broker.port), told) as mqtt:
        mqtt.hear(answer("ant"))
        broker.wait_for(TOPICS.label, "ant")
        broker.stop()
        until(lambda: len(told) == 2)
        began = time.monotonic()
        for place in range(1000):
            mqtt.hear(answer("ant" if place % 2 else "bee"))
        mqtt.hear(answer("bee"))
        assert time.monotonic() - began < 2  # nothing has waited
        broker.start()
        broker.wait_for(TOPICS.label, "bee")
        assert broker.retained(TOPICS.availability)[TOPICS.availability] == "online"
        assert "homeassistant/sensor/home_kitchen/label/config" in broker.retained()
    assert "is connected" in told[0]
    assert "is gone" in told[1]
    assert "is connected" in told[-1]
    assert len(told) <= 4  # an attempt in between is told once


@needs_mosquitto
def test_the_last_will_of_a_board_that_dies(broker: Mosquitto) -> None:
    script = (
        "import sys, time\n"
        "from mobiletl.device.announcing.broker import Broker\n"
        "from mobiletl.device.announcing.discovery import Topics\n"
        "from mobiletl.device.announcing.mqtt import Mqtt\n"
        "m = Mqtt(Broker('127.0.0.1', int(sys.argv[1])), Topics('home/kitchen'), (), print)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(broker.port)]) as board:
        broker.wait_for(TOPICS.availability, "online")
        board.send_signal(signal.SIGKILL)
        broker.wait_for(TOPICS.availability, "offline")


def test_a_broker_that_is_not_there_costs_nothing() -> None:
    told: list[str] = []
    began = time.monotonic()
    with opened(Broker("127.0.0.1", free_port()), told) as mqtt:
        for _ in range(1000):
            mqtt.hear(answer())
        assert time.monotonic() - began < 2
        until(lambda: bool(told))
        time.sleep(1.5)  # it is tried again, and that is not told again
    (line,) = told
    assert "does not answer; frames go on" in line
    assert time.monotonic() - began < 10


def test_a_name_that_nobody_knows_costs_nothing() -> None:
    told: list[str] = []
    with opened(Broker("no-such-host.invalid", 1883), told) as mqtt:
        mqtt.hear(answer())
        until(lambda: bool(told), 30)
    assert "does not answer" in told[0]


@needs_mosquitto
def test_a_wrong_password_is_told_once_and_is_in_no_message(tmp_path: Path) -> None:
    tool = shutil.which("mosquitto_passwd")
    assert tool is not None
    passwords = tmp_path / "passwords"
    subprocess.run([tool, "-b", "-c", str(passwords), "me", "right"], check=True)
    broker = Mosquitto(tmp_path, [f"password_file {passwords}", "allow_anonymous false"])
    try:
        told: list[str] = []
        with opened(Broker("127.0.0.1", broker.port, login=Login("me", "wrong")), told) as mqtt:
            mqtt.hear(answer())
            until(lambda: bool(told))
            time.sleep(2)
        (line,) = told
        assert "refuses the connection (Not authorized)" in line
        assert "wrong" not in line
        told.clear()
        broker.read_with("-u", "me", "-P", "right")
        with opened(Broker("127.0.0.1", broker.port, login=Login("me", "right")), told) as mqtt:
            mqtt.hear(answer("bee"))
            broker.wait_for(TOPICS.label, "bee")
    finally:
        broker.stop()


@needs_mosquitto
# paho-mqtt leaves a socket whose handshake has failed to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")
def test_certificates_are_checked(tmp_path: Path) -> None:
    ca, key, certificate = _certificates(tmp_path, "ours")
    other, _, _ = _certificates(tmp_path, "other")
    settings = [f"certfile {certificate}", f"keyfile {key}", "allow_anonymous true"]
    broker = Mosquitto(tmp_path, settings)
    try:
        told: list[str] = []
        with opened(Broker("127.0.0.1", broker.port, True, other), told):
            until(lambda: bool(told))
        assert "does not answer" in told[0]
        broker.read_with("--cafile", str(ca))
        with opened(Broker("127.0.0.1", broker.port, True, ca), told) as mqtt:
            mqtt.hear(answer("bee"))
            broker.wait_for(TOPICS.label, "bee")
    finally:
        broker.stop()
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("x")
    with pytest.raises(UsageError, match="is no certificate"):
        opened(Broker("127.0.0.1", broker.port, True, garbage), told)


def _certificates(folder: Path, name: str) -> tuple[Path, Path, Path]:
    """Return an authority, and key and certificate of a broker on the loopback."""
    files = [folder / f"{name}-{part}.pem" for part in ("ca", "cakey", "key", "request", "cert")]
    ca, ca_key, key, request, certificate = files
    extension = folder / f"{name}.cnf"
    extension.write_text("subjectAltName=IP:127.0.0.1\n")
    new = ["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"]
    sign = ["openssl", "x509", "-req", "-in", str(request), "-CA", str(ca), "-CAkey", str(ca_key)]
    for words in (
        [*new, "-x509", "-days", "2", "-keyout", str(ca_key), "-out", str(ca)],
        [*new, "-keyout", str(key), "-out", str(request)],
        [
            *sign,
            "-set_serial",
            "1",
            "-days",
            "2",
            "-extfile",
            str(extension),
            "-out",
            str(certificate),
        ],
    ):
        subprocess.run(
            words, check=True, capture_output=True, env={**os.environ, "OPENSSL_CONF": ""}
        )
    return ca, key, certificate
