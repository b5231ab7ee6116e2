"""The format in code, for boards and hosts: bundles, states, pictures as a network takes them."""
