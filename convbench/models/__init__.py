"""Networks of plain `nn.Conv2d`, without any import of the convolution types of convbench."""
