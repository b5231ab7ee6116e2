"""How well a frame's sharpness and its difference from others are told, on made videos."""
