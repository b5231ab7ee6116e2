"""The frozen layers in numbers that are no float32, and what that costs."""
