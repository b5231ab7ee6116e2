"""Live labels: what a frame costs beside the network, and a run of many frames."""
