"""The report's pages as Jinja2 templates; a value that is missing is an error, and everything is escaped."""

import base64
import math
from pathlib import Path
from typing import Any

from nnunet_partial.report.intervals import MeanInterval

FOLDER = Path(__file__).parent


def render(name: str, **values: Any) -> str:
    """A page from its template and the values it names."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "number": number,
        "interval": interval,
        "signed": lambda value: f"{round(value, 3) + 0.0:+.3f}",
        "words": lambda text: str(text).replace("_", " "),
        "png": lambda content: "data:image/png;base64," + base64.b64encode(content).decode("ascii"),
        "svg": Markup,
    }
    environment.tests |= {"nan": lambda value: isinstance(value, float) and math.isnan(value)}
    return environment.get_template(name).render(**values, style=Markup((FOLDER / "style.css").read_text(encoding="utf-8")))


def number(value: float, digits: int = 3) -> str:
    """A value of a metric: three decimals below 10, fewer above; a dash where there is none."""
    if math.isnan(value):
        return "–"
    return f"{value:.{digits if abs(value) < 10 else 1}f}"


def interval(mean: MeanInterval, digits: int = 2) -> str:
    """'[0.88, 0.93]', or nothing where fewer than two values stand behind the mean."""
    return "" if math.isnan(mean.low) else f"[{number(mean.low, digits)}, {number(mean.high, digits)}]"
