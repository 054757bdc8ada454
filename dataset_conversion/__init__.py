"""Public, partly labelled datasets in; one nnU-Net dataset with a label manifest out.

The stages, in order: `pool` (what is pooled, checked) → `sources/`, one module a source, or `own_data/` (which files belong
together) → `label_plan` (source ids to our ids, and what that annotates) → `work` (all cases, listed, each a `case_job`) → `case`
(one case: `case_labels`, by `image_files/`, `sides`, `anatomy`; the `majority` of several annotators) → `convert` (runs them
through `run_cases`, with a `journal` so that a killed run goes on; dataset.json and manifest last). `describe` says it before.

What is done with a converted dataset: `verify/` (is it sound?), `duplicates/` (is a scan in it twice?), `simulation/` (what if
labels were missing?). `preset` has the pools of published experiments.
"""

from nnunet_partial.dataset_conversion.convert import ConvertOptions, convert_pool
from nnunet_partial.dataset_conversion.describe import describe_pool
from nnunet_partial.dataset_conversion.listing import ConversionError
from nnunet_partial.dataset_conversion.pool import load_pool, single_source_pool
from nnunet_partial.dataset_conversion.pool_config import PoolConfig, SourceConfig
from nnunet_partial.dataset_conversion.sources import SOURCES

__all__ = [
    "SOURCES",
    "ConversionError",
    "ConvertOptions",
    "PoolConfig",
    "SourceConfig",
    "convert_pool",
    "describe_pool",
    "load_pool",
    "single_source_pool",
]
