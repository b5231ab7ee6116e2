"""A trained state as one plain file for inference: images [N,3,R,R] in, logits [N,K] out.

`bundle_reader` and `state_reader` check what they are given, `frozen` finds the constants of the
bundle's graphs, `network` puts both back into the backbone, `formats` writes it.
"""
