"""Verification remembers what it has checked, and says the same however it is run."""

import json
import subprocess
import sys

import pytest
from small_abdomen import CASES, at, edit_labels, edit_record, swapped, verify, write_dataset

from nnunet_partial.dataset_conversion.verify import cache, report_json, report_text, run


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(tmp_path / "Dataset500_Abdomen")


def test_a_second_run_reads_what_changed(dataset):
    edit_labels(dataset, lambda a: swapped(a, 3, 4))
    first = verify(dataset)
    again = verify(dataset)
    assert (again.num_checked, again.num_cached) == (0, 4)
    assert report_json(again) == report_json(first)
    edit_labels(dataset, lambda a: swapped(a, 3, 4))
    mended = verify(dataset)
    assert (mended.num_checked, mended.num_cached, mended.findings) == (1, 3, ())
    edit_record(dataset, "kits_1", absent=("kidney_left", "kidney_right"))
    assert [finding.kind for finding in verify(dataset).findings] == ["absent"]


def test_fresh_ignores_it(dataset):
    verify(dataset)
    assert verify(dataset, fresh=True).num_checked == 4


def test_a_broken_cache_is_no_cache(dataset):
    for content in ("{", "[]", '{"full_1": 3, "full_2": {"fingerprint": 1}}'):
        (dataset / ".verification.json").write_text(content)
        assert verify(dataset).num_checked == 4


def test_a_stopped_run_goes_on(dataset, monkeypatch):
    def stop_at_the_third(job):
        if job.identifier == "kits_1":
            raise KeyboardInterrupt
        return check_case(job)

    check_case = run.check_case
    monkeypatch.setattr(run, "check_case", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        verify(dataset)
    monkeypatch.undo()
    assert verify(dataset).num_cached == 2


def test_a_killed_run_goes_on(dataset):
    code = (
        "import os, signal, sys; from pathlib import Path; from nnunet_partial.dataset_conversion.verify import cache, run\n"
        "cache._SECONDS_BETWEEN_WRITES = 0; check = run.check_case\n"
        "def die(job): return os.kill(os.getpid(), signal.SIGKILL) if job.identifier == 'kits_2' else check(job)\n"
        "run.check_case = die; run.verify_dataset(Path(sys.argv[1]), progress=False)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(dataset)], check=False).returncode == -9
    report = verify(dataset)
    assert (report.num_cached, report.num_checked) == (3, 1)
    assert [path.name for path in dataset.glob(".*")] == [".verification.json"]


def test_a_folder_that_cannot_be_written_is_checked_without(dataset, capsys, monkeypatch):
    def refuse(content, path):
        raise PermissionError(f"{path} is read-only")

    monkeypatch.setattr(cache, "write_json", refuse)
    assert verify(dataset).num_checked == 4
    assert "note: results are not kept for the next run:" in capsys.readouterr().out


def test_the_report_is_the_same_for_any_number_of_processes(dataset):
    for key in CASES:
        edit_labels(dataset, at((0, 0, 0), 9), key)
    one = verify(dataset, 1, fresh=True)
    two = verify(dataset, 2, fresh=True)
    assert json.dumps(report_json(one)) == json.dumps(report_json(two))
    assert report_text(one, max_examples=2) == report_text(two, max_examples=2)
    assert "FAULT label ids: 4, in 4 cases\n  full_1: label id 9" in report_text(one, max_examples=2)
    assert "\n  and 2 more" in report_text(one, max_examples=2)
    assert report_text(one, max_examples=2).endswith("\n\n4 faults, no remarks")
