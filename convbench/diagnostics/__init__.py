"""What is drawn of the inside of a network: kernels, feature maps, routing."""
