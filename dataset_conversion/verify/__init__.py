"""Is a converted dataset fit to be trained on? What is wrong with it, and who annotated what in how many cases.

The stages: `dataset_check` (files, dataset.json and manifest against each other) → `case_check` (one case: `grid_check`,
`intensity_check`, `label_check`, and the anatomy) with `cache`, so that a second run is cheap → `report` and `coverage`.
"""

from nnunet_partial.dataset_conversion.verify.coverage import Coverage, coverage_rows, coverage_table
from nnunet_partial.dataset_conversion.verify.coverage_picture import draw_coverage
from nnunet_partial.dataset_conversion.verify.finding import FAULT, REMARK, Finding
from nnunet_partial.dataset_conversion.verify.report import Report, finding_rows, report_json, report_text
from nnunet_partial.dataset_conversion.verify.run import verify_dataset

__all__ = [
    "FAULT",
    "REMARK",
    "Coverage",
    "Finding",
    "Report",
    "coverage_rows",
    "coverage_table",
    "draw_coverage",
    "finding_rows",
    "report_json",
    "report_text",
    "verify_dataset",
]
