"""The demonstration: a phantom abdomen in five native layouts, stock nnU-Net against marginal + exclusion loss, one picture."""
