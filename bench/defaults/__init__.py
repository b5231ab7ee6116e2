"""What a person gets who names no flag, on several sets of pictures (docs/defaults.md).

Every run is the bundle's own runner in a process of its own, on a few pictures per class of a set's
training part, of which the run holds back some itself. The figure is the accuracy on the set's test
part, which no run sees.
"""
