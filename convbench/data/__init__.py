"""Data sets: sources decode images to uint8 tensors, which stay on the device and are augmented there."""
