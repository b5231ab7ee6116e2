"""The host's commands: `mobiletl export`, `account` and `finish`."""
