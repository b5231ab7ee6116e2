"""TorchScript modules that run without Python."""
