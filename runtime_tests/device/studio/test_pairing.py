"""A code on the terminal is the only way in from elsewhere, and it cannot be guessed."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path
from typing import Iterator

import pytest

for package in ("httpx", "starlette", "uvicorn", "segno"):
    pytest.importorskip(package)

from mobiletl.device.studio.pairing import BURST, Pairing, TooMany, network_of  # noqa: E402
from mobiletl.device.studio.server import StudioServer  # noqa: E402
from mobiletl.device.studio.visitors import LIFE_SECONDS, MOST, Visitors  # noqa: E402
from runtime_tests.support.board.studio_service import Client, Process, served  # noqa: E402
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle  # noqa: E402

EVERYWHERE = "0.0.0.0"


class Clock:
    """Time that passes only when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StudioServer]:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    with served(bundle, tmp_path / "project", host=EVERYWHERE) as server:
        yield server


def test_the_code_is_eight_digits_and_new_each_time() -> None:
    codes = {Pairing().code for _ in range(50)}
    assert all(re.fullmatch(r"\d{8}", code) for code in codes)
    assert len(codes) == 50


def test_without_the_code_there_is_a_page_that_asks_for_it(server: StudioServer) -> None:
    with Client(server.port) as client:
        page = client.get("/")
        assert page.status_code == 200
        assert "set-cookie" not in page.headers
        assert client.get("/api/state").status_code == 401
        assert client.post("/pair", json={"code": "00000000x"}).status_code == 403


def test_the_code_gives_a_cookie_that_lasts_over_a_restart(
    server: StudioServer, tmp_path: Path
) -> None:
    assert server.pairing is not None
    with Client(server.port) as client:
        code = f"{server.pairing.code[:4]} {server.pairing.code[4:]}"
        answer = client.post("/pair", json={"code": code})
        assert answer.status_code == 204
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        client.state()
    file = tmp_path / "project" / "visitors.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    token = cookie.split("=", 1)[1].split(";")[0]
    assert token not in file.read_text()
    assert Visitors(file).knows(token)


def test_ten_thousand_guesses_get_nowhere(server: StudioServer) -> None:
    """From one address over HTTP, and from as many addresses as there are guesses."""
    assert server.pairing is not None
    right = server.pairing.code
    with Client(server.port) as client:
        statuses = [
            client.post("/pair", json={"code": f"{number:08}"}).status_code
            for number in range(500)
            if f"{number:08}" != right
        ]
        assert statuses[:3] == [403, 403, 403]
        # Each wrong one doubles the wait, which begins with 2 s.
        assert statuses.count(403) <= 8
        assert statuses.count(429) >= 490
        late = client.post("/pair", json={"code": right})
        assert late.status_code == 429
        assert int(late.headers["retry-after"]) >= 1
    clock = Clock()
    pairing = Pairing(clock)
    looked_at = 0
    for number in range(10_000):
        address = f"10.0.{number >> 8}.{number & 255}"
        found = pairing.attempt(f"{number:07}x", address)
        looked_at += not isinstance(found, TooMany)
        clock.now += 0.01
    # A hundred seconds of guessing.
    assert looked_at <= BURST + 10


@pytest.mark.parametrize(("guessers", "patience"), [(1, 0), (5, 0), (20, 10)])
def test_who_guesses_does_not_keep_the_owner_out(guessers: int, patience: int) -> None:
    """An hour of guessing every second; the owner comes from another address at any moment."""
    clock = Clock()
    pairing = Pairing(clock)
    looked_at = 0
    for second in range(3600):
        for number in range(guessers):
            found = pairing.attempt("x", f"10.0.0.{number}")
            looked_at += not isinstance(found, TooMany)
        # The owner waits as the answer says, and has to find a free attempt then.
        if second % 60 == 59:
            owner = f"10.0.1.{second // 60}"
            found = pairing.attempt(pairing.code, owner)
            waited = 0
            while isinstance(found, TooMany) and waited <= patience:
                waited += found.seconds
                for _ in range(found.seconds):
                    clock.now += 1
                    for number in range(guessers):
                        pairing.attempt("x", f"10.0.0.{number}")
                found = pairing.attempt(pairing.code, owner)
            assert found is True
            assert waited <= patience
        clock.now += 1
    assert looked_at <= BURST + (clock.now - 1000) / 10


def test_waits_of_one_address_grow_and_end(server: StudioServer) -> None:
    clock = Clock()
    pairing = Pairing(clock)
    waits = []
    for _ in range(12):
        found = pairing.attempt("x", "10.0.0.1")
        while isinstance(found, TooMany):
            waits.append(found.seconds)
            clock.now += found.seconds
            found = pairing.attempt("x", "10.0.0.1")
    assert waits == sorted(waits)
    assert waits[-1] >= 500
    assert pairing.attempt("x", "10.0.0.2") is False
    clock.now += 600
    assert pairing.attempt(pairing.code, "10.0.0.1") is True


def test_one_attacker_is_one_network() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:2")
    assert network_of("2001:db8::1") != network_of("2001:db8:0:1::1")
    assert network_of("::ffff:10.0.0.1") == network_of("10.0.0.1")
    assert network_of("fe80::1%eth0") == network_of("fe80::2%eth0")


@pytest.mark.parametrize("code", ["", "1234567", "١٢٣٤٥٦٧٨", "\ud800", "1" * 30])
def test_odd_codes_are_wrong_codes(code: str) -> None:
    assert Pairing().attempt(code, "10.0.0.1") is False


def test_sessions_are_bounded_and_end(tmp_path: Path) -> None:
    clock = Clock()
    visitors = Visitors(tmp_path / "visitors.json", clock)
    first = visitors.begin()
    assert visitors.knows(first)
    clock.now += LIFE_SECONDS + 1
    assert not visitors.knows(first)
    tokens = []
    for _ in range(MOST + 5):
        clock.now += 1
        tokens.append(visitors.begin())
    again = Visitors(tmp_path / "visitors.json", clock)
    assert [again.knows(token) for token in tokens] == [False] * 5 + [True] * MOST


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', "{", '{"' + "a" * 64 + '": "x"}'])
def test_a_damaged_file_of_sessions_means_pairing_again(tmp_path: Path, content: str) -> None:
    path = tmp_path / "visitors.json"
    path.write_text(content)
    assert not Visitors(path).knows("a")
    Visitors(path).begin()
    assert len(json.loads(path.read_text())) == 1


def test_the_terminal_shows_address_code_and_a_picture_of_both(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    process = Process(bundle, tmp_path / "project", "--host", EVERYWHERE)
    printed = process.end()
    assert re.search(rf"open http://[\w.]+:{process.port}/", printed)
    code = re.search(r"its code is (\d{4}) (\d{4})", printed)
    assert code is not None
    drawn = [line for line in printed.splitlines() if "\u2580" in line or "\u2584" in line]
    assert 12 <= len(drawn) <= 24
    assert "Traceback" not in printed
