"""What a camera's address may show of itself: messages and frames never hold its password."""

from __future__ import annotations

from urllib.parse import urlsplit

from mobiletl.device.printable import printable


def is_address(source: str) -> bool:
    """Whether `source` is an address of the network, such as rtsp://camera.local/stream."""
    return "://" in source and not is_pipeline(source)


def is_pipeline(source: str) -> bool:
    """Whether `source` is a GStreamer pipeline, whose elements are joined by exclamation marks."""
    return " ! " in source


def shown_source(source: str) -> str:
    """Return `source` on one line, without anything in it that may be a secret.

    Of an address the user, the password and the query are left out (many cameras take the password
    in the query); of a pipeline, whose elements may have passwords among their properties, only the
    first element is named.
    """
    if is_pipeline(source):
        return printable(f"pipeline {source.split(maxsplit=1)[0]}")
    if is_address(source):
        scheme, _, rest = source.partition("://")
        try:
            parts = urlsplit(source)
            place = parts.netloc.rpartition("@")[2] + parts.path
        except ValueError:  # an address that is none, such as http://[
            place = rest.split("?")[0].split("#")[0].rpartition("@")[2]
        return printable(f"{scheme}://{place}")
    return printable(source)
