"""The first signal asks, the second stops at once, an ignored one stays ignored."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from mobiletl.device.run.stop import StopFlag, StopRequested


@pytest.mark.usefixtures("heard_signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_first_asks_second_stops(number: int, capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(number)
    with StopFlag() as stop:
        assert not stop
        stop.raise_if_requested()
        os.kill(os.getpid(), number)
        assert stop
        with pytest.raises(StopRequested):
            stop.raise_if_requested()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before
    assert "stopping after this step" in capfd.readouterr().err


def test_nohup_means_it() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopFlag() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop
    finally:
        signal.signal(signal.SIGHUP, before)


def test_in_another_thread_it_is_a_plain_flag() -> None:
    seen = []

    def work() -> None:
        with StopFlag() as stop:
            stop.request()
            seen.append(bool(stop))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True]
