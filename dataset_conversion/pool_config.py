"""The entries of a pool file, as the user wrote them."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from nnunet_partial.dataset_conversion.label_plan import SidePolicy, TumorPolicy
from nnunet_partial.dataset_conversion.listing import Source
from nnunet_partial.dataset_conversion.own_data.source_file import declared_name, is_source_file
from nnunet_partial.dataset_conversion.sources import expanded, find_source
from nnunet_partial.labels import DatasetRecord

UnlabelledPolicy = Literal["skip", "keep"]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceConfig(_Entry):
    """One source of a pool, as the user wrote it.

    Attributes:
        source: Which converter reads it, a key of `SOURCES`, or the path of a source file.
        path: Where it lies; may hold `~` and environment variables. By default the folder of the source file.
        name: Prefix of its case identifiers and name of its protocol; by default the source's key, or what the source file says.
        tumor: What becomes of tumors and cysts drawn inside an organ; "merge" where nothing is said.
        sides: What becomes of organs drawn without a side; "split" where nothing is said.
        unlabelled: What becomes of images that nobody annotated: left out ("skip"), or cases without supervision ("keep").
    """

    source: str
    path: str
    name: str = Field(default="", pattern=r"^[A-Za-z0-9][A-Za-z0-9_\-]*$")
    tumor: TumorPolicy | None = None
    sides: SidePolicy | None = None
    unlabelled: UnlabelledPolicy | None = None

    @model_validator(mode="before")
    @classmethod
    def _beside_source_file(cls, data: Any) -> Any:
        if isinstance(data, dict) and "path" not in data and is_source_file(data.get("source")):
            return {**data, "path": str(Path(data["source"]).parent)}
        return data

    @property
    def prefix(self) -> str:
        """The name it goes by in this pool."""
        return self.name or self.source

    @property
    def options(self) -> dict[str, Any]:
        """The options that were set, for the manifest."""
        return self.model_dump(include={"tumor", "sides", "unlabelled"}, exclude_none=True)


class PoolConfig(_Entry):
    """A pool: the dataset to make, its classes in the order of their label ids, and where its cases come from.

    Sources that hold the same scans are refused unless `allow_overlap` says that the user knows.
    """

    dataset: DatasetRecord
    classes: tuple[str, ...]
    sources: tuple[SourceConfig, ...] = Field(min_length=1)
    allow_overlap: bool = False
    _folder: Path = PrivateAttr(default=Path())

    def path_of(self, source: SourceConfig) -> Path:
        """Where a source lies: variables filled in, relative to the pool file (to the working directory without one)."""
        return expanded(source.path, self._folder)

    def find(self, source: SourceConfig) -> Source:
        """What reads a source; faults of its name or of its source file raise ConversionError."""
        return find_source(source.source, self._folder, self.path_of(source))

    def named(self, source: SourceConfig) -> SourceConfig:
        """The source under the name that its source file gives it, where the pool gives it none."""
        if source.name or not is_source_file(source.source):
            return source
        return source.model_copy(update={"name": declared_name(expanded(source.source, self._folder))})
