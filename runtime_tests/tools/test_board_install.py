"""`board-install` over a real ssh server on this machine, and its one line for what goes wrong."""

from __future__ import annotations

import argparse
import importlib
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from runtime_tests.support.board.shared_files import REPOSITORY
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
SFTP = shutil.which("sftp-server", path="/usr/lib/openssh:/usr/libexec/openssh:/usr/lib/ssh")
TOOL = REPOSITORY / "tools" / "board_install.py"
ANSWERS = {
    "machine": "aarch64",
    "rsync": "/usr/bin/rsync",
    "free_kb": "9000000",
    "python": "3.11",
    "bits": "64",
    "venv": "yes",
}


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOL.parent))
    return importlib.import_module("board_install")


@dataclass(frozen=True)
class Server:
    home: Path
    flags: tuple[str, ...]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """An sshd of this user's own: every login lands in a scratch home.

    Its sessions see this environment's packages, so that the board's pip needs no index.
    """
    if SSHD is None or shutil.which("ssh") is None:
        pytest.skip("no OpenSSH server here (apt install openssh-server)")
    home, port = tmp_path / "home", free_port()
    home.mkdir()
    for name in ("host", "key"):
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)]
        subprocess.run(keygen, check=True)
    packages = Path(np.__file__).parent.parent
    (tmp_path / "login").write_text(
        f"#!/bin/sh\nexport HOME={home} PYTHONPATH={packages}\ncd {home}\n"
        'exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"\n'
    )
    (tmp_path / "login").chmod(0o755)
    (tmp_path / "config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {tmp_path}/host\nPidFile none\n"
        f"AuthorizedKeysFile {tmp_path}/key.pub\nStrictModes no\nUsePAM no\n"
        f"PermitRootLogin yes\nForceCommand {tmp_path}/login\n"
        f"Subsystem sftp {SFTP}\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where a root's sshd confines itself
    process = subprocess.Popen(
        [SSHD, "-D", "-e", "-f", str(tmp_path / "config")], stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        options = (
            f"Port={port}",
            f"IdentityFile={tmp_path}/key",
            f"UserKnownHostsFile={tmp_path}/known",
            "StrictHostKeyChecking=accept-new",
        )
        yield Server(home, tuple(f"--ssh-option={option}" for option in options))
    finally:
        process.terminate()
        process.wait()


def install(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(TOOL), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_a_board_ends_up_trained(server: Server, tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny bundle")
    flags = ["--bundle", bundle, "--python", sys.executable, "--service", "mobiletl/smoke"]
    flags.append("--studio")
    run = install("127.0.0.1", *flags, "--pip-flags=--no-deps --no-index", *server.flags)
    assert run.returncode == 0, run.stdout + run.stderr
    for part in ("built mobiletl-", "$ mobiletl doctor", "smoke run trained"):
        assert part in run.stdout
    assert "epoch 2/2" in run.stderr
    board = server.home / "mobiletl"
    assert (board / "runs/smoke/state.safetensors").is_file()
    assert (board / "tiny bundle/manifest.json").is_file()
    assert "system-site-packages = true" in (board / ".venv/pyvenv.cfg").read_text()
    assert "MemoryMax=" in (board / "mobiletl.service").read_text()
    assert "KillMode=process" in (board / "mobiletl-studio.service").read_text()


def test_both_ways_of_copying(server: Server, tool: ModuleType, tmp_path: Path) -> None:
    source = tmp_path / "some files"
    source.mkdir()
    (source / "a b.txt").write_text("text")
    options = [flag.split("=", 1)[1] for flag in server.flags]
    board = tool.Board("127.0.0.1", tuple(options))
    ways = [False] * (SFTP is not None) + [True] * (shutil.which("rsync") is not None)
    assert ways
    for rsync in ways:
        folder = f"copied{int(rsync)}"
        board.run(f"mkdir {folder}")
        board.copy([source], folder, rsync)
        assert (server.home / folder / "some files" / "a b.txt").read_text() == "text"
    with pytest.raises(tool.InstallError, match=r"copying to 127\.0\.0\.1 failed: "):
        board.copy([source], "no/such/folder", rsync=ways[0])


def test_flags_for_pip_are_words_and_no_shell(server: Server, tool: ModuleType) -> None:
    options = [flag.split("=", 1)[1] for flag in server.flags]
    board = tool.Board("127.0.0.1", tuple(options))
    (server.home / "mobiletl").mkdir()
    pip = "; touch owned; echo $(touch owned) `touch owned`"
    asked = argparse.Namespace(folder="mobiletl", python="/bin/true", pip_flags=pip, studio=False)
    with pytest.raises(tool.InstallError):
        tool._environment(board, asked, "mobiletl.whl")
    assert not list(server.home.rglob("owned"))
    with pytest.raises(tool.InstallError, match=r"--pip-flags is .*No closing quotation"):
        tool._words("--find-links 'a b")


def test_nothing_listens(tmp_path: Path) -> None:
    if shutil.which("ssh") is None:
        pytest.skip("no OpenSSH client here")
    bundle = write_tiny_bundle(tmp_path / "tiny", graphs=False)
    run = install("127.0.0.1", "--bundle", bundle, f"--ssh-option=Port={free_port()}")
    assert run.returncode == 1
    assert run.stderr.startswith("board-install: 127.0.0.1: the board is there, but ssh is not;")
    assert len(run.stderr.splitlines()) == 1


def test_the_wrong_key(server: Server, tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny", graphs=False)
    other = [flag for flag in server.flags if "IdentityFile" not in flag]
    flags = ["--ssh-option=IdentityFile=/dev/null", "--ssh-option=BatchMode=yes"]
    run = install("127.0.0.1", "--bundle", bundle, *other, *flags)
    assert run.returncode == 1
    assert "the board refused the login" in run.stderr
    assert run.stderr.endswith("ssh-copy-id 127.0.0.1\n")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            "ssh: Could not resolve hostname pi.local: Name or service not known",
            "no machine of that",
        ),
        ("ssh: connect to host pi port 22: Connection timed out", "nothing answers there"),
        ("ssh: connect to host pi port 22: No route to host", "nothing answers there"),
        ("Host key verification failed.", "ssh-keygen -R pi, then ssh me@pi once"),
        ("kex_exchange_identification: broken", "kex_exchange_identification: broken; does `ssh"),
        ("", "the connection broke"),
    ],
)
def test_every_way_to_be_unreachable_has_its_line(
    said: str, words: str, tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_ssh(tmp_path, f"echo {shlex.quote(said)} >&2; exit 255", monkeypatch)
    with pytest.raises(tool.InstallError) as caught:
        tool.Board("me@pi", ()).run("true")
    assert words in str(caught.value)


def fake_ssh(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "ssh").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"python": ""}, "has no python3; there: sudo apt install python3"),
        ({"bits": "32"}, "32-bit system (aarch64)"),
        ({"python": "3.6"}, "Python 3.6, 3.8 or newer is needed"),
        ({"venv": ""}, "there: sudo apt install -y python3.11-venv"),
        ({"free_kb": "100000"}, "has 102 MB free in its home, 350 MB are needed"),
    ],
)
def test_a_board_that_cannot_do_it_is_refused_before_anything_is_copied(
    changed: dict[str, str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tool: ModuleType,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = "\n".join(f"{name}={text}" for name, text in {**ANSWERS, **changed}.items())
    fake_ssh(tmp_path, f"cat <<'END'\n{lines}\nEND", monkeypatch)
    bundle = write_tiny_bundle(tmp_path / "tiny", graphs=False)
    assert tool.main(["me@pi", "--bundle", str(bundle)]) == 1
    printed = capsys.readouterr()
    assert words in printed.err
    assert (len(printed.err.splitlines()), printed.out) == (1, "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pi@x", "--bundle", "nowhere"], "no bundle in nowhere; write one (make export"),
        (["pi@x", "--folder", "../x"], "--folder is '../x'"),
        (["a b"], "HOST is 'a b'"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], words: str, tool: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tool.main(arguments) == 1
    assert words in capsys.readouterr().err


def test_make_asks_for_a_host() -> None:
    run = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "board-install", "HOST=pi@x", "BUNDLE=b"],
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "tools/board_install.py pi@x --bundle b" in run.stdout


def test_the_wheel_is_pure_python_and_small(tool: ModuleType, tmp_path: Path) -> None:
    wheel = tool.build_wheel(tmp_path)
    assert wheel.name.endswith("-py3-none-any.whl")
    assert wheel.stat().st_size < 3_000_000
    names = zipfile.ZipFile(wheel).namelist()
    assert "mobiletl/device/doctor.py" in names
    assert not [name for name in names if name.endswith((".so", ".pyc"))]
