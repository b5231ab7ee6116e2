"""The order of a graph's nodes, what its run holds at once, and who checks that."""
