"""Pictures look the same whoever draws them: nnU-Net sets a seaborn style with huge fonts for its whole process."""

from collections.abc import Callable
from functools import wraps
from typing import Any


def in_default_style(draw: Callable[..., Any]) -> Callable[..., Any]:
    """A drawing function that draws in matplotlib's default style, whatever the process has set."""

    @wraps(draw)
    def drawn(*args: Any, **kwargs: Any) -> Any:
        from matplotlib import style

        with style.context("default", after_reset=True):
            return draw(*args, **kwargs)

    return drawn
