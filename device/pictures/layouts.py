"""What `--layout` may be; in a file of its own, so that the doctor's flags need no Pillow."""

from __future__ import annotations

AUTO, CLASSES, SPLIT = "auto", "classes", "split"
LAYOUTS = (AUTO, CLASSES, SPLIT)
