"""What every figure about several annotators means, as it stands in the files and in docs/evaluation.md."""

NESTED = ("levels", "by_annotator", "pairs")  # what a row of a case and class holds beside its figures
_LEVELS = "mean over the confidence levels 10 %, 20 %, ... 90 % of"
_CUT = "{p >= level} against {share of votes >= level}"
DEFINITIONS = {
    "annotators": "annotators who looked for the class in this case, under an id of its own; the others are left out",
    "drawn_by": "those among them who drew any voxel of it",
    "volume_ml": "volume that was drawn in ml, mean over the annotators",
    "Dice_pairs": "Dice, mean over pairs of different annotators; two empty masks have 1",
    "diversity_pairs": "IoU distance (1 - IoU; two empty masks 0), mean over pairs of different annotators (the paper's table 3)",
    "diversity_draws": "IoU distance of two independent draws from the annotators, which may be the same one (eq. 2)",
    "disagreement": "share of the voxels drawn by anybody that not all annotators drew",
    "Dice_to_others": "Dice of an annotator with each other annotator, mean",
    "IoU_distance_to_others": "IoU distance of an annotator from each other annotator, mean",
    "IoU_distance_among_others": "IoU distance over the pairs of the other annotators, mean",
    "volume_pred_ml": "volume in ml where p >= 50 %",
    "IoU_distance": "IoU distance between {p >= 50 %} and what an annotator drew, mean over the annotators",
    "GED2_pairs": "squared generalized energy distance, 2 IoU_distance - diversity_pairs (the paper's table 3)",
    "GED2_draws": "squared generalized energy distance, 2 IoU_distance - diversity_draws (eq. 3 over independent draws)",
    "Dice_expected": "Dice between {p >= 50 %} and what an annotator drew, mean over the annotators",
    "Dice_to_prediction": "Dice between {p >= 50 %} and what an annotator drew",
    "IoU_distance_to_prediction": "IoU distance between {p >= 50 %} and what an annotator drew",
    "Dice_over_levels": f"{_LEVELS} the Dice of {_CUT} (the paper's table 2)",
    "Precision_over_levels": f"{_LEVELS} the precision of {_CUT}",
    "Recall_over_levels": f"{_LEVELS} the recall of {_CUT}",
    "HD95_over_levels_mm": f"{_LEVELS} the HD95 in mm of {_CUT}; surfaces as in `evaluate`",
    "Dice": f"Dice of {_CUT}",
    "Precision": f"precision of {_CUT}",
    "Recall": f"recall of {_CUT}",
    "HD95_mm": f"HD95 in mm of {_CUT}; surfaces as in `evaluate`",
    "n_ref": "voxels where the share of votes reaches the level",
    "n_pred": "voxels where the probability reaches the level",
    "ECE": "15 bins of equal width: mean over voxels of the gap between share of votes and mean probability, by bin",
    "Brier": "mean of (probability - share of votes)^2",
}
POLICY = (
    "A class is judged by the annotators who looked for it under an id of its own; one who did not look is no vote against it. "
    "A union that an annotator drew under one id is judged apart, by all who looked for all of its classes and for nothing else "
    "under those ids; its probability is the sum of its classes'. Voxels that any of these annotators marked with the ignore "
    "label are left out. NaN enters no mean. Two empty masks have Dice 1 and IoU distance 0 (as in the paper); at a confidence "
    "level they have NaN, and so has all that `evaluate` has no value for."
)


def definitions_of(*names: str) -> dict[str, str]:
    """The definitions of some figures."""
    return {name: DEFINITIONS[name] for name in names if name in DEFINITIONS}
