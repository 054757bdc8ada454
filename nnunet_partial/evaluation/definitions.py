"""What every metric means, as it stands in summary.json, in the header of each table and in docs/evaluation.md."""

from collections.abc import Iterable

POLICY = (
    "Only classes that were looked for in a case are judged there; NaN elsewhere, and NaN never enters a mean. "
    "Classes that share a label id are judged together, under the ids of all of them. Voxels with the ignore label are left out. "
    "Dice and IoU of a class that neither reference nor prediction shows are NaN. foreground_mean is the mean over the classes "
    "that have a value; a union enters it only where none of its classes has a value of its own."
)
EMPTY_POLICY = {
    "neither reference nor prediction shows it": "counts, volumes and volume_error_ml are 0, everything else is NaN",
    "only the reference shows it": "Dice, IoU, Recall and NSD are 0, relative_volume_error -1; Precision and distances are NaN",
    "only the prediction shows it": "Dice, IoU, Precision and NSD are 0; Recall, relative_volume_error and distances are NaN",
    "nobody looked for it": "everything is NaN; what is predicted of it is no error and is listed under unannotated_predictions",
}
_SURFACE = "surface elements where 2x2x2 voxels differ, weighted by area (surface-distance)"
DEFINITIONS = {
    "Dice": "2 TP / (2 TP + FP + FN)",
    "IoU": "TP / (TP + FP + FN), the Jaccard index",
    "FP": "voxels predicted and not in the reference",
    "TP": "voxels in both",
    "FN": "voxels in the reference and not predicted",
    "TN": "voxels in neither, the ignore label left out",
    "n_pred": "voxels predicted",
    "n_ref": "voxels of the reference",
    "Precision": "TP / (TP + FP)",
    "Recall": "TP / (TP + FN)",
    "volume_ref_ml": "volume of the reference in ml",
    "volume_pred_ml": "volume of the prediction in ml",
    "volume_error_ml": "predicted minus reference volume in ml",
    "relative_volume_error": "predicted minus reference volume, over the reference volume",
    "HD_mm": f"largest distance in mm from either surface to the other; {_SURFACE}",
    "HD95_mm": f"larger of the two directed 95th percentiles of distance in mm; {_SURFACE}",
    "ASSD_mm": f"mean distance in mm over the elements of both surfaces together; {_SURFACE}",
    "NSD": f"share of both surfaces within the tolerance (in mm, closed, relative slack 1e-6) of the other; {_SURFACE}",
}


def definitions_of(names: Iterable[str], tolerances_mm: str = "") -> dict[str, str]:
    """The definitions of some metrics; that of NSD says which tolerances were used."""
    found = {name: DEFINITIONS[name] for name in names if name in DEFINITIONS}
    if "NSD" in found and tolerances_mm:
        found["NSD"] += f"; tolerance {tolerances_mm}"
    return found
