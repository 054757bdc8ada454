"""A picture of every predicted case, before anybody judges it."""

import json
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from nnunet_partial.labels import LabelSpace, replacing
from nnunet_partial.report.overlays import draw_preview
from nnunet_partial.report.reproduce import predicted_images
from nnunet_partial.report.slices import read_shown_case


def write_previews(predictions: Path, output: Path, *, images: Path | None = None, progress: bool = False) -> list[Path]:
    """Write <identifier>.png for every prediction: axial, coronal and sagittal slice with the classes found.

    Args:
        predictions: What `nnUNetv2_predict` wrote, its dataset.json included.
        output: The folder of the pictures.
        images: The folder of the images; by default the one nnU-Net noted when it predicted.
        progress: Show a progress bar.

    Raises:
        FileNotFoundError: no dataset.json, no predictions, or images that are not there; all are listed.
        ValueError: a file that cannot be read, or does not fit its image.
    """
    description = predictions / "dataset.json"
    if not description.is_file():
        raise FileNotFoundError(f"{predictions} has no dataset.json; name a folder that nnUNetv2_predict wrote")
    dataset_json = json.loads(description.read_text(encoding="utf-8"))
    ending = dataset_json["file_ending"]
    files = sorted(file for file in predictions.glob(f"*{ending}") if not file.name.startswith("."))
    if not files:
        raise FileNotFoundError(f"no predictions *{ending} in {predictions}")
    images = images or predicted_images(predictions)
    if images is None:
        raise FileNotFoundError(f"{predictions} does not say which images it was made from; name their folder with --images")
    image_of = {file: images / f"{file.name.removesuffix(ending)}_0000{ending}" for file in files}
    missing = [str(image) for image in image_of.values() if not image.is_file()]
    if missing:
        raise FileNotFoundError(f"{len(missing)} images are not there (name their folder with --images): {', '.join(missing)}")
    names = dict(enumerate(LabelSpace.from_nnunet_labels(dataset_json["labels"]).classes, 1))
    is_ct = next(iter(dataset_json["channel_names"].values())).upper() == "CT"
    output.mkdir(parents=True, exist_ok=True)
    return [_write(file, image_of[file], output, names, is_ct, ending) for file in _watched(files, progress)]


def _write(file: Path, image: Path, output: Path, names: dict[int, str], is_ct: bool, ending: str) -> Path:
    identifier = file.name.removesuffix(ending)
    picture = draw_preview(read_shown_case(image, file, is_ct=is_ct), names, identifier)
    target = output / f"{identifier}.png"
    with replacing(target) as temporary:
        temporary.write_bytes(picture)
    return target


def _watched(files: list[Path], progress: bool) -> Iterable[Path]:
    return tqdm(files, desc="drawing", unit="case", disable=not progress)
