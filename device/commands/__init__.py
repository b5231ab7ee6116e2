"""The `mobiletl` command: a table of commands and what they share."""
