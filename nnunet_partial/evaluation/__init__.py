"""Metrics on annotated classes, in nnU-Net's own summary.json shape."""

from nnunet_partial.evaluation.case import METRIC_NAMES, ClassKey, evaluate_case, judged_keys
from nnunet_partial.evaluation.crossval import merge_crossval
from nnunet_partial.evaluation.folder import evaluate_folder
from nnunet_partial.evaluation.label_maps import LabelMap, geometry_faults, read_label_map
from nnunet_partial.evaluation.summary import class_name, dice_table, metric_rows, write_summary

__all__ = [
    "METRIC_NAMES",
    "ClassKey",
    "LabelMap",
    "class_name",
    "dice_table",
    "evaluate_case",
    "evaluate_folder",
    "geometry_faults",
    "judged_keys",
    "merge_crossval",
    "metric_rows",
    "read_label_map",
    "write_summary",
]
