"""Learning pictures in one look, without training: a folder of them, or one after another."""
