"""One case from its original files to imagesTr and labelsTr, and what the manifest says about it."""

import os
import shutil
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from nnunet_partial.dataset_conversion.anatomy import anatomy_notes, flip_notes
from nnunet_partial.dataset_conversion.image_files.dicom import read_series
from nnunet_partial.dataset_conversion.image_files.nifti import image_header, label_header, linkable_header, write_nifti
from nnunet_partial.dataset_conversion.image_files.volume import (
    AXES,
    NIBABEL_ERRORS,
    Volume,
    bounding_box,
    has_identity_affine,
    placed_in,
    read_volume,
    same_grid,
    to_ras,
    with_square_axes,
)
from nnunet_partial.dataset_conversion.label_plan import LabelPlan
from nnunet_partial.dataset_conversion.listing import LabelGrid, SourceCase
from nnunet_partial.dataset_conversion.majority import majority_labels
from nnunet_partial.dataset_conversion.sides import split_sides
from nnunet_partial.labels import AnnotationProtocol, CaseRecord, count_labels, remap_labels, replacing
from nnunet_partial.labels.manifest import AnnotatorRecord

FILE_ENDING = ".nii.gz"
ANNOTATORS_FOLDER = "annotators"
UNREADABLE = (OSError, ValueError, EOFError, RuntimeError, zlib.error, *NIBABEL_ERRORS)
"""What readers raise for files that are broken or not what their name says."""

_SKEW_WORTH_SAYING_DEGREES = 0.1


@dataclass(frozen=True)
class AnnotatorJob:
    """One of several annotators of a case.

    Attributes:
        name: What he or she is called.
        files: The originals of the label map.
        protocol_name: Name of the annotation protocol.
        plan: How the labels are rewritten, and what was looked for.
    """

    name: str
    files: tuple[Path, ...]
    protocol_name: str
    plan: LabelPlan


@dataclass(frozen=True)
class CaseJob:
    """Everything needed to convert one case; small, because it travels to a worker.

    Attributes:
        identifier: nnU-Net's name of the case.
        source_name: Name of the source in the pool.
        protocol_name: Name of the annotation protocol of this case.
        protocol: What was looked for in this case.
        root: The source's folder.
        case: The original files.
        plan: How its labels are rewritten.
        read_labels: Reads the original files of a label map.
        label_grid: How its label array lies on its image array.
        axes: Where the axes of its image must run, where the source is known to have one orientation.
        is_ct: Whether intensities are HU.
        dataset_folder: Where the result goes.
        copy: Copy image files that can stay as they are, in place of linking them.
        annotators: Those whose own label maps are kept: none, or several.
    """

    identifier: str
    source_name: str
    protocol_name: str
    protocol: AnnotationProtocol
    root: Path
    case: SourceCase
    plan: LabelPlan
    read_labels: Callable[[tuple[Path, ...]], Volume]
    label_grid: LabelGrid
    axes: str | None
    is_ct: bool
    dataset_folder: Path
    copy: bool
    annotators: tuple[AnnotatorJob, ...] = ()

    @property
    def image_file(self) -> Path:
        """Where the image goes."""
        return self.dataset_folder / "imagesTr" / f"{self.identifier}_0000{FILE_ENDING}"

    @property
    def label_file(self) -> Path:
        """Where the label map goes."""
        return self.dataset_folder / "labelsTr" / f"{self.identifier}{FILE_ENDING}"

    @property
    def annotator_files(self) -> dict[str, Path]:
        """Where the label maps of single annotators go."""
        return {
            annotator.name: self.dataset_folder / ANNOTATORS_FOLDER / annotator.name / f"{self.identifier}{FILE_ENDING}"
            for annotator in self.annotators
        }

    @property
    def results(self) -> tuple[Path, ...]:
        """Every file this case becomes."""
        return (self.image_file, self.label_file, *self.annotator_files.values())

    def relative(self, files: tuple[Path, ...]) -> tuple[str, ...]:
        """Original files as the manifest names them."""
        return tuple(file.relative_to(self.root).as_posix() for file in files)


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
        labels, own_notes = _our_labels(job, job.plan, original, job.case.label_files)
        notes = [*own_notes, *notes]
    image, header, image_notes = _place_image(job, original)
    write_nifti(labels, label_header(header, labels.dtype), job.label_file)
    for name, path in job.annotator_files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_nifti(drawn[name], label_header(header, drawn[name].dtype), path)
    notes = [*original.notes, *image_notes, *notes, *anatomy_notes(labels, image, job.protocol, is_ct=job.is_ct)]
    counts = _count(labels)
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
            drawn[annotator.name], own_notes = _our_labels(job, annotator.plan, image, annotator.files)
        except UNREADABLE as error:
            raise ValueError(f"annotator '{annotator.name}' ({', '.join(job.relative(annotator.files[:1]))}): {error}") from error
        notes += [f"annotator '{annotator.name}': {note}" for note in own_notes]
    return drawn, notes


def _our_labels(job: CaseJob, plan: LabelPlan, image: Volume, files: tuple[Path, ...]) -> tuple[np.ndarray, list[str]]:
    """One label map of the case on the image's grid in RAS, with our ids; nothing is drawn where nobody annotated the case."""
    if not files:
        return np.zeros(to_ras(image).array.shape, dtype=np.uint8, order="F"), []
    drawn = job.read_labels(files)
    labels, notes = _labels_in_ras(job, image, drawn)
    notes += drawn.notes
    if job.label_grid is LabelGrid.ARRAYS_FLIPPED_Y and job.is_ct:
        notes += flip_notes(labels, to_ras(image))
    labels, side_notes = _with_our_ids(plan, labels, to_ras(image))
    return labels, [*notes, *side_notes]


def _labels_in_ras(job: CaseJob, image: Volume, labels: Volume) -> tuple[np.ndarray, list[str]]:
    """The label array as it lies on the image, both in RAS."""
    if labels.affine is None:
        labels = Volume(labels.array, image.affine)
    elif job.label_grid is LabelGrid.BOX:
        image, labels = to_ras(image), placed_in(labels, image)
    elif job.label_grid is LabelGrid.HEADERS:
        image, labels = to_ras(image), to_ras(labels)
    if labels.array.shape != image.array.shape:
        raise ValueError(f"the image has shape {image.array.shape}, the label map {labels.array.shape}; they must be the same")
    if job.label_grid is LabelGrid.ARRAYS_FLIPPED_Y:
        return to_ras(Volume(labels.array[:, ::-1], image.affine)).array, []
    if same_grid(image, labels):
        return to_ras(Volume(labels.array, image.affine)).array, []
    if job.label_grid is LabelGrid.ARRAYS:
        return to_ras(Volume(labels.array, image.affine)).array, [
            "the label's header differs from the image's; the arrays were taken to match"
        ]
    raise ValueError(
        f"image and label map lie at different places (in {AXES}, affine {_in_words(image)} against {_in_words(labels)}); "
        "mend the header that is wrong"
    )


def _with_our_ids(plan: LabelPlan, labels: np.ndarray, image: Volume) -> tuple[np.ndarray, list[str]]:
    """The label map with our ids; unknown ids are refused before anything is derived from them."""
    if not plan.right_ids:
        return _remap(labels, plan.mapping), []
    labels, notes = _remap(labels, {number: number for number in plan.source_ids}), []
    for organ, right_ids in plan.right_ids.items():
        labels, organ_notes = split_sides(labels, image, organ, right_ids)
        notes += organ_notes
    return _remap(labels, plan.mapping), notes


def _remap(labels: np.ndarray, mapping: dict[int, int]) -> np.ndarray:
    """`remap_labels`, reading only the box that holds anything: organs fill a tenth of a scan."""
    box = bounding_box(labels != 0)
    part = remap_labels(np.ascontiguousarray(labels[box]), mapping)
    remapped = np.zeros(labels.shape, dtype=part.dtype, order="F")
    remapped[box] = part
    return remapped


def _count(labels: np.ndarray) -> dict[int, int]:
    """`count_labels`, reading only the box that holds anything."""
    part = labels[bounding_box(labels != 0)]
    counts = count_labels(np.ascontiguousarray(part))
    background = counts.get(0, 0) + labels.size - part.size
    return {**({0: background} if background else {}), **{number: count for number, count in counts.items() if number != 0}}


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


def _in_words(volume: Volume) -> str:
    return np.array2string(volume.affine[:3], precision=2, suppress_small=True, separator=",").replace("\n", "")
