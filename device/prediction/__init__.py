"""Labels for pictures, from a bundle and a state."""
