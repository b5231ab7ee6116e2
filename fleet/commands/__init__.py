"""The commands of the server of a fleet."""
