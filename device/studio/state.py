"""The one document that a page shows; docs/studio-api.md describes it."""

from __future__ import annotations

from typing import Any

from mobiletl.device.studio.album import MOST_PICTURES
from mobiletl.device.studio.files import free_bytes
from mobiletl.device.studio.studio import Studio
from mobiletl.device.studio.uploads import MOST_BYTES


def state(studio: Studio) -> dict[str, Any]:
    """Return what is true now; cheap, nothing is read but the free space of the disk."""
    counts = studio.album.counts()
    feed, teaching, live = studio.feed, studio.live.teaching, studio.live
    manifest = studio.bundle.manifest
    return {
        "bundle": {"name": manifest.model.name, "resolution": manifest.input.resolution},
        "project": str(studio.project.path),
        "camera": {
            "source": feed.source,
            "state": feed.state,
            "message": feed.said(),
            "fps": round(feed.rate(), 1),
            "view": feed.view.document(),
        },
        "classes": [{"name": name, "count": count} for name, count in counts],
        "pictures": len(studio.album),
        "limits": {
            "picture_mb": MOST_BYTES / 1e6,
            "pictures": MOST_PICTURES,
            # In steps: each picture changes it, and a page need not hear of that.
            "free_mb": free_bytes(studio.project.path) // 50_000_000 * 50,
        },
        "recording": studio.recorder.recording,
        "recording_note": studio.recorder.note,
        "teaching": {
            "state": teaching.state,
            "done": teaching.done,
            "total": teaching.total,
            "message": teaching.message,
        },
        "training": studio.training.document(),
        "versions": [
            {
                "id": version.id,
                "kind": version.kind,
                "made": version.made,
                "classes": list(version.classes),
                "pictures": version.pictures,
                "accuracy": version.accuracy,
                "current": version.id == live.using,
                "fits": studio.versions.fits(version),
            }
            for version in studio.versions.listed()
        ],
        "using": live.using,
        "notes": studio.notes,
    }
