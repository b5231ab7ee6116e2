"""Training speed and memory beside PyTorch's: `make bench`, or `python -m runtime_tests.bench`."""
