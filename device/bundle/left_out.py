"""Files and folders that nobody means when they name a folder of pictures."""

from __future__ import annotations

# What systems, cameras and their programs leave in folders of pictures; in small letters.
SYSTEM_FOLDERS = frozenset(
    {
        *("__macosx", "@eadir", "#recycle", "$recycle.bin", "recycler"),
        *("system volume information", "lost+found", "lost.dir", "thumbnails", ".thumbnails"),
    }
)
SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", ".ds_store", "icon\r"})
OF_THE_SYSTEM = "made by the system or a program for itself"
HIDDEN = "hidden: its name begins with a dot"


def left_out(name: str, folder: bool = False) -> str:
    """Return why nobody means a file or a folder of that name; empty where somebody may."""
    if name.lower() in (SYSTEM_FOLDERS if folder else SYSTEM_FILES) or name.startswith("._"):
        return OF_THE_SYSTEM
    return HIDDEN if name.startswith(".") else ""
