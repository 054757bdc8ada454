"""What earlier runs found, so that a run that was killed, or repeated, reads only the cases that are new or changed."""

import hashlib
import json
import time
from pathlib import Path

from nnunet_partial import __version__
from nnunet_partial.dataset_conversion.verify.annotator_check import Pair
from nnunet_partial.dataset_conversion.verify.case_check import CaseResult, CheckJob
from nnunet_partial.dataset_conversion.verify.finding import Finding
from nnunet_partial.labels import write_json

CACHE_NAME = ".verification.json"
_CHECKS_VERSION = 2  # raise it when the same files give other findings
_SECONDS_BETWEEN_WRITES = 2.0


class Cache:
    """The results of one dataset's cases, in a file in its folder that is replaced as a whole."""

    def __init__(self, dataset_folder: Path, *, fresh: bool = False):
        self.file = dataset_folder / CACHE_NAME
        self._entries = {} if fresh else _read(self.file)
        self._written_at = time.monotonic()

    def result(self, job: CheckJob, fingerprint: str) -> CaseResult | None:
        """The result of a case whose files, protocol and manifest entry are what they were; else None."""
        entry = self._entries.get(job.identifier)
        try:
            if entry is None or entry["fingerprint"] != fingerprint:
                return None
            counts = entry["label_counts"]
            findings = tuple(Finding(*fields, case=job.identifier) for fields in entry["findings"])
            counts = None if counts is None else {int(number): voxels for number, voxels in counts.items()}
            return CaseResult(findings, counts, pairs=tuple(Pair(*names) for names in entry["pairs"]))
        except (KeyError, TypeError, ValueError):
            return None

    def add(self, job: CheckJob, fingerprint: str, result: CaseResult) -> None:
        """Keep a result; the file is written every few seconds."""
        self._entries[job.identifier] = {
            "fingerprint": fingerprint,
            "findings": [[finding.severity, finding.kind, finding.message] for finding in result.findings],
            "label_counts": result.label_counts,
            "pairs": [[pair.first, pair.second, pair.relation] for pair in result.pairs],
        }
        if time.monotonic() - self._written_at > _SECONDS_BETWEEN_WRITES:
            self.write()

    def write(self) -> None:
        """Write what is known so far; a dataset in a read-only folder is checked without."""
        try:
            write_json(self._entries, self.file)
        except OSError as error:
            print(f"note: results are not kept for the next run: {error}")
        self._written_at = time.monotonic()

    def keep_only(self, identifiers: set[str]) -> None:
        """Forget the cases that are no longer in the dataset."""
        self._entries = {key: entry for key, entry in self._entries.items() if key in identifiers}


def fingerprint(job: CheckJob) -> str:
    """Changes whenever a case must be checked again: other files (size, time), protocol, manifest entry, or checks."""
    files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in job.files]
    said = (job.record.label_counts, job.record.absent) if job.record else None
    drawn = [(annotator.name, annotator.protocol.model_dump()) for annotator in job.annotators]
    content = [__version__, _CHECKS_VERSION, files, job.is_ct, job.protocol.model_dump(), job.space.model_dump(), said, drawn]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read(file: Path) -> dict[str, dict]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
