"""One multi-organ nnU-Net from many datasets of which each labels only some of the organs."""

__version__ = "0.1.0"
