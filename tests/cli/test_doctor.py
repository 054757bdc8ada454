"""`nnunet_partial doctor`: each check on facts given to it, and the report."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nnunet_partial import environment
from nnunet_partial.environment import (
    FAULT,
    GIB,
    OK,
    PROBED_MODULES,
    WARN,
    Facts,
    FolderFacts,
    Probe,
    advised_workers,
    check_devices,
    check_environment,
    check_folder,
    check_imports,
    check_nnunet,
    check_python,
    check_shared_memory,
    check_trainer,
    check_trainer_variable,
    check_workers,
    gather_facts,
    run_probe,
)
from nnunet_partial.paths import FOLDER_VARIABLES, TRAINER_FOLDER, TRAINER_VARIABLE

VERSIONS = {"torch": "2.8.0+cpu", "torchvision": "0.23.0+cpu", "timm": "1.0.22", "nnunetv2": "2.8.1"}
HEALTHY = Facts(
    python=(3, 11, 7),
    imports={module: Probe(answer=VERSIONS[module]) for module in PROBED_MODULES},
    versions=VERSIONS,
    torchvision_wants="2.8.0",
    folders={name: FolderFacts(Path("/data") / name, True, True, 900 * GIB) for name in FOLDER_VARIABLES},
    trainer=Probe(answer="nnunet_partial.trainers.marginal"),
    is_trainer_offered=True,
    devices=Probe(answer='["NVIDIA H200"]'),
    has_nvidia_driver=True,
    num_cores=16,
    memory_bytes=128 * GIB,
    shm_bytes=64 * GIB,
    workers_setting=None,
)
BROKEN_IMPORT = Probe(error="RuntimeError: operator torchvision::nms does not exist")


def test_a_healthy_machine():
    findings = check_environment(HEALTHY)
    assert {finding.level for finding in findings} == {OK}
    assert all(finding.message for finding in findings)


def test_python():
    assert check_python((3, 10, 0)).level == OK
    old = check_python((3, 9, 18))
    assert (old.level, old.message) == (FAULT, "3.9.18, at least 3.10 is needed")


@pytest.mark.parametrize("module", ["torchvision", "timm"])
def test_a_torchvision_for_another_torch_is_said_in_words(module):
    findings = check_imports({**HEALTHY.imports, module: BROKEN_IMPORT}, VERSIONS, "2.8.0")
    (fault,) = (finding for finding in findings if finding.level == FAULT)
    assert fault.subject == f"import {module}"
    assert "every trainer but the stock one is 'not found'" in fault.message
    assert "torchvision::nms does not exist" in fault.message
    assert fault.mend.startswith('pip uninstall -y torchvision; pip install "torch==2.8.0" torchvision')
    assert fault.mend.endswith("--index-url https://download.pytorch.org/whl/cpu")


def test_a_torchvision_that_only_threatens_to_fail():
    findings = check_imports(HEALTHY.imports, {**VERSIONS, "torch": "2.9.1"}, "2.8.0")
    (warning,) = (finding for finding in findings if finding.level != OK)
    assert (warning.level, warning.mend) == (WARN, 'pip uninstall -y torchvision; pip install "torch==2.9.1" torchvision')


def test_other_imports_that_fail():
    missing = Probe(error="ModuleNotFoundError: No module named 'x'")
    without_timm = {name: version for name, version in VERSIONS.items() if name != "timm"}
    assert check_imports({"timm": missing}, without_timm, "")[0].mend == "pip install timm"
    assert "pytorch.org" in check_imports({"torch": missing}, {}, "")[0].mend
    assert check_imports({"nnunetv2": missing}, {}, "")[0].mend == "pip install --force-reinstall --no-deps nnunetv2"


@pytest.mark.parametrize(("version", "level"), [("2.8.0", OK), ("2.10.1", OK), ("3.0", OK), ("2.7.9", FAULT), ("", FAULT)])
def test_nnunet_version(version, level):
    assert check_nnunet(version).level == level


@pytest.mark.parametrize(
    ("facts", "level", "words"),
    [
        (FolderFacts(None), FAULT, "not set"),
        (FolderFacts(Path("/data")), FAULT, "is not a folder"),
        (FolderFacts(Path("/data"), True, False, 900 * GIB), FAULT, "cannot be written"),
        (FolderFacts(Path("/data"), True, True, GIB // 2), FAULT, "full disk"),
        (FolderFacts(Path("/data"), True, True, 20 * GIB), WARN, "20 GiB free: little"),
        (FolderFacts(Path("/data"), True, True, 900 * GIB), OK, "900 GiB free"),
    ],
)
def test_folders(facts, level, words):
    finding = check_folder("nnUNet_results", facts)
    assert finding.level == level
    assert words in finding.message
    assert bool(finding.mend) == (level != OK)


def test_raw_data_may_be_read_only():
    assert check_folder("nnUNet_raw", FolderFacts(Path("/data"), True, False, 900 * GIB)).level == WARN


def test_trainer_lookup():
    assert check_trainer(HEALTHY.trainer).level == OK
    fault = check_trainer(Probe(error="RuntimeError: Could not find requested nnunet trainer"))
    assert fault.level == FAULT
    assert "Could not find requested" in fault.message
    assert check_trainer_variable(True).level == OK
    assert check_trainer_variable(False).mend == 'eval "$(nnunet_partial env)"'


@pytest.mark.parametrize(
    ("cores", "memory_gib", "workers"), [(16, 128, 12), (8, 128, 8), (16, 16, 6), (2, 4, 1), (16, 2, 1), (16, 24, 10)]
)
def test_advised_workers(cores, memory_gib, workers):
    assert advised_workers(cores, memory_gib * GIB) == workers


def test_memory():
    assert check_workers(16, 128 * GIB, None).level == OK
    tight = check_workers(16, 16 * GIB, None)
    assert (tight.level, tight.mend) == (WARN, "export nnUNet_n_proc_DA=6")
    assert "12 augmentation workers may need 28 GiB" in tight.message
    assert check_workers(16, 16 * GIB, "6").level == OK
    assert "planning crashes" in check_workers(16, 128 * GIB, "0").message
    assert check_workers(16, 128 * GIB, "many").level == FAULT


def test_shared_memory():
    assert check_shared_memory(8 * GIB).level == OK
    assert check_shared_memory(None).level == OK
    docker = check_shared_memory(64 * 2**20)
    assert docker.level == WARN
    assert "--shm-size" in docker.mend


def test_devices():
    assert check_devices(HEALTHY.devices, "2.8.0", has_nvidia_driver=True).message == "NVIDIA H200"
    unseen = check_devices(Probe(answer="[]"), "2.8.0+cpu", has_nvidia_driver=True)
    assert unseen.level == WARN
    assert "torch 2.8.0+cpu does not see a GPU" in unseen.message
    assert "--tiny" in check_devices(Probe(answer="[]"), "2.8.0", has_nvidia_driver=False).mend
    assert check_devices(BROKEN_IMPORT, "2.8.0", has_nvidia_driver=False).level == WARN


def test_probes_run_in_a_process_of_their_own():
    assert run_probe("print('noise'); print('answer')") == Probe(answer="answer")
    assert run_probe("raise RuntimeError('no')") == Probe(error="RuntimeError: no")
    assert run_probe("import os; os._exit(3)") == Probe(error="the process ended with status 3")


def test_facts_of_this_machine(folders, monkeypatch):
    monkeypatch.setattr(environment, "run_probe", lambda code: Probe(answer=code[:6]))
    folders["nnUNet_raw"].rmdir()
    monkeypatch.delenv("nnUNet_results")
    facts = gather_facts()
    assert facts.imports["torch"] == Probe(answer="import")
    assert facts.versions["nnunetv2"].startswith("2.")
    assert (facts.folders["nnUNet_raw"].is_folder, facts.folders["nnUNet_results"].path) == (False, None)
    assert facts.folders["nnUNet_preprocessed"].is_writable
    assert facts.memory_bytes > 0
    assert not facts.is_trainer_offered
    monkeypatch.setenv(TRAINER_VARIABLE, str(TRAINER_FOLDER))
    assert gather_facts().is_trainer_offered


def test_report_and_status(cli, monkeypatch):
    monkeypatch.setattr(environment, "gather_facts", lambda: HEALTHY)
    status, out, _ = cli("doctor")
    assert (status, out.splitlines()[-1]) == (0, "everything is in place")
    broken = replace(HEALTHY, folders={**HEALTHY.folders, "nnUNet_raw": FolderFacts(None)}, shm_bytes=0)
    monkeypatch.setattr(environment, "gather_facts", lambda: broken)
    status, out, _ = cli("doctor")
    assert (status, out.splitlines()[-1]) == (1, "1 faults, 1 warnings")
    assert "-> export nnUNet_raw=/path/to/nnUNet_raw" in out
    status, out, _ = cli("doctor", "--json")
    assert status == 1
    assert [finding["subject"] for finding in json.loads(out) if finding["level"] == FAULT] == ["nnUNet_raw"]


@pytest.mark.slow
def test_this_environment(cli, folders):
    status, out, _ = cli("doctor", "--json")
    faults = [finding for finding in json.loads(out) if finding["level"] == FAULT]
    assert (status, faults) == (0, [])
