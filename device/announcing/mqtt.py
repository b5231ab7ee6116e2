"""Publishes live answers to an MQTT broker: what Home Assistant and others listen to.

The connection has a thread of its own. A broker that is away, slow or refuses costs no frame:
nothing waits for it, nothing is kept for it but the last answer, and the connection is tried again
with growing waits. What is published is retained, so that whoever comes later knows the present.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import ssl
import threading
from types import ModuleType
from typing import Any, Callable, Sequence

from mobiletl.device.announcing.broker import Broker
from mobiletl.device.announcing.discovery import (
    OFF,
    OFFLINE,
    ON,
    ONLINE,
    UNKNOWN,
    Topics,
    messages,
    shown,
)
from mobiletl.device.announcing.json_lines import Due
from mobiletl.device.errors import MissingDependency, UsageError
from mobiletl.device.prediction.live import Answer, Hearer
from mobiletl.device.printable import one_line, printable

# A broker that hears nothing for one and a half times as long publishes that the board is gone.
KEEP_ALIVE_S = 20
SHORTEST_WAIT_S, LONGEST_WAIT_S = 1, 60
# Messages that a connected broker has not confirmed; more are dropped, the last answer is not.
MOST_WAITING = 100
GOODBYE_S = 2.0
AT_LEAST_ONCE = 1


class Mqtt(Hearer):
    """Publishes changes, and the attributes every `every_s` if that is given."""

    def __init__(
        self,
        broker: Broker,
        topics: Topics,
        class_names: Sequence[str],
        tell: Callable[[str], None],
        every_s: float | None = None,
        with_classes: bool = False,
        version: str = "unknown",
    ) -> None:
        """Begin to connect; `tell` hears when that works and when it does not, once each time.

        Raises MissingDependency without paho-mqtt, UsageError for a certificate that is none.
        """
        self._broker, self._topics, self._tell = broker, topics, tell
        self._class_names = tuple(class_names) if with_classes else ()
        self._discovery = messages(topics, class_names, version, with_classes)
        self._due = Due(every_s)
        self._last: Answer | None = None
        self._said: str | None = None
        # Whoever publishes the last answer holds it, or an older one could come after a newer.
        self._turn = threading.Lock()
        self._client = self._connect(_import())

    def hear(self, answer: Answer) -> None:
        """Publish `answer`, if it is time or something new, and a broker is there."""
        if not self._due.at(answer):
            return
        with self._turn:
            self._last = answer
            if self._client.is_connected():
                self._publish_answer(answer, answer.changed)

    def close(self) -> None:
        """Say that the board is gone; a broker that does not answer is waited for GOODBYE_S."""
        if self._client.is_connected():
            # What is not sent any more, the last will says.
            with contextlib.suppress(RuntimeError, ValueError):
                self._publish(self._topics.availability, OFFLINE).wait_for_publish(GOODBYE_S)
        self._said = "closed"
        self._client.disconnect()
        self._client.loop_stop()

    def _connect(self, paho: ModuleType) -> Any:
        client = paho.Client(
            paho.CallbackAPIVersion.VERSION2, client_id=f"mobiletl-{secrets.token_hex(6)}"
        )
        broker = self._broker
        if broker.tls:
            try:
                client.tls_set(None if broker.authority is None else str(broker.authority))
            except (OSError, ssl.SSLError) as error:
                raise UsageError(
                    f"--mqtt-ca {printable(str(broker.authority))} is no certificate "
                    f"({printable(one_line(error))}); give the authority's, in PEM form"
                ) from error
        if broker.login is not None:
            client.username_pw_set(broker.login.user, broker.login.password)
        client.will_set(self._topics.availability, OFFLINE, AT_LEAST_ONCE, retain=True)
        client.reconnect_delay_set(SHORTEST_WAIT_S, LONGEST_WAIT_S)
        client.max_queued_messages_set(MOST_WAITING)
        client.on_connect = self._connected
        client.on_connect_fail = self._unreachable
        client.on_disconnect = self._disconnected
        client.connect_async(broker.host, broker.port, KEEP_ALIVE_S)
        client.loop_start()
        return client

    def _connected(
        self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any
    ) -> None:
        """Tell a broker everything anew: it may have been started without its memory."""
        del userdata, flags, properties
        if reason.is_failure:
            self._say(f"refuses the connection ({printable(str(reason))})")
            return
        self._say("is connected")
        for topic, content in self._discovery.items():
            client.publish(topic, json.dumps(content), AT_LEAST_ONCE, retain=True)
        client.publish(self._topics.availability, ONLINE, AT_LEAST_ONCE, retain=True)
        with self._turn:
            if self._last is not None:
                self._publish_answer(self._last, True)

    def _unreachable(self, client: Any, userdata: Any) -> None:
        del client, userdata
        self._say("does not answer; frames go on, and it is tried again")

    def _disconnected(
        self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any
    ) -> None:
        del client, userdata, flags, properties
        # A refusal was told as such, and a goodbye is nobody's news.
        if reason.is_failure and self._said == "is connected":
            self._say(f"is gone ({printable(str(reason))}); frames go on, and it is tried again")

    def _publish_answer(self, answer: Answer, with_label: bool) -> None:
        if with_label:
            label = UNKNOWN if answer.unknown else shown(answer.label)
            self._publish(self._topics.label, label)
            for name in self._class_names:
                seen = not answer.unknown and name == answer.label
                self._publish(self._topics.of_class(name), ON if seen else OFF)
        self._publish(self._topics.attributes, json.dumps(attributes(answer)))

    def _publish(self, topic: str, content: str) -> Any:
        return self._client.publish(topic, content, AT_LEAST_ONCE, retain=True)

    def _say(self, what: str) -> None:
        if self._said not in (what, "closed"):
            self._said = what
            self._tell(f"MQTT broker {self._broker} {what}")


def attributes(answer: Answer) -> dict[str, Any]:
    """What is published beside the label; docs/live.md is the schema."""
    return {
        "most_like": shown(answer.label),
        "probability": round(answer.probability, 4),
        "unknown": answer.unknown,
        "unknown_share": round(answer.unknown_share, 4),
        "time": round(answer.time_s, 3),
        "frames_per_s": round(answer.frames_per_s, 1),
    }


def _import() -> ModuleType:
    try:
        import paho.mqtt.client as paho
    except ImportError as error:
        raise MissingDependency(
            '--mqtt needs paho-mqtt, which is not installed: pip install "mobiletl[mqtt]"'
        ) from error
    if not hasattr(paho, "CallbackAPIVersion"):
        raise MissingDependency(
            '--mqtt needs paho-mqtt 2 and an older one is installed: pip install "mobiletl[mqtt]"'
        )
    return paho
