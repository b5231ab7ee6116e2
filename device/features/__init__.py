"""Feature maps of pictures, computed or read from disk."""
