"""The part of the manifest that training needs, as it stands under dataset.json["annotation"]."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, ValidationError, model_serializer

from nnunet_partial.labels.errors import LabelError
from nnunet_partial.labels.protocol import AnnotationProtocol
from nnunet_partial.labels.space import LabelSpace, near_miss

ANNOTATION_KEY = "annotation"


class CaseAnnotation(BaseModel):
    """How one case was annotated, and which dataset it came from.

    Attributes:
        protocol: Name of its annotation protocol.
        source: Name of the dataset it came from.
        scan: Name shared by the cases that show the same scan; empty, and not written, where no other case does.
        annotators: Annotator -> protocol of the label map that he or she drew, in `annotators/<annotator>/` beside labelsTr;
            empty, and not written, where one label map is all there is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: str
    source: str
    scan: str = ""
    annotators: dict[str, str] = {}

    @model_serializer(mode="wrap")
    def _leave_out_empty(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in written(self).items() if key not in ("scan", "annotators") or value}


class Annotation(BaseModel):
    """Label space, protocols, and the protocol and source of every case.

    Attributes:
        space: The classes and their label ids, from dataset.json["labels"].
        protocols: The annotation protocols by name.
        cases: Case identifier -> protocol and source.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    space: LabelSpace
    protocols: dict[str, AnnotationProtocol]
    cases: dict[str, CaseAnnotation]

    @classmethod
    def from_dataset_json(cls, dataset_json: dict[str, Any]) -> "Annotation":
        """Read and check the annotation of a dataset.

        Raises:
            LabelError: the block is missing, or anything in it contradicts itself or dataset.json; all faults are listed.
        """
        if ANNOTATION_KEY not in dataset_json:
            raise LabelError(
                "dataset.json has no 'annotation' block, so nobody can tell what is unannotated from what is absent; "
                "make the dataset with `nnunet_partial convert`"
            )
        try:
            space = LabelSpace.from_nnunet_labels(dataset_json["labels"])
            annotation = cls(space=space, **{key: dataset_json[ANNOTATION_KEY].get(key, {}) for key in ("protocols", "cases")})
        except ValidationError as error:
            raise LabelError(validation_faults(error), where="dataset.json['annotation']") from None
        except ValueError as error:
            raise LabelError(str(error), where="dataset.json") from None
        faults = [
            f"protocol '{name}': {fault}" for name, protocol in annotation.protocols.items() for fault in protocol.faults(space)
        ]
        faults += [
            f"case '{identifier}': protocol '{name}' does not exist{near_miss(name, annotation.protocols)}"
            for identifier, case in annotation.cases.items()
            for name in (case.protocol, *case.annotators.values())
            if name not in annotation.protocols
        ]
        if faults:
            raise LabelError(faults, where="dataset.json['annotation']")
        return annotation

    def as_json(self) -> dict[str, Any]:
        """The block that is written under dataset.json["annotation"]; the label space stays in dataset.json["labels"]."""
        return self.model_dump(mode="json", exclude={"space"})

    def protocol_of(self, identifier: str) -> AnnotationProtocol:
        """The protocol of a case; an unknown identifier raises KeyError with a sentence."""
        if identifier not in self.cases:
            raise KeyError(f"case '{identifier}' is not in dataset.json['annotation']; convert the dataset again")
        return self.protocols[self.cases[identifier].protocol]

    def annotated_cases(self, class_name: str, identifiers: Iterable[str]) -> list[str]:
        """Those of the given cases in which somebody looked for this class."""
        return [key for key in identifiers if class_name in self.protocol_of(key).annotated_classes]

    def is_fully_annotated(self, identifier: str) -> bool:
        """Whether every class was looked for in this case, each under an id of its own."""
        protocol = self.protocol_of(identifier)
        return protocol.annotated_classes == set(self.space.classes) and all(
            len(classes) == 1 for classes in protocol.labels.values()
        )

    @property
    def num_label_ids(self) -> int:
        """L: one more than the largest label id of any protocol."""
        return max((protocol.num_label_ids(self.space) for protocol in self.protocols.values()), default=self.space.num_classes)


def validation_faults(error: ValidationError) -> list[str]:
    """Every fault of a pydantic error as 'where: what'."""
    return [
        f"{'.'.join(map(str, fault['loc'])) or 'the file'}: {fault['msg'].removeprefix('Value error, ')}"
        for fault in error.errors()
    ]
