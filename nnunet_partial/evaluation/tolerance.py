"""Up to which distance a surface counts as found, by class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nnunet_partial.evaluation.case import ClassKey
from nnunet_partial.evaluation.surfaces import DEFAULT_TOLERANCE_MM
from nnunet_partial.labels import LabelSpace


@dataclass(frozen=True)
class Tolerances:
    """Tolerances of NSD in mm.

    Attributes:
        default_mm: For classes that are not named.
        by_class_mm: For named classes; a union may be named kidney_left+kidney_right, else it takes the largest of its classes.
    """

    default_mm: float = DEFAULT_TOLERANCE_MM
    by_class_mm: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for value in (self.default_mm, *self.by_class_mm.values()):
            if not 0 <= value < float("inf"):
                raise ValueError(f"a tolerance is a length of 0 mm or more, not {value}")

    @classmethod
    def parse(cls, texts: Sequence[str]) -> "Tolerances":
        """Tolerances from words such as '2' (for all classes) and 'pancreas=5'.

        Raises:
            ValueError: no length, or two of them for all classes.
        """
        by_class_mm, default_mm = {}, []
        for text in texts:
            name, _, value = text.rpartition("=")
            try:
                length_mm = float(value)
            except ValueError:
                raise ValueError(f"tolerance '{text}': a length in mm, or CLASS=MM, is expected") from None
            if name:
                by_class_mm[name] = length_mm
            else:
                default_mm.append(length_mm)
        if len(default_mm) > 1:
            raise ValueError(f"{len(default_mm)} tolerances for all classes: {', '.join(texts)}; give one")
        return cls(*default_mm, by_class_mm=by_class_mm)

    def of(self, key: ClassKey, space: LabelSpace) -> float:
        """The tolerance of a class or a union in mm."""
        names = [space.classes[number - 1] for number in (key if isinstance(key, tuple) else (key,))]
        of_sets = {frozenset(name.split("+")): value for name, value in self.by_class_mm.items()}  # in whatever order
        return of_sets.get(frozenset(names), max(self.by_class_mm.get(name, self.default_mm) for name in names))

    def check(self, space: LabelSpace) -> None:
        """Raise ValueError for a name that is not a class of the label space."""
        for named in self.by_class_mm:
            for name in named.split("+"):
                if name not in space.classes:
                    raise ValueError(f"tolerance of '{named}': {space.unknown(name)}")

    def __str__(self) -> str:
        named = [f"{name} {value:g} mm" for name, value in sorted(self.by_class_mm.items())]
        return ", ".join([f"{self.default_mm:g} mm", *named])
