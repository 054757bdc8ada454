"""`nnunet_partial env`: one line a shell can evaluate."""

import os
import subprocess

import pytest

from nnunet_partial.cli.env import assignment
from nnunet_partial.paths import TRAINER_FOLDER, TRAINER_VARIABLE


def evaluated(line: str) -> str:
    return subprocess.run(
        ["bash", "-c", f'{line}\nprintf %s "${TRAINER_VARIABLE}"'], capture_output=True, text=True, check=True
    ).stdout


def test_one_line_that_bash_evaluates(cli, monkeypatch):
    monkeypatch.delenv(TRAINER_VARIABLE, raising=False)
    status, out, err = cli("env")
    assert (status, err, out.count("\n")) == (0, "", 1)
    assert evaluated(out) == str(TRAINER_FOLDER)


def test_keeps_other_folders_and_is_idempotent(cli, monkeypatch):
    monkeypatch.setenv(TRAINER_VARIABLE, "/my trainers/it's")
    expected = os.pathsep.join(["/my trainers/it's", str(TRAINER_FOLDER)])
    first = cli("env")[1]
    assert evaluated(first) == expected
    monkeypatch.setenv(TRAINER_VARIABLE, expected)
    assert cli("env")[1] == first


@pytest.mark.parametrize(
    ("shell", "line"),
    [
        ("posix", "export V='a b'\"'\"'c'"),
        ("fish", "set -gx V 'a b\\'c'"),
        ("powershell", "$env:V = 'a b''c'"),
    ],
)
def test_quoting(shell, line):
    assert assignment("V", "a b'c", shell) == line
