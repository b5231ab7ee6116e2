"""Pictures that take much memory to decode are decoded by a process of their own, one at a time.

So the server's own memory does not grow, a decoder that crashes takes nothing with it, and what a
picture may take follows from what the board has left. The process is `_decode.py`. It ends with 0
and has written the picture as a JPEG to standard output, or with REFUSED and has written why.
"""

from __future__ import annotations

import contextlib
import io
import signal
import subprocess
import sys
from pathlib import Path

from mobiletl.device.bundle.decode import UnreadablePicture, decode, decoding_bytes
from mobiletl.device.memory.available import available_bytes
from mobiletl.device.starting import started

SCRIPT = Path(__file__).resolve().parents[1] / "_decode.py"
# What one picture may take: a HEIC or WebP of 12 megapixels, a HEIC of 24.
MOST_BYTES = 256_000_000
# What stays available beside it, the process itself and its libraries (30 to 40 MB) counted in.
LEFT_BYTES = 64_000_000
# Beyond what was planned: what is freed late, and small things that no plan names.
SLACK_BYTES = 32_000_000
MOST_SECONDS = 120
QUALITY = 95
REFUSED = 3


def decoded_apart(path: Path, short_side: int) -> bytes:
    """Return the picture at `path` as an upright JPEG.

    Its short side has `short_side` pixels, up to twice as many, or as many as the picture has.
    Raises UnreadablePicture, also for one that takes more memory than is available.
    """
    available = available_bytes()
    limit = MOST_BYTES if available is None else min(MOST_BYTES, available - LEFT_BYTES)
    words = [sys.executable, str(SCRIPT), str(path), str(short_side), str(max(limit, 0))]
    none = subprocess.DEVNULL
    with started(words, stdin=none, stdout=subprocess.PIPE, stderr=none) as decoder:
        try:
            said, _ = decoder.communicate(timeout=MOST_SECONDS)
        except subprocess.TimeoutExpired:
            reason = f"takes more than {MOST_SECONDS} seconds to decode; make it smaller"
            raise UnreadablePicture(path.name, reason) from None
        finally:
            # Of one that has ended nothing is left to kill.
            decoder.kill()
    if decoder.returncode == 0:
        return said
    if decoder.returncode == REFUSED:
        raise UnreadablePicture(path.name, said.decode("utf-8", "replace"))
    raise UnreadablePicture(path.name, f"its decoder {_end(decoder.returncode)}; send it as a JPEG")


def serve(path: Path, short_side: int, limit: int) -> int:
    """Be the process: write the JPEG or the reason to standard output, return the exit code."""
    out = io.BytesIO()
    try:
        # Before the system's limit, for WebP's decoder fails with other words beyond that one.
        decoding_bytes(path, short_side, limit)
        _bounded(limit)
        decode(path, short_side, limit=limit).save(out, "JPEG", quality=QUALITY)
    except UnreadablePicture as error:
        short = isinstance(error.__cause__, MemoryError)
        reason = "takes more memory than its header says" if short else error.reason
        return _said(reason.encode("utf-8", "replace"), REFUSED)
    return _said(out.getvalue(), 0)


def _said(content: bytes, code: int) -> int:
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()
    return code


def _bounded(limit: int) -> None:
    """Let the system refuse more than `limit` bytes, and end this process before any other."""
    import resource

    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    # A decoder with an endless loop, where nobody waits any more.
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS))
    # Not RLIMIT_AS: libraries map far more than they use.
    most = _data_bytes() + limit + SLACK_BYTES
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _data_bytes() -> int:
    """Return what this process has of the memory that RLIMIT_DATA counts (proc(5), statm)."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
    except (OSError, ValueError, IndexError):
        return MOST_BYTES
    import resource

    return pages * resource.getpagesize()


def _end(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"
