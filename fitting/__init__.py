"""Which bundle a board has room and time for: exports, plans and times what there is to choose."""
