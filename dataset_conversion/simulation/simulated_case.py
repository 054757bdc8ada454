"""The files of one simulated case: links to the source's, and label maps with fewer organs or by simulated annotators."""

import nibabel as nib
import numpy as np

from nnunet_partial.dataset_conversion.case import link_file
from nnunet_partial.dataset_conversion.image_files.nifti import write_labels
from nnunet_partial.dataset_conversion.image_files.volume import Volume, read_labels
from nnunet_partial.dataset_conversion.majority import majority_labels
from nnunet_partial.dataset_conversion.simulation.annotators import draw_label_maps
from nnunet_partial.dataset_conversion.simulation.folder import SimulationFolder
from nnunet_partial.dataset_conversion.simulation.plan import SimulatedCase, group_name
from nnunet_partial.labels import LabelSpace, count_labels, remap_labels


def write_case(place: SimulationFolder, identifier: str) -> dict[int, int]:
    """Write every file of a case; returns the voxels of each label in its training labels, nothing for a held-out case.

    Raises:
        One of UNREADABLE, with a sentence that lacks only the case.
    """
    for path, original in place.links_of(identifier).items():
        link_file(original, path, copy=False)
    case = next((case for case in place.plan.cases if case.identifier == identifier), None)
    if place.plan.annotators:
        return _write_drawn(place, identifier)
    return _write_fewer(place, case) if case else {}


def _write_fewer(place: SimulationFolder, case: SimulatedCase) -> dict[int, int]:
    """The label map without what was dropped."""
    original, path = place.source.label_file(case.identifier), place.label_of(case.identifier)
    if case.is_unchanged:
        link_file(original, path, copy=False)
        return place.source.cases[case.identifier].label_counts
    labels, header = _read(place, case.identifier, case.mapping)
    write_labels(labels.array, header, path)
    return count_labels(labels.array)


def _write_drawn(place: SimulationFolder, identifier: str) -> dict[int, int]:
    """The label map of each annotator, and what most of them say unless the case is held out."""
    protocol, ignored = place.source.protocol_of(identifier), _ignored(place)
    truth, header = _read(place, identifier, {number: number for number in protocol.labels})
    spacing_mm = np.linalg.norm(truth.affine[:3, :3], axis=0)
    organs = {number: group_name(classes) for number, classes in protocol.labels.items()}
    drawn = draw_label_maps(truth.array, spacing_mm, organs, identifier, place.plan.annotators)
    maps = {place.drawn_of(identifier)[name]: labels for name, labels in drawn.items()}
    if identifier not in place.plan.held_out:
        maps[place.label_of(identifier)] = majority_labels(list(drawn.values()), [protocol] * len(drawn))
    for path, labels in maps.items():
        if ignored is not None:
            labels[truth.array == ignored] = ignored
        write_labels(labels, header, path)
    return {} if identifier in place.plan.held_out else count_labels(maps[place.label_of(identifier)])


def _read(place: SimulationFolder, identifier: str, mapping: dict[int, int]) -> tuple[Volume, nib.Nifti1Header]:
    """The source's label map with other ids, and its header; the ignore label stays."""
    file, ignored = place.source.label_file(identifier), _ignored(place)
    header = nib.load(file).header
    if type(header) is not nib.Nifti1Header:
        raise ValueError(f"'{file.name}' is {type(header).__name__}, expected one NIfTI-1 file; write it again as such")
    volume = read_labels(file)
    labels = remap_labels(volume.array, mapping | ({ignored: ignored} if ignored else {}))
    return Volume(labels, volume.affine), header


def _ignored(place: SimulationFolder) -> int | None:
    return LabelSpace.from_nnunet_labels(place.source.dataset_json["labels"]).ignore_id
