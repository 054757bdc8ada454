"""What a source module offers, and how it finds the files that belong together."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from nnunet_partial.dataset_conversion.image_files.volume import Volume, read_labels
from nnunet_partial.labels import LabelError


class ConversionError(LabelError):
    """What is wrong with a pool or with its files; `faults` lists everything that was found."""


class LabelGrid(Enum):
    """How a label array lies on the image array of its case."""

    HEADERS = "the affines of both files say so; they must agree"
    ARRAYS = "voxel by voxel, whatever the headers say"
    ARRAYS_FLIPPED_Y = "voxel by voxel after a flip of the second axis"
    BOX = "it covers a box of the image's grid, where its own affine says; nothing is drawn outside"


@dataclass(frozen=True)
class SourceLabel:
    """What one label id of a source means.

    Attributes:
        classes: The class it is drawn for; several where the annotator did not tell them apart.
        inside: The class of a tumor or cyst, where the id marks one inside that organ; an organ can have several such ids.
    """

    classes: tuple[str, ...]
    inside: str | None = None


@dataclass(frozen=True)
class CaseAnnotator:
    """One of several annotators of a case.

    Attributes:
        name: What he or she is called: a name that a folder can have.
        files: What makes up his or her label map, for `Source.read_labels`; empty where all that was looked for is absent.
        looked_for: The label ids that he or she looked for; None: all ids of the case's label table.
    """

    name: str
    files: tuple[Path, ...]
    looked_for: tuple[int, ...] | None = None


@dataclass(frozen=True)
class SourceCase:
    """One case of a source.

    Attributes:
        name: Its original number or name.
        image: A file, or the folder of a DICOM series.
        label_files: What makes up its label map, for `Source.read_labels`; empty where nobody annotated the case.
        looked_for: The label ids that were looked for in this case; None: all ids of the source's label table.
        labels: Its own label table, where the cases of a source were annotated in different ways; it holds what was looked for.
        annotators: Those who drew it, where the source has a label map of each.
        by_majority: Whether its label map is what most of the annotators say; it has no label files then.
    """

    name: str
    image: Path
    label_files: tuple[Path, ...] = ()
    looked_for: tuple[int, ...] | None = None
    labels: tuple[tuple[int, SourceLabel], ...] | None = None
    annotators: tuple[CaseAnnotator, ...] = ()
    by_majority: bool = False

    @property
    def files(self) -> tuple[Path, ...]:
        """Every original file but the image."""
        return (*self.label_files, *(file for annotator in self.annotators for file in annotator.files))


@dataclass
class Listing:
    """The cases of a source in numeric order.

    Attributes:
        cases: The annotated cases.
        unlabelled: Images that nobody annotated; left out unless the pool asks for them.
        skipped: What else was left out, and why.
        faults: What is wrong.
    """

    cases: list[SourceCase] = field(default_factory=list)
    unlabelled: list[SourceCase] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def read_one_label_file(files: tuple[Path, ...]) -> Volume:
    """The label map of a source that keeps each in one file."""
    (file,) = files
    return read_labels(file)


@dataclass(frozen=True)
class Source:
    """A public dataset the converter can read.

    Attributes:
        key: Its name in a pool file.
        layout: The files it expects below the path, for help and error messages.
        list_cases: Finds the cases below the path.
        labels: The label table; takes the path, because the Decathlon says its labels in a file.
        licence: The licence, as stated by whom.
        default_name: Name of the dataset in the short form of the command.
        channel_names: nnU-Net's channel names.
        read_labels: Reads the files that make up one label map; a function of a module or a frozen dataclass, because it
            travels to a worker. A volume without an affine lies on the image voxel by voxel (pictures know no place in the
            patient).
        id_of_file: The label id that a file of a label map is drawn for, where each id has a file of its own: files of classes
            that the pool does not have are then not read.
        label_grid: How label arrays lie on image arrays.
        axes: Where the axes of every image of this source run, where that is known; other headers are wrong and refused.
        scans: The collections its scans belong to, by the name of each as it was first published; two sources with one
            collection in common would put a scan into training and validation.
    """

    key: str
    layout: str
    list_cases: Callable[[Path], Listing]
    labels: Callable[[Path], dict[int, SourceLabel]]
    licence: Callable[[Path], str]
    default_name: Callable[[Path], str]
    channel_names: Callable[[Path], dict[str, str]] = lambda _: {"0": "CT"}
    read_labels: Callable[[tuple[Path, ...]], Volume] = read_one_label_file
    id_of_file: Callable[[Path], int] | None = None
    label_grid: LabelGrid = LabelGrid.HEADERS
    axes: str | None = None
    scans: Callable[[Path], frozenset[str]] = lambda _: frozenset()


def visible_files(root: Path, pattern: str) -> list[Path]:
    """Files below `root` that match a glob, without AppleDouble (`._x`), hidden and `_` files or folders (`__MACOSX`)."""
    return [
        path
        for path in sorted(root.glob(pattern))
        if not any(part.startswith((".", "_")) for part in path.relative_to(root).parts) and path.is_file()
    ]


def by_number(paths: Iterable[Path], pattern: str, listing: Listing) -> dict[int, Path]:
    """Those paths whose name matches, by the number in the pattern's group: string order pairs volume-10 with segmentation-2.

    A number that occurs twice is a fault of the listing.
    """
    return _by_group(paths, pattern, listing, int, "number {}")


def by_name(paths: Iterable[Path], pattern: str, listing: Listing) -> dict[str, Path]:
    """Those paths whose name matches, by what the pattern's group holds; one that occurs twice is a fault of the listing."""
    return _by_group(paths, pattern, listing, str, "case '{}'")


def _by_group(paths: Iterable[Path], pattern: str, listing: Listing, key_type: type, words: str) -> dict[Any, Path]:
    found: dict[Any, Path] = {}
    for path in paths:
        match = re.fullmatch(pattern, path.name)
        if match is None:
            continue
        key = key_type(match[1])
        if key in found:
            listing.faults.append(f"{words.format(key)} occurs twice: '{found[key]}' and '{path}'; keep one")
        found.setdefault(key, path)
    return found


def pair_folders(root: Path, pattern: str, name: Callable[..., str], listing: Listing) -> Listing:
    """Pair what lies in folders images* (imagesTr, imagesVal, ...) with what lies in folders labels*, by number."""
    files = visible_files(root, "**/*.nii.gz")
    images, labels = (
        by_number((file for file in files if file.parent.name.startswith(kind)), pattern, listing)
        for kind in ("images", "labels")
    )
    return pair(images, labels, name, listing, root=root)


def pair(images: Mapping, labels: Mapping, name: Callable[..., str], listing: Listing, *, root: Path) -> Listing:
    """Add the cases that have an image and a label, and the images without a label; a label without an image is skipped."""
    for key in sorted(set(images) | set(labels), key=lambda key: natural_key(str(key))):
        if key not in labels:
            listing.unlabelled.append(SourceCase(name(key), images[key]))
        elif key not in images:
            listing.skipped.append((str(labels[key].relative_to(root)), "no image belongs to it"))
        else:
            listing.cases.append(SourceCase(name(key), images[key], (labels[key],)))
    return listing


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key by which spleen_2 comes before spleen_10."""
    return [(0, int(part), part) if part.isdigit() else (1, 0, part) for part in re.findall(r"\d+|\D+", text)]
