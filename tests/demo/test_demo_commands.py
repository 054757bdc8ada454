"""Commands: their output in a log, none left behind, and a failure that shows what the command said."""

import os
import signal
import subprocess
import sys
import time

import pytest

from nnunet_partial.demo.commands import Command, CommandError, installed, run_together


def python(code, log, **env):
    return Command([sys.executable, "-c", code], log, env)


def test_output_goes_into_the_log_and_variables_arrive(tmp_path):
    run_together([python("import os; print(os.environ['COLOUR'])", tmp_path / "logs" / "a.log", COLOUR="red")], at_once=1)
    assert (tmp_path / "logs" / "a.log").read_text(encoding="utf-8") == "red\n"


def test_a_failure_shows_the_end_of_the_log_and_where_it_lies(tmp_path):
    log = tmp_path / "a.log"
    code = "for n in range(100): print('line', n)\nraise SystemExit(3)"
    with pytest.raises(CommandError) as error:
        run_together([python(code, log)], at_once=1)
    assert "ended with status 3" in str(error.value)
    assert "line 99" in str(error.value)
    assert "line 20" not in str(error.value)
    assert str(log) in str(error.value)


def test_when_one_fails_the_other_is_stopped(tmp_path):
    sleeper = python("import os, time; print(os.getpid()); time.sleep(60)", tmp_path / "sleeper.log")
    failing = python("import time; time.sleep(1); raise SystemExit(1)", tmp_path / "failing.log")
    began = time.monotonic()
    with pytest.raises(CommandError):
        run_together([sleeper, failing], at_once=2)
    assert time.monotonic() - began < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "sleeper.log").read_text(encoding="utf-8")), 0)


def test_no_more_than_asked_run_side_by_side(tmp_path):
    code = "import time; print(time.time()); time.sleep(0.5); print(time.time())"
    logs = [tmp_path / f"{n}.log" for n in range(2)]
    run_together([python(code, log) for log in logs], at_once=1)
    first, second = ([float(line) for line in log.read_text(encoding="utf-8").split()] for log in logs)
    assert first[1] <= second[0]


def test_a_command_that_is_not_installed_is_named():
    assert installed("nnUNetv2_train").endswith("nnUNetv2_train")
    with pytest.raises(FileNotFoundError, match="nnUNetv3_train"):
        installed("nnUNetv3_train")


def test_killing_the_demonstration_stops_its_commands(tmp_path):
    log = tmp_path / "sleeper.log"
    code = f"""
import sys
from pathlib import Path
from nnunet_partial.demo.commands import Command, run_together
sleep = "import os, time; print(os.getpid()); time.sleep(60)"
run_together([Command([sys.executable, "-c", sleep], Path({str(log)!r}), {{}})], at_once=1)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    while not (log.exists() and log.read_text(encoding="utf-8").endswith("\n")):
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) != 0
    with pytest.raises(ProcessLookupError):
        os.kill(int(log.read_text(encoding="utf-8")), 0)
