"""Images: sources decode them to uint8 tensors, which stay on the device and are augmented there."""
