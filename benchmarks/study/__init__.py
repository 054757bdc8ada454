"""The study: every method of this package on real CT under one protocol. See `__main__`."""
