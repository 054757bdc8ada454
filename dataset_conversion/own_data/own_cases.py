"""The cases of the user's own data: which files are there, whose labels they are, and what was looked for."""

import re
from pathlib import Path

from nnunet_partial.dataset_conversion.image_files.volume import VOLUME_ENDINGS
from nnunet_partial.dataset_conversion.listing import CaseAnnotator, Listing, SourceCase, natural_key
from nnunet_partial.dataset_conversion.own_data.case_pattern import CasePattern
from nnunet_partial.dataset_conversion.own_data.source_file import LabelFiles, SourceFile

_SHOWN = 5


def list_cases(file: SourceFile, root: Path) -> Listing:
    """The cases that have an image, in natural order; a label without an image, and a name that fits twice, are faults."""
    listing = Listing()
    images = _found_images(file, root, listing)
    labels = {who: _found_labels(file, who, root, listing) for who in file.drawn}
    with_label = {case for kinds in labels.values() for files in kinds.values() for case in files}
    without_image = sorted(with_label - set(images), key=natural_key)
    listing.faults += [f"case '{case}' has a label but no image ('{file.images}')" for case in without_image]
    used: dict[Path, str] = {}
    for who, kinds in labels.items():
        for name, files in kinds.items():
            what = f"annotators.{who}.{name}" if who else name
            listing.faults += [f"'{path}' is both {used[path]} and {what}" for path in files.values() if path in used]
            used.update(dict.fromkeys(files.values(), what))
    for case, image in images.items():
        here = {who: {name: files[case] for name, files in kinds.items() if case in files} for who, kinds in labels.items()}
        _add_case(file, case, image, {who: files for who, files in here.items() if files}, listing)
    return listing


def _add_case(file: SourceFile, case: str, image: Path, drawn: dict[str, dict[str, Path]], listing: Listing) -> None:
    """One case, by what each drew of it; an annotator without a file did not see the case."""
    identifier = re.sub(r"[^A-Za-z0-9_.\-]+", "_", case)
    annotators = tuple(
        CaseAnnotator(who, tuple(files.values()), _looked_for(file, file.annotators[who], files))
        for who, files in drawn.items()
        if who
    )
    if "" in drawn:
        looked_for = _looked_for(file, file, drawn[""])
        listing.cases.append(SourceCase(identifier, image, tuple(drawn[""].values()), looked_for, annotators=annotators))
    elif not annotators:
        listing.unlabelled.append(SourceCase(identifier, image))
    elif "" in file.drawn:
        said = ", ".join(who.name for who in annotators)
        listing.faults.append(
            f"case '{case}' was drawn by {said}, but has no label of its own, as other cases have; add it, or leave label_maps "
            "and masks out at the top, so that all cases get what most of their annotators say"
        )
    else:
        listing.cases.append(SourceCase(identifier, image, annotators=annotators, by_majority=True))


def _looked_for(file: SourceFile, files: LabelFiles, present: dict[str, Path]) -> tuple[int, ...]:
    looked_for = file.looked_for(files)
    if not files.masks or file.missing_mask == "absent":
        return looked_for
    return tuple(number for number in looked_for if number in {file.ids[name] for name in present})


def _found_images(file: SourceFile, root: Path, listing: Listing) -> dict[str, Path]:
    found = _found_once(CasePattern(file.images), root, listing, "images")
    images = {case: path for case, path in found.items() if path.is_dir() or path.name.endswith(VOLUME_ENDINGS)}
    odd = [path.relative_to(root).as_posix() for case, path in found.items() if case not in images]
    listing.skipped += [(name, f"no image: neither a folder nor a file in {', '.join(VOLUME_ENDINGS)}") for name in odd]
    return images


def _found_labels(file: SourceFile, who: str, root: Path, listing: Listing) -> dict[str, dict[str, Path]]:
    """What one hand drew: name of a mask, or label_maps -> case -> file, in the order of painting."""
    files = file.drawn[who]
    kinds = [(name, pattern) for name, pattern, _ in file.to_paint(files)] or [("label_maps", CasePattern(files.label_maps))]
    where = f"annotators.{who}." if who else ""
    return {name: _found_once(pattern, root, listing, f"{where}{name}") for name, pattern in kinds}


def _found_once(pattern: CasePattern, root: Path, listing: Listing, what: str) -> dict[str, Path]:
    """The one path of each case, in natural order."""
    found = pattern.find(root)
    for case, paths in found.items():
        if len(paths) > 1:
            names = ", ".join(path.relative_to(root).as_posix() for path in paths[:_SHOWN])
            listing.faults.append(f"{what}: '{pattern.text}' fits {len(paths)} paths of case '{case}' ({names}); keep one")
    return {case: found[case][0] for case in sorted(found, key=natural_key)}
