"""Which step of how many, how far, and how long still: one line on a terminal, a line now and then in a log."""

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import TextIO

QUIET_SECONDS = 20.0  # between lines where there is no terminal to rewrite one on
PRIOR_SECONDS = 20.0  # how much the expectations weigh against the first measurements
BAR_WIDTH = 24


def remaining_seconds(expected: Sequence[float], done: Sequence[float], elapsed: float) -> float:
    """Time still needed, from what each step was expected to take, what share of it is done, and the pace of this run so far.

    Args:
        expected: Expected seconds of each step that this run has to do.
        done: Share of each that is done, 0 to 1.
        elapsed: Seconds this run has taken.
    """
    worked = sum(seconds * share for seconds, share in zip(expected, done, strict=True))
    pace = (elapsed + PRIOR_SECONDS) / (worked + PRIOR_SECONDS)
    return max(0.0, sum(expected) - worked) * pace


def in_words(seconds: float) -> str:
    """A duration as one would say it: 'about 4 min', '40 s'."""
    if seconds < 55:
        return f"{max(5, 5 * round(seconds / 5))} s"
    return f"about {max(1, round(seconds / 60))} min"


class Progress:
    """The progress display of a run of steps.

    Args:
        titles: What each step does, in a few words.
        expected: Expected seconds of each; 0 where an earlier run has done it.
        stream: Where to write.
        clock: Source of seconds.
    """

    def __init__(
        self,
        titles: Sequence[str],
        expected: Sequence[float],
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.titles, self.expected, self.clock = list(titles), list(expected), clock
        self.stream = stream or sys.stderr
        self.done = [0.0] * len(self.titles)
        self._rewrites = self.stream.isatty()
        self._began, self._last_line, self._last_width = clock(), float("-inf"), 0

    def already_done(self, number: int) -> None:
        """Say that an earlier run has done a step."""
        self.done[number] = 1.0
        self._finish_line(f"{self._head(number)}  done before")

    def update(self, number: int, share: float, detail: str = "") -> None:
        """Show how far a step is."""
        self.done[number] = max(self.done[number], min(1.0, share))
        filled = round(self.done[number] * BAR_WIDTH)
        left = in_words(remaining_seconds(self.expected, self.done, self.clock() - self._began))
        bar = "█" * filled + "·" * (BAR_WIDTH - filled)
        line = f"{self._head(number)}  {bar} {self.done[number]:4.0%}  {detail}{'  ' if detail else ''}({left} left in all)"
        if self._rewrites:
            self._rewrite(line)
        elif self.clock() - self._last_line >= QUIET_SECONDS:
            self._last_line = self.clock()
            print(line, file=self.stream, flush=True)

    def finish(self, number: int, seconds: float) -> None:
        """Say that a step is done."""
        self.done[number] = 1.0
        self._finish_line(f"{self._head(number)}  done in {seconds:.0f} s")

    def clear(self) -> None:
        """Leave the line, so that something else can be printed."""
        if self._rewrites and self._last_width:
            self._rewrite("")
            self.stream.write("\r")
            self.stream.flush()

    def _head(self, number: int) -> str:
        width = max(map(len, self.titles))
        return f"[{number + 1}/{len(self.titles)}] {self.titles[number]:<{width}}"

    def _rewrite(self, line: str) -> None:
        line = line[: shutil.get_terminal_size().columns - 1]  # a line that wraps cannot be rewritten
        self.stream.write("\r" + line.ljust(self._last_width))
        self.stream.flush()
        self._last_width = len(line)

    def _finish_line(self, line: str) -> None:
        if self._rewrites:
            self._rewrite(line)
            self.stream.write("\n")
            self._last_width = 0
        else:
            print(line, file=self.stream)
        self._last_line = self.clock()
        self.stream.flush()
