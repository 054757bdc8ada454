"""What a conversion has finished: one small file a case, so that a killed run goes on where it stopped."""

import hashlib
import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from nnunet_partial.dataset_conversion.case_job import CaseJob
from nnunet_partial.dataset_conversion.image_files.dicom import series_files
from nnunet_partial.labels import CaseRecord, write_json

JOURNAL_FOLDER = ".conversion"
_CONVERTER_VERSION = 2  # raise it when the same input gives other output: finished cases are then converted again


class Journal:
    """The journal of one dataset folder; an entry is written before a case is begun and completed after its files are."""

    def __init__(self, dataset_folder: Path):
        self.dataset_folder = dataset_folder
        self.folder = dataset_folder / JOURNAL_FOLDER

    def identifiers(self) -> list[str]:
        """The cases that were ever begun (half-written entries begin with a dot)."""
        return sorted(path.stem for path in self.folder.glob("[!.]*.json"))

    def begin(self, job: CaseJob) -> None:
        """Note that files of this case may appear from now on."""
        write_json({}, self._file(job.identifier))

    def finish(self, job: CaseJob, record: CaseRecord, fingerprint: str) -> None:
        """Note that the files of this case are whole."""
        sizes = {path.relative_to(self.dataset_folder).as_posix(): path.stat().st_size for path in job.results}
        write_json(
            {"fingerprint": fingerprint, "sizes": sizes, "record": record.model_dump(mode="json")}, self._file(job.identifier)
        )

    def finished(self, job: CaseJob, fingerprint: str) -> CaseRecord | None:
        """The record of a case whose originals, options and results are what they were when it was finished; else None."""
        try:
            entry = json.loads(self._file(job.identifier).read_text(encoding="utf-8"))
            if entry["fingerprint"] != fingerprint:
                return None
            if any((self.dataset_folder / file).stat().st_size != size for file, size in entry["sizes"].items()):
                return None
            return CaseRecord.model_validate(entry["record"])
        except (OSError, ValueError, KeyError):
            return None

    def forget(self, identifier: str) -> None:
        """Remove a case's entry."""
        self._file(identifier).unlink(missing_ok=True)

    def _file(self, identifier: str) -> Path:
        return self.folder / f"{identifier}.json"


def reader_name(reader: Callable) -> str:
    """What identifies a reader of label maps: the name of a function, or a dataclass with its parameters."""
    return f"{reader.__module__}.{getattr(reader, '__qualname__', None) or repr(reader)}"


def fingerprint(job: CaseJob) -> str:
    """Changes whenever a case must be converted again: other originals (path, size, time), other options, another converter."""
    files = series_files(job.case.image) if job.case.image.is_dir() else [job.case.image]
    states = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in (*files, *job.case.files)]
    options = [
        job.source_name,
        job.protocol_name,
        job.label_grid.name,
        job.is_ct,
        job.copy,
        job.plan.mapping,
        job.plan.right_ids,
        job.protocol.model_dump(),
        reader_name(job.read_labels),
        [[a.name, a.protocol_name, a.plan.mapping, a.plan.protocol.model_dump()] for a in job.annotators],
        *(["by majority"] if job.case.by_majority else []),
    ]
    content = json.dumps([_CONVERTER_VERSION, version("imagecodecs"), states, options], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()
