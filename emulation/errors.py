"""What can go wrong while emulating; each message is for a person."""

from __future__ import annotations


class CannotEmulate(Exception):
    """This machine can't do it; the message says why."""


class BoardFailed(Exception):
    """The board did not get to the end; the message ends with what it printed."""
