"""Runs commands of `mobiletl` in forked children, each armed with one fault (faults.c).

Started by `harness.py` with faults.so preloaded. One JSON object a line comes in and goes out.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import tempfile
import time
from typing import Any

from mobiletl.device import predict, review, teach, train_on_board
from mobiletl.device.commands.table import main
from mobiletl.device.run import plot

LOADED = (predict, review, teach, train_on_board, plot)
TIMEOUT_S = 60


def answer(faults: ctypes.CDLL, job: dict[str, Any]) -> dict[str, Any]:
    """Run the command `job["argv"]` in a child with the fault that `job` names."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            run_child(faults, job, out.fileno(), err.fileno())
        code = wait(child)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode("utf-8", "replace"))
    return {
        "code": code,
        "pid": child,
        "out": texts[0],
        "err": texts[1],
        "count": faults.faults_count(),
        "calls": faults.faults_log().decode("utf-8", "replace").splitlines(),
    }


def run_child(faults: ctypes.CDLL, job: dict[str, Any], out: int, err: int) -> None:
    """Run the command and end the process, whatever happens."""
    code = 70
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.chdir(job["cwd"])
        faults.faults_arm(
            job["mode"], job["at"], job["errno"], job["reads"], os.fsencode(job["below"])
        )
        code = main(job["argv"])
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001 - a traceback is what the attack looks for
        sys.excepthook(*sys.exc_info())
        code = 1
    finally:
        os._exit(code)


def wait(child: int) -> int:
    """Return the exit code of `child`, negative for a signal; one that hangs is killed."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -signal.SIGALRM


def serve(library: str) -> None:
    """Answer jobs until there are no more."""
    faults = ctypes.CDLL(library)
    faults.faults_count.restype = ctypes.c_long
    faults.faults_log.restype = ctypes.c_char_p
    faults.faults_arm.argtypes = [
        ctypes.c_int,
        ctypes.c_long,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_char_p,
    ]
    # The children's output goes elsewhere; the replies keep to this descriptor.
    replies = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        replies.write(json.dumps(answer(faults, json.loads(line))) + "\n")
        replies.flush()


if __name__ == "__main__":
    serve(sys.argv[1])
