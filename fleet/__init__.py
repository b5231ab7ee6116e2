"""The server of a fleet, on Flower (docs/fleet.md)."""
