"""Public, partly labelled datasets in; one nnU-Net dataset with a label manifest out.

The stages, in order: `pool` (what is pooled, checked) → one module a source, or a `source_file` and `own_data` (which files
belong together) → `label_plan` (source ids to our ids, and what that annotates) → `case` (one case: `volume`, `dicom`, `masks`,
`pictures`, `dicom_seg`, `sides`, `anatomy`, written by `nifti`) →
`work` (all cases, listed) → `convert` (runs them through `run_cases`, with a `journal` so that a killed run goes on;
dataset.json and manifest last).
"""

from nnunet_partial.dataset_conversion.convert import ConvertOptions, convert_pool
from nnunet_partial.dataset_conversion.listing import ConversionError
from nnunet_partial.dataset_conversion.pool import load_pool, single_source_pool
from nnunet_partial.dataset_conversion.pool_config import PoolConfig, SourceConfig
from nnunet_partial.dataset_conversion.sources import SOURCES
from nnunet_partial.dataset_conversion.work import describe_pool

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
