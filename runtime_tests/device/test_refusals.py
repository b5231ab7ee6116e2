"""What the system refuses, as one line: the advice fits the reason, and no other."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mobiletl.device.errors import NoSpace, UsageError
from mobiletl.device.refusals import ADVICE, cannot_read, cannot_write, of_system

PLACE = Path("runs/first")


def refused(number: int) -> OSError:
    return OSError(number, os.strerror(number), "runs/first")


@pytest.mark.parametrize("number", sorted(ADVICE))
def test_space_is_for_disks_that_are_full(number: int) -> None:
    error = cannot_write("the state", PLACE, refused(number))
    text = str(error)
    assert text.startswith(f"the state cannot be written to runs/first ({os.strerror(number)}); ")
    assert text.endswith(", or choose another folder with --out")
    assert ("free space" in text) == (number == errno.ENOSPC)
    assert "\n" not in text


def test_a_number_that_nobody_knows() -> None:
    error = cannot_write("the state", PLACE, OSError("odd\nthing"))
    assert str(error).endswith("(odd thing); choose another folder with --out")


def test_what_was_named_is_a_wrong_flag_the_rest_is_the_disk() -> None:
    assert isinstance(of_system(refused(errno.ENOENT)), UsageError)
    assert isinstance(of_system(refused(errno.ENAMETOOLONG)), UsageError)
    assert isinstance(of_system(refused(errno.ENOSPC)), NoSpace)
    assert isinstance(of_system(refused(errno.EACCES)), NoSpace)
    assert "(runs/first)" in str(of_system(refused(errno.EIO)))
    assert isinstance(cannot_read("the list", PLACE, refused(errno.EISDIR)), UsageError)


def test_names_from_outside_are_made_printable() -> None:
    error = OSError(errno.EIO, "x", "a\x1b[2J", None, b"b\n".decode())
    assert "\x1b" not in str(of_system(error))
    assert "\n" not in str(of_system(error))
