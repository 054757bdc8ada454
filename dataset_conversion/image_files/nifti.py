"""Writing NIfTI: the same voxels always give the same bytes."""

import struct
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import nibabel as nib
import numpy as np
import SimpleITK

from nnunet_partial.dataset_conversion.image_files.volume import AXES, Volume, itk_affine
from nnunet_partial.labels import replacing

_IMAGE_LEVEL = 1  # level 6 takes twice the time for a few per cent
_LABEL_LEVEL = 2  # level 1 takes as long and gives twice the bytes
_GZIP_HEAD = b"\x1f\x8b\x08" + bytes(6) + b"\xff"  # deflate, no time, no file name, no system
_ZLIB_HEAD, _ZLIB_TAIL = 2, 4  # bytes around the same stream in zlib's own format
_VOXEL_OFFSET = 352


def image_header(volume: Volume) -> nib.Nifti1Header:
    """A header under which nibabel and ITK put the volume at the same place."""
    header = nib.Nifti1Header()
    header.set_data_dtype(volume.array.dtype.newbyteorder("<"))
    header.set_data_shape(volume.array.shape)
    header.set_xyzt_units("mm")
    header.set_sform(volume.affine, code=1)
    header.set_qform(volume.affine, code=1)
    header.set_slope_inter(volume.slope, volume.inter)
    return header


def write_nifti(array: np.ndarray, header: nib.Nifti1Header, path: Path) -> None:
    """Write a .nii.gz or .nii file that is either whole or not there; stored values are written as they are."""
    _write(array, header, path, _gzip)


def write_labels(labels: np.ndarray, image: nib.Nifti1Header, path: Path) -> None:
    """Write the label map of an image, in every other way as `write_nifti` does.

    Args:
        labels: Label ids, of the image's shape.
        image: The image's header, whose place is taken over bit by bit.
        path: Of the file.
    """
    header = image.copy()
    header.set_data_dtype(labels.dtype)
    header.set_slope_inter(1, 0)
    header["descrip"] = header["aux_file"] = header["intent_name"] = b""
    header["cal_max"] = header["cal_min"] = 0
    _write(labels, header, path, _gzip_of_runs)


def _write(array: np.ndarray, header: nib.Nifti1Header, path: Path, compress: Callable[[np.ndarray], bytes]) -> None:
    header = header.as_byteswapped("<")
    header["magic"], header["vox_offset"] = b"n+1", _VOXEL_OFFSET
    content = np.zeros(_VOXEL_OFFSET + array.nbytes, dtype=np.uint8)
    content[: len(header.binaryblock)] = np.frombuffer(header.binaryblock, dtype=np.uint8)
    voxels = content[_VOXEL_OFFSET:].view(header.get_data_dtype()).reshape(array.shape, order="F")
    for y in range(array.shape[1]):  # plane by plane: 2.5 times as fast as one copy where axes are exchanged (KiTS)
        voxels[:, y] = array[:, y]
    with replacing(path) as temporary:
        temporary.write_bytes(compress(content) if path.name.endswith(".gz") else content)


def _gzip(content: np.ndarray) -> bytes:
    return imagecodecs.gzip_encode(content, level=_IMAGE_LEVEL)


def _gzip_of_runs(content: np.ndarray) -> bytes:
    """A gzip file, by what takes a tenth of the time for long runs of one value, and nearly twice the time for an image."""
    if not imagecodecs.ZLIBNG.available:
        return _gzip(content)
    stream = imagecodecs.zlibng_encode(content, level=_LABEL_LEVEL)[_ZLIB_HEAD:-_ZLIB_TAIL]
    return _GZIP_HEAD + stream + struct.pack("<II", imagecodecs.deflate_crc32(content), content.size % 2**32)


def linkable_header(path: Path, volume: Volume) -> nib.Nifti1Header | None:
    """The header of a file that can stand in imagesTr as it is, else None.

    It can if it is one compressed NIfTI-1 file whose axes run along RAS and which ITK reads, at the place where nibabel sees it.
    """
    if not path.name.endswith(".nii.gz") or volume.axcodes != AXES:
        return None
    header = nib.load(path).header
    if type(header) is not nib.Nifti1Header or header["magic"] != b"n+1":
        return None
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return None
    return header if reader.GetDimension() == 3 and np.allclose(itk_affine(reader), volume.affine, rtol=1e-4, atol=1e-3) else None
