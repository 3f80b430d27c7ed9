"""Choices by measurement: the implementation of each convolution, and whether to compile the network."""
