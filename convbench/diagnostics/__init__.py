"""Diagnostics of a network: its kernels, its feature maps and the routing weights of its convolutions."""
