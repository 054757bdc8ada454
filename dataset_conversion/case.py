"""One case from its original files to imagesTr and labelsTr, and what the manifest says about it."""

import os
import shutil
import zlib
from contextlib import suppress
from pathlib import Path

import nibabel as nib
import numpy as np

from nnunet_partial.dataset_conversion.anatomy import anatomy_notes
from nnunet_partial.dataset_conversion.case_job import CaseJob
from nnunet_partial.dataset_conversion.case_labels import our_labels
from nnunet_partial.dataset_conversion.image_files.dicom import read_series
from nnunet_partial.dataset_conversion.image_files.nifti import image_header, linkable_header, write_labels, write_nifti
from nnunet_partial.dataset_conversion.image_files.volume import (
    NIBABEL_ERRORS,
    Volume,
    has_identity_affine,
    read_volume,
    to_ras,
    with_square_axes,
)
from nnunet_partial.dataset_conversion.label_counts import count_voxels
from nnunet_partial.dataset_conversion.majority import majority_labels
from nnunet_partial.labels import CaseRecord, replacing
from nnunet_partial.labels.manifest import AnnotatorRecord

UNREADABLE = (OSError, ValueError, EOFError, RuntimeError, zlib.error, *NIBABEL_ERRORS)
"""What readers raise for files that are broken or not what their name says."""

_SKEW_WORTH_SAYING_DEGREES = 0.1


def convert_case(job: CaseJob) -> CaseRecord:
    """Read, check and write one case.

    Raises:
        One of UNREADABLE, with a sentence that lacks only the case: the boundary adds it.
    """
    original = read_series(job.case.image) if job.case.image.is_dir() else read_volume(job.case.image)
    _check_image(original, job.axes)
    drawn, notes = _drawn_by_each(job, original)
    if job.case.by_majority:
        labels = majority_labels(list(drawn.values()), [annotator.plan.protocol for annotator in job.annotators])
    else:
        labels, own_notes = our_labels(job, job.plan, original, job.case.label_files)
        notes = [*own_notes, *notes]
    image, header, image_notes = _place_image(job, original)
    write_labels(labels, header, job.label_file)
    for name, path in job.annotator_files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_labels(drawn[name], header, path)
    notes = [*original.notes, *image_notes, *notes, *anatomy_notes(labels, image, job.protocol, is_ct=job.is_ct)]
    counts = count_voxels(labels)
    return CaseRecord(
        identifier=job.identifier,
        source=job.source_name,
        protocol=job.protocol_name,
        image_files=job.relative((job.case.image,)),
        label_files=job.relative(job.case.label_files),
        label_counts=counts,
        annotators={
            annotator.name: AnnotatorRecord(files=job.relative(annotator.files), protocol=annotator.protocol_name)
            for annotator in job.annotators
        },
        absent=tuple(name for number, classes in job.protocol.labels.items() if number not in counts for name in classes),
        notes=tuple(notes),
    )


def _check_image(image: Volume, axes: str | None) -> None:
    if axes is not None and image.axcodes != axes:
        raise ValueError(
            f"by its header the axes run along {image.axcodes}; this source's run along {axes}; download the file again"
        )
    if image.array.dtype.kind == "f" and not np.isfinite(image.array).all():
        raise ValueError("the image holds NaN or infinite values, which nnU-Net refuses; replace them (by air, -1024 HU, in CT)")


def _drawn_by_each(job: CaseJob, image: Volume) -> tuple[dict[str, np.ndarray], list[str]]:
    """The label map of every annotator, and the notes on them."""
    drawn, notes = {}, []
    for annotator in job.annotators:
        try:
            drawn[annotator.name], own_notes = our_labels(job, annotator.plan, image, annotator.files)
        except UNREADABLE as error:
            raise ValueError(f"annotator '{annotator.name}' ({', '.join(job.relative(annotator.files[:1]))}): {error}") from error
        notes += [f"annotator '{annotator.name}': {note}" for note in own_notes]
    return drawn, notes


def _place_image(job: CaseJob, original: Volume) -> tuple[Volume, nib.Nifti1Header, list[str]]:
    """Link the image if it can stay as it is, else write it in RAS; returns it with its header and notes."""
    notes = []
    if job.is_ct and has_identity_affine(original):
        notes.append(
            "the header has an identity affine: spacing and orientation are lost; taken as 1 mm, axes as the header says"
        )
    if job.case.image.is_file():
        header = linkable_header(job.case.image, original)
        if header is not None:
            link_file(job.case.image, job.image_file, copy=job.copy)
            return original, header, notes
    image, skew_degrees = with_square_axes(to_ras(original))
    if skew_degrees > _SKEW_WORTH_SAYING_DEGREES:
        notes.append(f"the image's axes are {skew_degrees:.2f} degrees off a right angle; written with the nearest rotation")
    header = image_header(image)
    write_nifti(image.array, header, job.image_file)
    return image, header, notes


def link_file(original: Path, path: Path, *, copy: bool) -> None:
    """Hard link, which survives a move of the original; a symbolic link or a copy where the file system has no such links."""
    original = original.resolve()
    with replacing(path) as temporary:
        for place in () if copy else (os.link, os.symlink):
            with suppress(OSError):
                place(original, temporary)
                return
        shutil.copyfile(original, temporary)
