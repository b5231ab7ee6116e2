"""Whether a bundle's files may be run, where running them is running a program.

ONNX describes arithmetic. TorchScript and ExecuTorch files are programs: one of TorchScript can
overwrite any file that the user can (`torch.from_file`), and neither library is made for files of
strangers. So they are opened for those alone who say that they trust the bundle, or who made it.
"""

from __future__ import annotations

from mobiletl.device.bundle.bundle import Bundle
from mobiletl.device.bundle.records import OWN, remembered
from mobiletl.device.errors import Untrusted
from mobiletl.device.printable import printable
from mobiletl.device.sessions.table import Runtime


def require_trust(bundle: Bundle, row: Runtime) -> None:
    """Raise Untrusted unless the files that `row` runs are only data, or the bundle is trusted."""
    if not row.runs_code or bundle.trusted or remembered(OWN, bundle.manifest.id):
        return
    raise Untrusted(
        f"the files of {printable(str(bundle.path))} for {row.name} are programs, which may do "
        "whatever you may do, and it was not exported by you on this machine; if you trust whoever "
        "made it, add --trust-bundle, otherwise use --runtime onnxruntime"
    )
