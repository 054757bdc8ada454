"""How far an epoch is, and when the training will end: a bar on a terminal, nothing in a log file."""

import sys
import time
from collections.abc import Callable
from typing import TextIO

from tqdm import tqdm


class EpochBar:
    """A progress bar over the iterations of each epoch, with the time left in the epoch and in the training.

    Args:
        stream: Where to draw; nothing is drawn unless it is a terminal. By default standard output, as it is at that time.
        clock: Source of seconds.
    """

    def __init__(self, *, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic):
        self._stream, self._clock = stream, clock
        self._bar: tqdm | None = None
        self._began: float | None = None
        self._epochs_begun = 0

    def open(self, epoch: int, num_epochs: int, num_iterations: int) -> None:
        """Begin an epoch."""
        self.close()
        stream = self._stream or sys.stdout
        left = self._left_in_words(num_epochs - epoch)
        self._bar = tqdm(
            total=num_iterations,
            desc=f"epoch {epoch + 1}/{num_epochs}{left}",
            unit="batch",
            file=stream,
            leave=False,
            dynamic_ncols=True,
            disable=not stream.isatty(),
        )

    def advance(self) -> None:
        """One iteration is done; without an open epoch nothing happens."""
        if self._bar is not None:
            self._bar.update()

    def close(self) -> None:
        """Take the bar off the terminal."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _left_in_words(self, epochs_left: int) -> str:
        """', about 3 h 20 min left' from the mean length of this run's epochs, validation included; nothing in the first one."""
        now = self._clock()
        if self._began is None:
            self._began = now
        seconds = (now - self._began) / self._epochs_begun * epochs_left if self._epochs_begun else None
        self._epochs_begun += 1
        if seconds is None:
            return ""
        hours, minutes = divmod(max(1, round(seconds / 60)), 60)
        return f", about {f'{hours} h ' if hours else ''}{minutes} min left"
