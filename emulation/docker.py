"""The engine for machines with Docker: buildx builds an arm64 image, binfmt_misc runs it.

What a project on GitHub uses (.github/workflows/emulate.yml). The image holds system and wheels;
the processor is named when it runs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from emulation.host import certificates, package_index
from emulation.machine import ENVIRONMENT, Machine

DOCKERFILE = Path(__file__).with_name("Dockerfile")
PLATFORM = "linux/arm64"
CPU_FOLDER = "/sys/devices/system/cpu"
BINFMT_HINT = "docker run --privileged --rm tonistiigi/binfmt --install arm64"


@dataclass(frozen=True)
class Docker:
    """See the module."""

    name: str = "docker"

    def objection(self, machine: Machine) -> str:
        """A client alone is not enough: the engine and buildx have to answer."""
        del machine  # every one is the same to Docker
        if shutil.which("docker") is None:
            return "no docker on PATH"
        for command, missing in (
            (["docker", "info"], "no engine answers"),
            (["docker", "buildx", "inspect", "--bootstrap"], "buildx is not installed"),
        ):
            asked = subprocess.run(command, capture_output=True, text=True, check=False)
            if asked.returncode:
                return missing
        if PLATFORM not in asked.stdout:
            return f"buildx can't run {PLATFORM} ({BINFMT_HINT})"
        return ""

    def install(self, machine: Machine, wheel: Path) -> Image:
        """Build the image; layers that did not change come from Docker's cache."""
        image = Image(machine)
        with tempfile.TemporaryDirectory() as folder:
            context = Path(folder)
            shutil.copy(wheel, context)
            authorities = certificates()
            (context / "authorities").mkdir()
            if authorities is not None:
                shutil.copyfile(authorities, context / "authorities" / "host.crt")
            subprocess.run(build_command(image, context), check=True)
        return image


@dataclass(frozen=True)
class Image:
    """A built image, as a board."""

    machine: Machine

    @property
    def tag(self) -> str:
        """The image's name; one for every Debian and onnxruntime."""
        extra = f"-{self.machine.extra}" if self.machine.extra else ""
        return f"mobiletl-board:{self.machine.board.debian}-{self.machine.onnxruntime}{extra}"

    def run(
        self, shared: Path, command: Sequence[str], timeout_s: float
    ) -> subprocess.CompletedProcess[str]:
        """See engine.Installed. The board has no network, and its own /proc/cpuinfo and /sys."""
        with tempfile.TemporaryDirectory() as folder:
            faked = Path(folder)
            (faked / "cpuinfo").write_text(self.machine.cpuinfo(), "ascii")
            (faked / "cpu").mkdir()
            for name, content in self.machine.cpu_lists().items():
                (faked / "cpu" / name).write_text(content, "ascii")
            return subprocess.run(
                run_command(self, shared, faked, command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=timeout_s,
                check=False,
            )


def build_command(image: Image, context: Path) -> list[str]:
    """`docker buildx build` for the image; the wheel lies in `context`."""
    arguments = {
        "DEBIAN": image.machine.board.debian,
        "REQUIREMENTS": " ".join(image.machine.requirements),
        "EXTRA": image.machine.wheel(""),
        **package_index(),
    }
    command = ["docker", "buildx", "build", "--load", "--platform", PLATFORM, "--tag", image.tag]
    for name, value in arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    return [*command, "--file", str(DOCKERFILE), str(context)]


def run_command(image: Image, shared: Path, faked: Path, command: Sequence[str]) -> list[str]:
    """`docker run` of `command`; `--init`, as a crash would hang in the first process."""
    return [
        *("docker", "run", "--rm", "--init", "--platform", PLATFORM, "--network", "none"),
        # What the board writes belongs to whoever emulates it.
        *("--user", f"{os.getuid()}:{os.getgid()}", "--env", "HOME=/tmp"),
        *("--env", f"QEMU_CPU={image.machine.board.cpu}"),
        *(word for pair in ENVIRONMENT.items() for word in ("--env", "=".join(pair))),
        *("--volume", f"{faked}/cpuinfo:/proc/cpuinfo:ro"),
        *("--volume", f"{faked}/cpu:{CPU_FOLDER}:ro"),
        *("--volume", f"{shared}:/shared"),
        *(image.tag, *command),
    ]
