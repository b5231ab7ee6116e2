"""The runtimes, behind one interface: each opens a bundle as a `Session`."""
