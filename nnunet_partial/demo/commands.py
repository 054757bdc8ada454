"""Commands run as a user would run them: output into a log, progress read from it, and its end shown where one fails."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

TAIL_LINES, TAIL_WIDTH = 25, 200
POLL_SECONDS = 0.5


class CommandError(ValueError):
    """A command that ended badly, with the end of what it said and the place of the rest."""


@dataclass(frozen=True)
class Command:
    """A command line, the variables it needs beside this process's own, and the file its output goes to."""

    arguments: Sequence[str]
    log: Path
    env: dict[str, str]

    def __str__(self) -> str:
        """The command as one would type it."""
        return " ".join([Path(self.arguments[0]).name, *self.arguments[1:]])


def installed(name: str) -> str:
    """Path of a console script of this environment, such as nnUNetv2_train.

    Raises:
        FileNotFoundError: there is none.
    """
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        where = f"neither beside {sys.executable} nor on PATH"
        raise FileNotFoundError(f"the command {name} is {where}; install nnunetv2 into this environment")
    return found


def run_together(commands: Sequence[Command], *, at_once: int, watch: Callable[[], None] = lambda: None) -> None:
    """Run commands, some at a time; when one fails, or this process is told to stop, none is left behind.

    Args:
        commands: What to run, in this order.
        at_once: How many may run side by side.
        watch: Called twice a second.

    Raises:
        CommandError: a command returned anything but 0.
    """
    waiting, running = list(commands), {}
    with ExitStack() as stack:
        stack.enter_context(_termination_as_interrupt())
        stack.callback(lambda: [_stop(process) for process in running])
        while waiting or running:
            while waiting and len(running) < at_once:
                command = waiting.pop(0)
                command.log.parent.mkdir(parents=True, exist_ok=True)
                log = stack.enter_context(command.log.open("w", encoding="utf-8"))
                running[_start(command, log)] = command
            time.sleep(POLL_SECONDS)
            watch()
            for process in [process for process in running if process.poll() is not None]:
                command = running.pop(process)
                if process.returncode:
                    raise CommandError(_failure(command, process.returncode))


@contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """SIGTERM as KeyboardInterrupt, so that a `kill` does not leave trainings behind; signals belong to the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _start(command: Command, log: object) -> subprocess.Popen:
    env = {**os.environ, **command.env, "PYTHONUNBUFFERED": "1"}
    # a session of its own, so that its workers can be stopped with it
    return subprocess.Popen(
        list(command.arguments), stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=env, start_new_session=True
    )


def _stop(process: subprocess.Popen) -> None:
    if process.poll() is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=10)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _failure(command: Command, code: int) -> str:
    lines = command.log.read_text(errors="replace").splitlines()
    tail = "\n".join(f"  | {line[:TAIL_WIDTH]}{'…' * (len(line) > TAIL_WIDTH)}" for line in lines[-TAIL_LINES:])
    said = f"its last lines:\n{tail}\n" if lines else "it said nothing.\n"
    killed = f"was ended by signal {-code}" + (" (too little memory, perhaps)" if code == -signal.SIGKILL else "")
    how = killed if code < 0 else f"ended with status {code}"
    return f"`{command}` {how}; {said}the whole log: {command.log}\nWhen that is mended, the same command goes on from here."
