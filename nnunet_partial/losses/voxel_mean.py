"""A mean over some of a batch's voxels."""

from torch import Tensor


def voxel_mean(values: Tensor, where: Tensor, over: Tensor | None = None) -> Tensor:
    """Sum of the values where they count, by the number of voxels; 0 with a graph where there are none.

    Nothing is picked out by index, so that the host does not wait for a GPU to count.

    Args:
        values: A number a voxel.
        where: The voxels that count.
        over: The voxels over which the mean is taken, if others than `where`.
    Shape:
        all (B, 1, *S), where and over bool; returns a scalar.
    Raises:
        ValueError: shapes differ.
    """
    over = where if over is None else over
    if not values.shape == where.shape == over.shape:
        found = f"{tuple(where.shape)} and {tuple(over.shape)}"
        raise ValueError(f"where and over must have shape (B, 1, *S) = {tuple(values.shape)}, got {found}")
    return (values * where).sum() / over.sum().clamp_min(1)
