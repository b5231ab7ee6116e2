"""The code by which a page on another device proves that its person sees the board's terminal.

The code has 8 digits from the system's generator. Attempts are limited twice: an address waits
twice as long after each wrong one, and all addresses together have 20 attempts and one more every
10 seconds, so that a thousand addresses get no further: a day of guessing finds a code with
probability 0.0001. An address that has guessed wrong leaves some of these attempts to others, so
that it cannot keep the owner out. Letters are left out of the code: a phone shows its number pad
for it.
"""

from __future__ import annotations

import hmac
import ipaddress
import math
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Callable

DIGITS = 8
BURST = 20
SECONDS_BETWEEN = 10.0
# Attempts that an address leaves to those that have guessed better, for each wrong one of its own.
LEFT_FOR_BETTER, MOST_LEFT = 2, 6
# Wrong attempts of one address that cost no waiting; the longest wait in seconds.
FREE_ATTEMPTS = 3
LONGEST_WAIT = 600.0
# Addresses that are remembered; the limit on all of them holds without.
MOST_ADDRESSES = 1000


@dataclass(frozen=True)
class TooMany:
    """An attempt that was not looked at, and when the next one is, in seconds."""

    seconds: int


class Pairing:
    """Compares codes; may be asked from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Draw a code."""
        self.code = "".join(secrets.choice("0123456789") for _ in range(DIGITS))
        self._clock = clock
        self._lock = threading.Lock()
        self._left, self._filled = float(BURST), clock()
        self._wrong: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def attempt(self, code: str, address: str) -> bool | TooMany:
        """Return whether `code` is right, or TooMany without having looked at it."""
        who = network_of(address)
        with self._lock:
            wait = self._wait(who)
            if wait > 0:
                return TooMany(math.ceil(wait))
            self._left -= 1
            # Bytes: the comparison of texts refuses what is not ASCII.
            right = hmac.compare_digest(
                code.encode("utf-8", "backslashreplace"), self.code.encode("ascii")
            )
            if right:
                self._wrong.pop(who, None)
            else:
                self._count(who)
            return right

    def _wait(self, who: str) -> float:
        now = self._clock()
        self._left = min(float(BURST), self._left + (now - self._filled) / SECONDS_BETWEEN)
        self._filled = now
        wrong, until = self._wrong.get(who, (0, now))
        needed = 1 + min(MOST_LEFT, wrong * LEFT_FOR_BETTER)
        return max((needed - self._left) * SECONDS_BETWEEN, until - now, 0.0)

    def _count(self, who: str) -> None:
        wrong = self._wrong.pop(who, (0, 0.0))[0] + 1
        over = wrong - FREE_ATTEMPTS
        wait = 0.0 if over < 0 else min(LONGEST_WAIT, 2.0 ** min(over + 1, 30))
        self._wrong[who] = (wrong, self._clock() + wait)
        while len(self._wrong) > MOST_ADDRESSES:
            self._wrong.popitem(last=False)


def network_of(address: str) -> str:
    """Return what counts as one attacker: an IPv4 address, or the /64 that one IPv6 host has."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))
    return str(found)
