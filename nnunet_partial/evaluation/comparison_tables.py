"""A comparison as a table in Markdown and LaTeX."""

import math
import re
from collections.abc import Sequence

from nnunet_partial.evaluation.comparison import ALL_CLASSES, Comparison, Difference

SIGNIFICANCE = 0.05
_HEAD = ("class", "cases", "{first}", "{run}", "difference", "95 % CI", "Wilcoxon p", "Holm p", "t-test p")
_LATEX_SPECIAL = {"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "^": r"\^{}", "$": r"\$", "<": "$<$", "~": r"\~{}"}
NOTES = (
    "Differences are run minus first run, paired by case; CI: bootstrap of the mean over cases (BCa, 10,000 resamples, seed 0); "
    "Wilcoxon signed-rank and paired t-test are two-sided; Holm corrects Wilcoxon's p over all classes and runs of the table. "
    f"*: Holm p < {SIGNIFICANCE:g}."
)


def markdown_table(comparison: Comparison) -> str:
    """One table a run, with the definition of the metric above and the method below."""
    blocks = [f"**{comparison.metric}**" + (f": {comparison.definition}" if comparison.definition else "")]
    for rows in _by_run(comparison):
        head = _head(rows[0])
        blocks.append(
            "\n".join([_markdown_row(head), "|---|" + "---:|" * (len(head) - 1), *(_markdown_row(_cells(row)) for row in rows)])
        )
        blocks += _left_out(comparison, rows)
    return "\n\n".join([*blocks, NOTES]) + "\n"


def latex_table(comparison: Comparison) -> str:
    """One `table` environment a run; needs booktabs."""
    blocks = []
    for rows in _by_run(comparison):
        head = _head(rows[0])
        caption = " ".join([f"{comparison.metric}: {rows[0].run} against {rows[0].first}.", *_left_out(comparison, rows), NOTES])
        body = []
        for row in rows:
            rule = r"\midrule" + "\n" if row.class_name == ALL_CLASSES else ""
            body.append(rule + _latex_row(_cells(row)))
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_latex(caption)}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
            r"\toprule",
            _latex_row(head),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _by_run(comparison: Comparison) -> list[list[Difference]]:
    runs = dict.fromkeys(row.run for row in comparison.differences)
    return [[row for row in comparison.differences if row.run == run] for run in runs]


def _left_out(comparison: Comparison, rows: Sequence[Difference]) -> list[str]:
    """What of a pair of runs is not in the table."""
    found = []
    unpaired = comparison.unpaired[rows[0].run]
    if unpaired:
        found.append(f"{len(unpaired)} cases are in one of the two runs only and are left out: {', '.join(unpaired)}.")
    one_sided = [f"{row.class_name} {row.one_sided}" for row in rows if row.one_sided and row.class_name != ALL_CLASSES]
    if one_sided:
        found.append(f"Cases in which only one of the two runs has a value are left out: {', '.join(one_sided)}.")
    return found


def _head(row: Difference) -> list[str]:
    return [text.format(first=row.first, run=row.run) for text in _HEAD]


def _cells(row: Difference) -> list[str]:
    star = "*" if row.wilcoxon_holm_p < SIGNIFICANCE else ""
    interval = "" if math.isnan(row.low) else f"[{row.low:+.4f}, {row.high:+.4f}]"
    return [
        row.class_name,
        str(row.cases),
        *(_number(value, ".4f") for value in (row.first_mean, row.run_mean)),
        _number(row.difference, "+.4f") + star,
        interval,
        *(_number(value, ".3g") for value in (row.wilcoxon_p, row.wilcoxon_holm_p, row.t_test_p)),
    ]


def _number(value: float, how: str) -> str:
    return "" if math.isnan(value) else format(value, how)


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(_latex, cells)) + r" \\"


def _latex(text: str) -> str:
    escaped = "".join(_LATEX_SPECIAL.get(letter, letter) for letter in text)
    return re.sub(r"(?<!\w)-(?=\d)", "$-$", escaped)  # a hyphen is no minus
