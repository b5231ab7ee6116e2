"""picamera2's own package in a Debian 13 of this machine's processor: tests of it, no emulation.

Raspberry Pi OS has picamera2 in a package. Here it comes from PyPI, and libcamera's bindings, which
it needs and PyPI does not have, come from Debian 13. Neither has the bindings of KMS, with which
picamera2 draws previews on a screen without a desktop: four lines stand in for those.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from emulation.chroot import (
    INSTALL_TIMEOUT_S,
    build_root,
    enter_natively,
    mirror_answers,
    trust,
)
from emulation.errors import BoardFailed, CannotEmulate
from emulation.host import cache_folder, index_answers, locked

SUITE = "trixie"
# The last three build the parts of picamera2's requirements that PyPI has as sources.
PACKAGES = (
    *("python3-venv", "libc-bin", "dash", "libstdc++6", "python3-libcamera", "python3-prctl"),
    *("gcc", "libc6-dev", "python3-dev"),
)
RELEASE = "0.3.38"
# What our cameras and their tests need besides.
OURS = ("pytest", "safetensors")
TOOLS = ("mmdebstrap", "unshare", "chroot")
ENVIRONMENT = "/envs/picamera2"
KMS = """\
class PixelFormat:
    RGB888 = BGR888 = XRGB8888 = XBGR8888 = YUV420 = YVU420 = None
    NV12 = None
"""
REPOSITORY = Path(__file__).resolve().parent.parent
TESTS = "runtime_tests/device/cameras/test_picamera2.py"
# What these tests import of the repository; the package itself is installed.
TESTED = ("pyproject.toml", "runtime_tests/conftest.py", "runtime_tests/support/board", TESTS)
TIMEOUT_S = 600


def root() -> Path:
    """The system in the cache; other packages or another release are another folder."""
    kind = hashlib.sha256(" ".join((*PACKAGES, RELEASE, *OURS, KMS)).encode()).hexdigest()[:8]
    return cache_folder() / f"picamera2-{kind}"


def objection() -> str:
    """Why it can't be had here; empty where it can. As in chroot.py, the network comes last."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "needs root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"needs {', '.join(missing)}"
    if not root().exists() and not mirror_answers(SUITE, PACKAGES, ""):
        return f"mmdebstrap can't read Debian {SUITE} from its mirror"
    return "" if _stamp().exists() or index_answers() else "the package index does not answer"


def install() -> Path:
    """Return the system, built if it is not in the cache. Raises CannotEmulate, BoardFailed."""
    problem = objection()
    if problem:
        raise CannotEmulate(problem)
    place = root()
    with locked(place.with_name(f"{place.name}.lock")):
        if not place.exists():
            build_root(place, SUITE, PACKAGES, "")
        if not _stamp().exists():
            trust(place)
            shutil.rmtree(place / ENVIRONMENT[1:], ignore_errors=True)
            _call("python3", "-m", "venv", "--system-site-packages", ENVIRONMENT)
            pip = [f"{ENVIRONMENT}/bin/pip", "install", "--quiet"]
            _call(*pip, f"picamera2=={RELEASE}", *OURS)
            packages = next((place / ENVIRONMENT[1:] / "lib").glob("python3*/site-packages"))
            (packages / "pykms.py").write_text(KMS, "ascii")
            _stamp().touch()
    return place


def run_tests(folder: Path, wheel: Path) -> str:
    """Run picamera2's tests there with `wheel` installed; return what pytest printed.

    `folder` is an empty one that this may fill. Raises CannotEmulate, BoardFailed.
    """
    install()
    for name in TESTED:
        source, target = REPOSITORY / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    shutil.copy(wheel, folder)
    pip = [f"{ENVIRONMENT}/bin/pip", "install", "--quiet", "--no-deps", "--target", "/shared/ours"]
    _call(*pip, f"/shared/{wheel.name}", shared=folder)
    tests = [f"{ENVIRONMENT}/bin/pytest", "-o", "pythonpath=/shared /shared/ours", "-rA"]
    return _call(*tests, "-p", "no:cacheprovider", f"/shared/{TESTS}", shared=folder)


def _stamp() -> Path:
    return root() / f"{ENVIRONMENT[1:]}.installed"


def _call(*words: str, shared: Path | None = None) -> str:
    """What a program prints there."""
    limit = INSTALL_TIMEOUT_S if shared is None else TIMEOUT_S
    done: subprocess.CompletedProcess[str] = enter_natively(
        root(), shared or root() / "tmp", words, limit
    )
    if done.returncode:
        raise BoardFailed(f"{' '.join(words)} ended with {done.returncode}: {done.stdout}")
    return done.stdout
