"""A small hospital with a source file, as label maps or as masks."""

from pathlib import Path

from native_sources import abdomen, drawn, save, write_pool

from nnunet_partial.dataset_conversion import ConvertOptions, convert_pool
from nnunet_partial.dataset_conversion.label_plan import own_classes
from nnunet_partial.dataset_conversion.own_data.own_source import own_source

POOL = ["liver", "spleen", "kidney_left", "kidney_right"]
LABEL_MAPS = """
images: "{case}/ct.nii.gz"
label_maps: "{case}/labels.nii.gz"
labels: {1: liver, 2: [kidney_left, kidney_right]}
"""
MASKS = """
name: Munich
licence: ours
images: "{case}/ct.nii.gz"
masks: {liver: "{case}/masks/liver.nii.gz", milz: "{case}/masks/spleen.nii.gz"}
labels: {milz: spleen}
"""


def write_hospital(root: Path, cases=("p2", "p10"), text: str = LABEL_MAPS) -> Path:
    for number, case in enumerate(cases):
        save(abdomen(number), root / case / "ct.nii.gz", "LPS")
        save(drawn({"liver": 1, "kidney_left": 2, "kidney_right": 2}), root / case / "labels.nii.gz", "LPS")
        for organ in ("liver", "spleen"):
            save(drawn({organ: 1}), root / case / f"masks/{organ}.nii.gz", "LPS")
    (root / "hospital.yaml").write_text(text)
    return root


def convert(root: Path, classes=None, num_processes: int = 1, **entries) -> Path:
    """A pool of this source alone, by default of its own classes."""
    classes = classes or own_classes(own_source(root / "hospital.yaml", root).labels(root))
    pool = write_pool(root.parent / "pool.yaml", [{"source": f"{root.name}/hospital.yaml", **entries}], classes=classes)
    return convert_pool(pool, root.parent / "raw", ConvertOptions(num_processes, progress=False))
