"""What a run owes to the machine it stands on: not too hot, and not in the way of others."""
