"""What Home Assistant is told, against the keys that its documentation has."""

from __future__ import annotations

import json
import re

from mobiletl.device.announcing.discovery import Topics, messages, shown, word_of

# home-assistant.io: "MQTT Sensor", "MQTT Binary Sensor" and "MQTT Discovery", the keys of each.
BOTH = {
    *("availability", "availability_mode", "availability_topic", "availability_template", "device"),
    *("device_class", "enabled_by_default", "encoding", "entity_category", "entity_picture"),
    *("expire_after", "force_update", "icon", "json_attributes_template", "json_attributes_topic"),
    *("name", "object_id", "default_entity_id", "origin", "payload_available"),
    *("payload_not_available", "platform", "qos", "state_topic", "unique_id", "value_template"),
}
SENSOR = {*BOTH, "last_reset_value_template", "options", "state_class", "unit_of_measurement"}
BINARY = {*BOTH, "off_delay", "payload_off", "payload_on"}
DEVICE = {
    *("configuration_url", "connections", "hw_version", "identifiers", "manufacturer", "model"),
    *("model_id", "name", "serial_number", "suggested_area", "sw_version", "via_device"),
}
ORIGIN = {"name", "sw_version", "support_url"}
# "<discovery_prefix>/<component>/[<node_id>/]<object_id>/config", ids of [a-zA-Z0-9_-].
TOPIC = re.compile(r"homeassistant/(sensor|binary_sensor)/[a-zA-Z0-9_-]+/[a-zA-Z0-9_-]+/config")

HOSTILE = ("{{ states('x') }}", "a/b#+", "\x1b[0m\n", "\udcff", "Grün 日本", "", "x" * 300)


def test_every_key_is_one_that_home_assistant_documents() -> None:
    found = messages(Topics("home/kitchen"), ("cat", "dog"), "1.0", with_classes=True)
    assert len(found) == 3
    for topic, content in found.items():
        match = TOPIC.fullmatch(topic)
        assert match is not None
        assert set(content) <= (SENSOR if match[1] == "sensor" else BINARY)
        assert set(content["device"]) <= DEVICE
        assert set(content["origin"]) <= ORIGIN
        # Required of a sensor; required for the device to be made.
        assert content["state_topic"]
        assert content["unique_id"]
        assert content["device"]["identifiers"]
    assert len({content["unique_id"] for content in found.values()}) == 3
    assert len({json.dumps(content["device"]) for content in found.values()}) == 1


def test_without_classes_there_is_the_label_alone() -> None:
    (topic,) = messages(Topics("home/kitchen"), ("cat", "dog"), "1.0", with_classes=False)
    assert topic == "homeassistant/sensor/home_kitchen/label/config"


def test_a_class_of_any_name_is_no_topic_and_no_template() -> None:
    found = messages(Topics("p"), HOSTILE, "1.0", with_classes=True)
    assert len(found) == 1 + len(HOSTILE)
    for topic, content in found.items():
        assert TOPIC.fullmatch(topic)
        assert not [key for key in content if "template" in key]
        assert re.fullmatch(r"p/(label|class/[a-zA-Z0-9_-]+)", content["state_topic"])
        # Text that a strict reader takes.
        json.dumps(content, ensure_ascii=False).encode("utf-8")


def test_words_stay_apart_and_stay_the_same() -> None:
    names = [*HOSTILE, "a b", "a_b", "a.b"]
    assert len({word_of(name) for name in names}) == len(names)
    assert word_of("cat") == "cat_77af778b"
    assert len(shown("x" * 300)) == 255
