"""What Home Assistant is told of a board, so that its sensors are there without being set up.

Retained messages on `homeassistant/<component>/<node>/<object>/config` describe a sensor for the
label and, if asked for, a binary sensor for each class (Home Assistant's documentation, "MQTT
Discovery", "MQTT Sensor", "MQTT Binary Sensor"). Class names come from strangers' folders: they are
shown as names and sent as values, and never become topics or templates.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any, Sequence

from mobiletl.device.printable import printable

DISCOVERY_PREFIX = "homeassistant"
ONLINE, OFFLINE = "online", "offline"
ON, OFF = "ON", "OFF"
UNKNOWN = "unknown"
# The longest state that Home Assistant keeps.
LONGEST_STATE = 255


@dataclass(frozen=True)
class Topics:
    """Where a board publishes: everything below one prefix."""

    prefix: str

    @property
    def availability(self) -> str:
        """`online` or `offline`."""
        return f"{self.prefix}/availability"

    @property
    def label(self) -> str:
        """The class as text, or `unknown`."""
        return f"{self.prefix}/label"

    @property
    def attributes(self) -> str:
        """An object with what else is known."""
        return f"{self.prefix}/attributes"

    def of_class(self, name: str) -> str:
        """`ON` while the class is what is seen, else `OFF`."""
        return f"{self.prefix}/class/{word_of(name)}"


def word_of(name: str) -> str:
    """Return letters, digits, `_` and `-` that stand for `name` and for no other name."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:40].strip("_")
    return f"{plain}_{digest[:8]}" if plain else digest[:8]


def shown(name: str) -> str:
    """Return a class name as a value: one line of valid text that is not too long."""
    return printable(name)[:LONGEST_STATE]


def messages(
    topics: Topics, class_names: Sequence[str], version: str, with_classes: bool
) -> dict[str, dict[str, Any]]:
    """Return the retained messages by topic; an entity goes when its topic gets an empty one."""
    node = re.sub(r"[^A-Za-z0-9_-]+", "_", topics.prefix)
    common: dict[str, Any] = {
        "availability_topic": topics.availability,
        "payload_available": ONLINE,
        "payload_not_available": OFFLINE,
        "qos": 1,
        "device": {
            "identifiers": [node],
            "name": topics.prefix,
            "manufacturer": "mobiletl",
            "model": "camera with labels",
            "sw_version": version,
        },
        "origin": {"name": "mobiletl", "sw_version": version},
    }
    found = {
        f"{DISCOVERY_PREFIX}/sensor/{node}/label/config": {
            **common,
            "name": "Label",
            "unique_id": f"{node}_label",
            "icon": "mdi:eye",
            "state_topic": topics.label,
            # Apart from the state: of one topic the two are not updated together.
            "json_attributes_topic": topics.attributes,
        }
    }
    for name in class_names if with_classes else ():
        word = word_of(name)
        found[f"{DISCOVERY_PREFIX}/binary_sensor/{node}/{word}/config"] = {
            **common,
            "name": shown(name),
            "unique_id": f"{node}_class_{word}",
            "state_topic": topics.of_class(name),
            "payload_on": ON,
            "payload_off": OFF,
        }
    return found
