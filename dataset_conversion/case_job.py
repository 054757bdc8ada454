"""What has to be known to convert one case: small and frozen, because it travels to a worker."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nnunet_partial.dataset_conversion.image_files.volume import Volume
from nnunet_partial.dataset_conversion.label_plan import LabelPlan
from nnunet_partial.dataset_conversion.listing import LabelGrid, SourceCase
from nnunet_partial.labels import AnnotationProtocol

FILE_ENDING = ".nii.gz"
ANNOTATORS_FOLDER = "annotators"


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
