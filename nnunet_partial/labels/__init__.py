"""What each label id means and what was looked for: label space, annotation protocols, manifest, remapping."""

from nnunet_partial.labels.annotation import ANNOTATION_KEY, Annotation, CaseAnnotation
from nnunet_partial.labels.errors import LabelError, first_of
from nnunet_partial.labels.files import replacing, write_json, write_text
from nnunet_partial.labels.manifest import (
    MANIFEST_NAME,
    CaseRecord,
    DatasetRecord,
    LabelManifest,
    SkippedRecord,
    SourceRecord,
    manifest_json_schema,
    read_manifest,
    write_manifest,
)
from nnunet_partial.labels.protocol import AnnotationProtocol
from nnunet_partial.labels.remap import count_labels, remap_labels
from nnunet_partial.labels.space import LabelSpace

__all__ = [
    "ANNOTATION_KEY",
    "MANIFEST_NAME",
    "Annotation",
    "AnnotationProtocol",
    "CaseAnnotation",
    "CaseRecord",
    "DatasetRecord",
    "LabelError",
    "LabelManifest",
    "LabelSpace",
    "SkippedRecord",
    "SourceRecord",
    "count_labels",
    "first_of",
    "manifest_json_schema",
    "read_manifest",
    "remap_labels",
    "replacing",
    "write_json",
    "write_manifest",
    "write_text",
]
