"""From a request to a bundle on disk."""
