"""How well scores tell pictures of known classes from pictures of others (docs/honest.md)."""
