"""Datasets with missing labels out of annotated ones, for experiments whose truth is known.

The stages, in order: `annotated_dataset` (what is there, checked) → `draw` and `mix` (who keeps what), `annotators` (who draws
how) → `plan` (the new dataset, in names) → `folder` (where it goes, and what of it is finished) → `simulated_case`
(links and label maps) → here: all cases, manifest.
Images and references are links to the source's files; a dropped organ's voxels become 0, and its class is unannotated there.
"""

import errno
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nnunet_partial import __version__
from nnunet_partial.dataset_conversion.case import UNREADABLE
from nnunet_partial.dataset_conversion.listing import ConversionError
from nnunet_partial.dataset_conversion.simulation.annotated_dataset import AnnotatedDataset
from nnunet_partial.dataset_conversion.simulation.folder import (
    FINAL_FILES,
    SIMULATION_NAME,
    SIMULATION_VERSION,
    SimulationFolder,
    write_guard,
)
from nnunet_partial.dataset_conversion.simulation.plan import SimulatedCase, SimulationPlan, group_name
from nnunet_partial.dataset_conversion.simulation.simulated_case import write_case
from nnunet_partial.labels import (
    ANNOTATION_KEY,
    MANIFEST_NAME,
    CaseRecord,
    LabelManifest,
    write_json,
    write_manifest,
)
from nnunet_partial.labels.manifest import AnnotatorRecord

_KEPT_KEYS = ("channel_names", "labels", "file_ending", "overwrite_image_reader_writer", "licence", "license", "reference")


def write_simulations(
    source: AnnotatedDataset,
    plans: Sequence[SimulationPlan],
    output_root: Path,
    *,
    num_processes: int = 1,
    progress: bool = True,
) -> list[Path]:
    """Write simulated datasets; a killed run goes on where it stopped, and what is finished stays untouched.

    Args:
        source: The dataset they are made from.
        plans: What each of them is to hold.
        output_root: The nnUNet_raw folder.
        num_processes: Cases worked on at the same time.
        progress: Whether to show a progress bar.

    Returns:
        The datasets' folders.

    Raises:
        ConversionError: folders that are not ours or were made with other arguments (nothing is written then), or label maps
            that cannot be read; all are listed. A faulty dataset has no dataset.json. A full disk stops the run at once.
    """
    places = [SimulationFolder(Path(output_root).absolute() / plan.dataset.folder_name, source, plan) for plan in plans]
    write_guard(places)
    for place in places:
        _write(place, num_processes, progress)
    return [place.folder for place in places]


def describe_simulations(source: AnnotatedDataset, plans: Sequence[SimulationPlan]) -> str:
    """In how many training cases each class stays annotated, dataset by dataset, and what was done so that all can be learnt."""
    rows = [["annotated in", *(str(plan.dataset.id) for plan in plans)]]
    numbers = [_class_numbers(source, plan) for plan in plans]
    rows += [[name, *(_kept_in_words(found[name]) for found in numbers)] for name in source.manifest.classes]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    for plan in plans:
        lines.append(f"{plan.dataset.id}: {len(plan.cases)} training cases, {len(plan.held_out)} held out")
        lines[-1] += f", {len(plan.unused)} unused" if plan.unused else ""
        lines += [f"{plan.dataset.id}: {_annotators_in_words(source, plan)}"] if plan.annotators else []
        lines += [f"{plan.dataset.id}: note: {note}" for note in plan.notes]
    return "\n".join(lines)


def _write(place: SimulationFolder, num_processes: int, progress: bool) -> None:
    place.begin()
    counts = {identifier: place.finished(identifier) for identifier in place.identifiers}
    todo = [identifier for identifier, found in counts.items() if found is None]
    if not todo and all((place.folder / name).is_file() for name in FINAL_FILES):
        return
    for name in reversed(FINAL_FILES):  # they are true of a finished dataset only
        (place.folder / name).unlink(missing_ok=True)
    with tqdm(_results(place, todo, num_processes), total=len(todo), desc="simulating", unit="case", disable=not progress) as bar:
        counts.update(bar)
    faults = [f"case '{identifier}': {result}" for identifier, result in counts.items() if isinstance(result, str)]
    if faults:
        raise ConversionError(faults, where=place.folder.name)
    manifest = _manifest(place, counts)
    write_json(_report(place), place.folder / SIMULATION_NAME)
    write_manifest(manifest, place.folder / MANIFEST_NAME)
    content = {key: place.source.dataset_json[key] for key in _KEPT_KEYS if key in place.source.dataset_json}
    content |= {"numTraining": len(place.plan.cases), ANNOTATION_KEY: manifest.annotation().as_json()}
    write_json(content, place.folder / "dataset.json")


def _results(place: SimulationFolder, todo: list[str], num_processes: int) -> Iterator[tuple[str, dict[int, int] | str]]:
    """Each case with what `_try_case` says of it; an error that stops the run leaves undone what was not begun."""
    with ThreadPoolExecutor(max(1, num_processes)) as pool:  # decompression and look-ups run beside each other in threads
        yield from zip(todo, pool.map(lambda identifier: _try_case(place, identifier), todo), strict=True)


def _try_case(place: SimulationFolder, identifier: str) -> dict[int, int] | str:
    """Write one case; the voxels of each label in its training labels, or the sentence that says what is wrong."""
    try:
        label_counts = write_case(place, identifier)
    except UNREADABLE as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ConversionError(f"no space left below '{place.folder}': free some and run again") from None
        return str(error)
    place.finish(identifier, label_counts)
    return label_counts


def _manifest(place: SimulationFolder, counts: dict[str, dict[int, int]]) -> LabelManifest:
    """The source's manifest with the new protocols; what was dropped is unannotated, so it is no longer known to be absent.

    Label maps of the source's annotators are left behind: they show what was dropped. What simulated annotators overlooked was
    looked for: where most of them did, it is absent.
    """
    source, plan = place.source, place.plan
    is_same_source = plan.sources == source.manifest.sources
    records = []
    for case in plan.cases:
        original, protocol = source.cases[case.identifier], plan.protocols[case.protocol]
        files = {} if is_same_source else {
            "image_files": tuple(path.relative_to(source.folder).as_posix() for path in source.images[case.identifier]),
            "label_files": (source.label_file(case.identifier).relative_to(source.folder).as_posix(),),
        }  # fmt: skip
        record = original.model_copy(update=files)
        drawn = [name for number, classes in protocol.labels.items() if number in counts[case.identifier] for name in classes]
        absent = set(original.absent) if plan.annotators is None else protocol.annotated_classes - set(drawn)
        records.append(
            CaseRecord(
                **record.model_dump(include={"identifier", "image_files", "label_files", "notes"}),
                source=case.source,
                protocol=case.protocol,
                label_counts=counts[case.identifier],
                annotators={
                    name: AnnotatorRecord(files=record.label_files, protocol=case.protocol)
                    for name in place.drawn_of(case.identifier)
                },
                absent=tuple(name for name in source.manifest.classes if name in absent & protocol.annotated_classes),
            )
        )
    return LabelManifest(
        dataset=plan.dataset,
        classes=source.manifest.classes,
        protocols=plan.protocols,
        sources=plan.sources,
        cases=tuple(records),
        skipped=source.manifest.skipped if is_same_source else (),
    )


def _report(place: SimulationFolder) -> dict[str, Any]:
    """simulation.json: the arguments, what was dropped from which case, and of partly annotated references how they were."""
    plan, manifest = place.plan, place.source.manifest
    full = {number: (name,) for number, name in enumerate(manifest.classes, 1)}
    is_full = all(place.source.protocol_of(identifier).labels == full for identifier in place.identifiers)
    return {
        "simulation": SIMULATION_VERSION,
        "nnunet_partial": __version__,
        "source_dataset": place.source.folder.name,
        **plan.arguments,
        "classes": _class_numbers(place.source, plan),
        "dropped": {case.identifier: _dropped(place.source, plan, case) for case in plan.cases},
        **({} if is_full else {"reference_annotation": manifest.annotation().as_json()}),
        **(_drawn_by_annotators(place) if plan.annotators else {}),
        "held_out": list(plan.held_out),
        "unused": list(plan.unused),
        "notes": list(plan.notes),
    }


def _dropped(source: AnnotatedDataset, plan: SimulationPlan, case: SimulatedCase) -> list[str]:
    before, after = source.protocol_of(case.identifier), plan.protocols[case.protocol]
    return [name for name in source.manifest.classes if name in before.annotated_classes - after.annotated_classes]


def _drawn_by_annotators(place: SimulationFolder) -> dict[str, Any]:
    """How much larger or smaller each annotator draws each organ, and which organs he or she overlooked in which case."""
    source, annotators = place.source, place.plan.annotators
    organs = {number: group_name(c) for name in place.identifiers for number, c in source.protocol_of(name).labels.items()}
    biases_mm = {organ: annotators.biases_mm(organ) for organ in organs.values()}
    return {
        "bias_mm": {name: {organ: round(biases_mm[organ][name], 3) for organ in biases_mm} for name in annotators.names},
        "missed": {case: _missed(source, place.plan, case) for case in place.identifiers},
    }


def _annotators_in_words(source: AnnotatedDataset, plan: SimulationPlan) -> str:
    annotators, cases = plan.annotators, [*(case.identifier for case in plan.cases), *plan.held_out]
    missed = sum(map(len, (names for case in cases for names in _missed(source, plan, case).values())))
    organs = sum(
        bool(source.cases[case].label_counts.get(number)) for case in cases for number in source.protocol_of(case).labels
    )
    return (
        f"{annotators.number} annotators, {annotators.shift_mm:g} mm from the true boundary on the average; "
        f"{missed} of {annotators.number * organs} organs overlooked"
    )


def _missed(source: AnnotatedDataset, plan: SimulationPlan, case: str) -> dict[str, list[str]]:
    """Annotator -> the organs of a case that he or she overlooked."""
    counts = source.cases[case].label_counts
    there = [group_name(classes) for number, classes in source.protocol_of(case).labels.items() if counts.get(number)]
    return {name: [organ for organ in there if plan.annotators.misses(name, organ, case)] for name in plan.annotators.names}


def _kept_in_words(numbers: dict[str, int]) -> str:
    absent = numbers["kept"] - numbers["present"]
    return f"{numbers['kept']} of {numbers['annotated']}" + (f" (absent in {absent})" if absent else "")


def _class_numbers(source: AnnotatedDataset, plan: SimulationPlan) -> dict[str, dict[str, int]]:
    """For each class, the training cases that had it annotated, those that keep it, and those of them that show it."""
    before, kept, present = Counter(), Counter(), Counter()
    for case in plan.cases:
        original = source.cases[case.identifier]
        before.update(source.protocol_of(case.identifier).annotated_classes)
        after = plan.protocols[case.protocol].annotated_classes
        kept.update(after)
        present.update(after - set(original.absent))
    return {name: {"annotated": before[name], "kept": kept[name], "present": present[name]} for name in source.manifest.classes}
