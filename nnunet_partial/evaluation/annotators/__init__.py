"""Cases that several annotators drew: how far these agree, and how well a prediction matches all of them."""

from nnunet_partial.evaluation.annotators.energy import diversities, energy_distance
from nnunet_partial.evaluation.annotators.files import SUMMARY_NAME, write_agreement
from nnunet_partial.evaluation.annotators.folder import annotator_agreement, measure_agreement
from nnunet_partial.evaluation.annotators.levels import metrics_at_levels
from nnunet_partial.evaluation.annotators.overlap import Overlaps
from nnunet_partial.evaluation.annotators.report_text import agreement_text
from nnunet_partial.evaluation.annotators.tasks import find_agreement_tasks
from nnunet_partial.evaluation.annotators.variance import variance

__all__ = [
    "SUMMARY_NAME",
    "Overlaps",
    "agreement_text",
    "annotator_agreement",
    "diversities",
    "energy_distance",
    "find_agreement_tasks",
    "measure_agreement",
    "metrics_at_levels",
    "variance",
    "write_agreement",
]
