"""convbench: swap the convolution, keep everything else equal, and measure."""

__version__ = "0.1.0"
