"""Maps as [C,N,H,W]: convolutions and norms taken apart into products and sums."""
