"""What runs on a board. It needs the base install alone, and no torch."""

import os

# onnxruntime from 1.29 on sends events of each session to its makers, and keeps a number of the
# machine and a database for that below ~/.cache. It reads this once, when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
