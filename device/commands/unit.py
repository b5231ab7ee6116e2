"""Text in a systemd unit: what a person calls a folder must not end a line or begin a variable."""

from __future__ import annotations

from mobiletl.device.errors import UsageError


def unit_text(text: str) -> str:
    """`text` where a unit file takes the rest of the line; %% stands for a percent sign."""
    if not text.isprintable():
        raise UsageError(f"{text!r} cannot be written into a systemd unit; rename it")
    return text.replace("%", "%%")


def unit_word(text: str) -> str:
    """`text` as one quoted word of a unit file."""
    return '"' + unit_text(text).replace("\\", "\\\\").replace('"', '\\"') + '"'
