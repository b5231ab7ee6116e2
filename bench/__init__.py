"""Training speed and memory beside PyTorch's: `make bench`, or `python -m bench`."""
