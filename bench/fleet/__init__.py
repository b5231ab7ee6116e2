"""A fleet of simulated boards on Flower's simulation engine: accuracy against rounds and bytes.

Boards are real in everything but their number: each has its own pictures, as feature maps of a
bundle, takes the bundle's training step on onnxruntime from the round's parameters, and answers
with what `mobiletl.device.fleet` encodes. The server is that of `mobiletl.fleet`. What is left out
is what a board does around it: decoding pictures, files, memory plans, the network.

    make bench-fleet DATA=cifar10-8k/
"""
