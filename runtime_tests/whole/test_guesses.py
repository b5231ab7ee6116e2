"""Ten thousand guesses over HTTP, at a server in a process of its own, pair nobody."""

from __future__ import annotations

import http.client
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from runtime_tests.support.board.studio_service import LOOPBACK, Client, Process
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle

GUESSES, CLIENTS = 10_000, 4
# Of a burst, and of the minutes that a slow machine takes; all others have to wait.
LOOKED_AT = 100


def _guess(connection: http.client.HTTPConnection, host: str, code: str) -> tuple[int, str]:
    """Return the status, and the cookie that nobody should get."""
    headers = {"Origin": f"http://{host}", "X-Mobiletl": "1"}
    connection.request("POST", "/pair", json.dumps({"code": code}), headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status, answer.getheader("Set-Cookie") or ""


@pytest.mark.slow
def test_ten_thousand_guesses_over_http_pair_nobody(tmp_path: Path) -> None:
    server = Process(write_tiny_bundle(tmp_path / "bundle"), tmp_path / "kept", "--host", "0.0.0.0")
    host = f"{LOOPBACK}:{server.port}"
    open_ones = [http.client.HTTPConnection(host, timeout=60) for _ in range(CLIENTS)]
    statuses: Counter[int] = Counter()
    cookies = set()
    for number in range(GUESSES):
        status, cookie = _guess(open_ones[number % CLIENTS], host, f"{number:08}")
        statuses[status] += 1
        cookies.add(cookie)
    for connection in open_ones:
        connection.close()
    with Client(server.port) as stranger:
        assert stranger.get("/api/state").status_code == 401, "still served, and still closed"
    printed = server.end()
    assert re.search(r"its code is \d{4} \d{4}", printed)
    assert "Traceback" not in printed
    assert cookies == {""}
    assert set(statuses) == {403, 429}
    assert 1 <= statuses[403] <= LOOKED_AT
    assert not (tmp_path / "kept" / "visitors.json").exists()
