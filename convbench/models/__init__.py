"""Networks, built from plain `nn.Conv2d`; they know no conv types."""
