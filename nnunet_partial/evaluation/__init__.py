"""Metrics on annotated classes, in nnU-Net's own summary.json shape; comparison of runs; calibration."""

from nnunet_partial.evaluation.calibration import CalibrationCounts, calibration_metrics, ranking_metrics
from nnunet_partial.evaluation.case import METRIC_NAMES, ClassKey, evaluate_case, judged_keys
from nnunet_partial.evaluation.comparison import Comparison, Difference, compare_runs
from nnunet_partial.evaluation.comparison_tables import latex_table, markdown_table
from nnunet_partial.evaluation.crossval import merge_crossval
from nnunet_partial.evaluation.definitions import DEFINITIONS, EMPTY_POLICY, POLICY
from nnunet_partial.evaluation.folder import class_name, evaluate_folder, evaluate_tasks, judge_part
from nnunet_partial.evaluation.label_maps import LabelMap, geometry_faults, read_label_map
from nnunet_partial.evaluation.reliability import draw_reliability
from nnunet_partial.evaluation.report_text import report_json, report_text
from nnunet_partial.evaluation.runs import Run, name_classes, read_run
from nnunet_partial.evaluation.summary import dice_table, metric_rows, write_csv, write_parquet, write_summary
from nnunet_partial.evaluation.surfaces import SURFACE_NAMES, surface_distances, surface_metrics
from nnunet_partial.evaluation.tasks import find_tasks
from nnunet_partial.evaluation.tolerance import Tolerances
from nnunet_partial.evaluation.unannotated import unannotated_predictions
from nnunet_partial.evaluation.volumes import VOLUME_NAMES, volume_metrics

__all__ = [
    "DEFINITIONS",
    "EMPTY_POLICY",
    "METRIC_NAMES",
    "POLICY",
    "SURFACE_NAMES",
    "VOLUME_NAMES",
    "CalibrationCounts",
    "ClassKey",
    "Comparison",
    "Difference",
    "LabelMap",
    "Run",
    "Tolerances",
    "calibration_metrics",
    "class_name",
    "compare_runs",
    "dice_table",
    "draw_reliability",
    "evaluate_case",
    "evaluate_folder",
    "evaluate_tasks",
    "find_tasks",
    "geometry_faults",
    "judge_part",
    "judged_keys",
    "latex_table",
    "markdown_table",
    "merge_crossval",
    "metric_rows",
    "name_classes",
    "ranking_metrics",
    "read_label_map",
    "read_run",
    "report_json",
    "report_text",
    "surface_distances",
    "surface_metrics",
    "unannotated_predictions",
    "volume_metrics",
    "write_csv",
    "write_parquet",
    "write_summary",
]
