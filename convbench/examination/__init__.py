"""The examinations of `convbench.doctor`: each takes a convolution type and yields findings."""
