"""Keys of a real pseudo-terminal, which is as before afterwards whatever happens."""

from __future__ import annotations

import io
import os
import select
import time
from typing import Any, Iterator, TextIO

import pytest

from mobiletl.device.capturing.keys import RELEASED_S, Hold, Keys

pty = pytest.importorskip("pty")
termios = pytest.importorskip("termios")


class Terminal:
    def __init__(self) -> None:
        self.master, slave = pty.openpty()
        self.stream: TextIO = os.fdopen(slave, "r")

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def settings(self) -> Any:
        return termios.tcgetattr(self.stream.fileno())


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.stream.close()
    os.close(made.master)


def wait_for(keys: Keys, count: int) -> str:
    found, until = "", time.monotonic() + 5
    while len(found) < count and time.monotonic() < until:
        found += keys.pressed()
    return found


def test_keys_come_singly_without_echo_and_the_terminal_is_restored(terminal: Terminal) -> None:
    before = terminal.settings()
    with Keys(terminal.stream) as keys:
        assert keys.there
        assert keys.pressed() == ""
        terminal.type("1  é")
        assert wait_for(keys, 4) == "1  é"
        echo, canonical = (terminal.settings()[3] & bit for bit in (termios.ECHO, termios.ICANON))
        assert (echo, canonical) == (0, 0)
        assert terminal.settings()[3] & termios.ISIG  # Ctrl-C stays a signal
    assert terminal.settings() == before


def test_keys_that_ctrl_c_takes_away_are_not_waited_for(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel empties the queue at Ctrl-C, here just after it said that there is a key."""
    ready = select.select

    def ready_then_flushed(*asked: Any) -> Any:
        found = ready(*asked)
        termios.tcflush(terminal.stream.fileno(), termios.TCIFLUSH)
        return found

    with Keys(terminal.stream) as keys:
        terminal.type(" ")
        ready([terminal.stream], [], [], 5)
        monkeypatch.setattr(select, "select", ready_then_flushed)
        assert keys.pressed() == ""
        assert keys.there
        monkeypatch.undo()
        terminal.type("q")
        assert wait_for(keys, 1) == "q"


def test_an_error_restores_it_too(terminal: Terminal) -> None:
    before = terminal.settings()
    with pytest.raises(ZeroDivisionError), Keys(terminal.stream):
        raise ZeroDivisionError
    assert terminal.settings() == before


def test_a_terminal_that_is_closed_gives_no_keys() -> None:
    master, slave = pty.openpty()
    with os.fdopen(slave, "r") as stream, Keys(stream) as keys:
        os.close(master)
        try:
            assert keys.pressed() == ""
        except OSError:
            pytest.fail("a closed terminal is no error")
        assert not keys.there


def test_what_is_no_terminal_has_no_keys() -> None:
    with Keys(io.StringIO("qqq")) as keys:
        assert not keys.there
        assert keys.pressed() == ""


def test_a_key_is_held_while_it_repeats() -> None:
    hold = Hold()
    assert not hold.held(0.0)
    hold.press(1.0)
    assert hold.held(1.0 + RELEASED_S - 0.01)  # the wait before a keyboard repeats
    for moment in range(20):
        hold.press(1.5 + moment / 30)
    last = 1.5 + 19 / 30
    assert hold.held(last + 0.5)
    assert not hold.held(last + RELEASED_S + 0.01)
    hold.press(9.0)
    hold.release()
    assert not hold.held(9.0)
