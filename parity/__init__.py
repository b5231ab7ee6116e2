"""The same training in every runtime, beside PyTorch's autograd.

    make parity

exports one bundle for all runtimes, gives each of them the same state and the same pictures in a
process of its own (onnxruntime-training in an environment of its own, too), takes 50 steps of SGD
and compares: feature maps, the first and the last loss, every state tensor after one step,
accuracy after the last. Single runs drift apart, as PyTorch's own do when their inputs differ in
the last bit (the last row): accuracy is the mean of five. Without `../shared` the embedded network
and digits stand in for ImageNet's weights and photographs.
"""
