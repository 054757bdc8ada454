"""Volumes of reference and prediction, and their difference."""

VOLUME_NAMES = ("volume_ref_ml", "volume_pred_ml", "volume_error_ml", "relative_volume_error")


def volume_metrics(n_ref: float, n_pred: float, voxel_ml: float) -> dict[str, float]:
    """Volumes from voxel counts; the errors are prediction minus reference, so a negative one is too little.

    The relative error is NaN where the reference shows nothing; everything is NaN where the counts are.

    Args:
        n_ref: Voxels of the reference.
        n_pred: Voxels of the prediction.
        voxel_ml: Volume of a voxel.
    """
    error = n_pred - n_ref
    return {
        "volume_ref_ml": n_ref * voxel_ml,
        "volume_pred_ml": n_pred * voxel_ml,
        "volume_error_ml": error * voxel_ml,
        "relative_volume_error": error / n_ref if n_ref else float("nan"),
    }
