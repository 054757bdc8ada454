"""The one seam to nnU-Net: base trainer, settings, splits, balanced sampling, online metrics, export."""
