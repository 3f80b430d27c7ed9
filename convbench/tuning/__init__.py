"""What is measured on a device and measurements: implementations, compilation, the interleaved clock."""
