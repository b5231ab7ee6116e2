"""Which release of a package is installed here.

`importlib.metadata` answers that too, and its import takes 3.9 MB (Python 3.11), as much as the
state of a small network: it brings the parser of e-mail along.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path


def installed_release(distribution: str) -> str:
    """Return the version of an installed package, such as "1.31.1"; empty if there is none.

    It stands in the name of the folder that an installer leaves beside a package (PEP 376), such as
    `onnxruntime-1.31.1.dist-info`. The first on Python's path counts, as it does for an import.
    """
    wanted = _normal(distribution)
    for place in sys.path:
        try:
            folders = sorted(Path(place).iterdir())
        except OSError:  # a place that is gone, or an archive
            continue
        for folder in folders:
            if folder.suffix not in (".dist-info", ".egg-info"):
                continue
            package, _, rest = folder.stem.partition("-")
            if _normal(package) == wanted and rest:
                # Old installers add the Python: numpy-1.24.2-py3.8.egg-info.
                return re.split(r"-py\d", rest)[0]
    return ""


def _normal(name: str) -> str:
    """Return a package's name as all its spellings have it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
