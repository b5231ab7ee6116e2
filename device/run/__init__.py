"""One training run: its loop, its place on disk, and who hears of it."""
