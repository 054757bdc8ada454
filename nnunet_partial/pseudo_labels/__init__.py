"""Pseudo-label rounds in preprocessed space: predict, rank, relabel, train again (INERRANT, Petit et al. 2021)."""
