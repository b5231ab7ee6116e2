"""Cost against batch, blocks and resolution, as plots: `make bench-cost` (docs/measured.md)."""
