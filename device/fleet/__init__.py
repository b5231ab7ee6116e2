"""What a board does in a round of a fleet, on Flower (docs/fleet.md)."""
