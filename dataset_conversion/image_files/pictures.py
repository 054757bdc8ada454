"""Label maps that are stacks of grey pictures, one for each slice of a DICOM series."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK

from nnunet_partial.dataset_conversion.image_files.dicom import slices_of
from nnunet_partial.dataset_conversion.image_files.volume import Volume
from nnunet_partial.dataset_conversion.listing import natural_key

_UNKNOWN = 255


@dataclass(frozen=True)
class SlicePictures:
    """Reads a stack of pictures: the n-th by file name lies on the slice whose file is the n-th by name, wherever that is.

    Attributes:
        series: The folder of the series, seen from the folder that holds the pictures' folder.
        greys: (lowest grey, highest grey, label id); 0 is background, every other grey is refused.
    """

    series: str
    greys: tuple[tuple[int, int, int], ...]

    def __call__(self, files: tuple[Path, ...]) -> Volume:
        """The label map in the order in which ITK stacks the slices; it has no affine.

        Raises:
            ValueError: the pictures are not as many as the slices, not grey, not of one size, or have unknown greys.
        """
        slices = slices_of(files[0].parent.parent / self.series)
        if len(slices) != len(files):
            raise ValueError(f"{len(files)} pictures do not fit on {len(slices)} slices; download the case again")
        by_name = sorted(slices, key=lambda path: natural_key(path.name))
        planes = {}
        for path, lies_on in zip(sorted(files, key=lambda path: natural_key(path.name)), by_name, strict=True):
            planes[lies_on] = self._with_ids(_read_grey(path), path.name)
        shapes = sorted({plane.shape for plane in planes.values()})
        if len(shapes) > 1:
            raise ValueError(f"the pictures have different sizes: {', '.join(map(str, shapes))}")
        return Volume(np.stack([planes[path] for path in slices], axis=2), affine=None)

    def _with_ids(self, plane: np.ndarray, name: str) -> np.ndarray:
        table = np.full(256, _UNKNOWN, dtype=np.uint8)
        table[0] = 0
        for lowest, highest, number in self.greys:
            table[lowest : highest + 1] = number
        ids = table[plane]
        if (ids == _UNKNOWN).any():
            greys, counts = np.unique(plane[ids == _UNKNOWN], return_counts=True)
            found = ", ".join(f"{grey} ({count} pixels)" for grey, count in zip(greys, counts, strict=True))
            known = ", ".join(
                str(lowest) if lowest == highest else f"{lowest} to {highest}" for lowest, highest, _ in ((0, 0, 0), *self.greys)
            )
            raise ValueError(f"picture '{name}' has greys that stand for nothing: {found}; known are {known}")
        return ids


def _read_grey(path: Path) -> np.ndarray:
    """A picture as (x, y) greys in 0..255."""
    picture = SimpleITK.ReadImage(str(path))
    if picture.GetNumberOfComponentsPerPixel() != 1:
        raise ValueError(
            f"picture '{path.name}' is in colour ({picture.GetNumberOfComponentsPerPixel()} values a pixel); "
            "labels are pictures in grey, such as the original download has"
        )
    if picture.GetPixelID() != SimpleITK.sitkUInt8:
        raise ValueError(f"picture '{path.name}' has {picture.GetPixelIDTypeAsString()} pixels; labels have 8 bit")
    return SimpleITK.GetArrayFromImage(picture).T
