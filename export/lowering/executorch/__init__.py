"""ExecuTorch programs: kernels, delegates, in-place state."""
