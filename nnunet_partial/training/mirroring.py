"""Which axes may be mirrored where a left organ and a right organ are two classes."""

from collections.abc import Sequence
from typing import Literal

from nnunet_partial.labels import LabelSpace

LEFT_RIGHT_AXIS = 2  # of nnU-Net's (z, y, x) arrays; conversion brings every image to one orientation


def allowed_mirror_axes(
    mirror_axes: Sequence[int], transpose_forward: Sequence[int], space: LabelSpace, mirroring: Literal["auto", "all", "none"]
) -> tuple[int, ...]:
    """The axes of a patch along which left and right are not exchanged.

    Args:
        mirror_axes: The axes nnU-Net would mirror; their number is the patch's dimension.
        transpose_forward: The plans' axis order.
        space: The label space.
        mirroring: "auto" leaves the left-right axis out where the space has left/right pairs; "all" and "none" do as they say.
    """
    if mirroring == "none":
        return ()
    if mirroring == "all" or not space.left_right_pairs():
        return tuple(mirror_axes)
    sliced_axes = 3 - len(mirror_axes)  # a 2d patch has lost the first axis
    left_right = list(transpose_forward).index(LEFT_RIGHT_AXIS) - sliced_axes
    return tuple(axis for axis in mirror_axes if axis != left_right)
