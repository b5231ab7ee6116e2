"""What `mobiletl doctor` finds out and what it makes of it."""
