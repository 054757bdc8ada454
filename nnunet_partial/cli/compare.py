"""`nnunet_partial compare`: are the differences between runs more than chance?"""

import argparse
import json
from pathlib import Path

from nnunet_partial.cli import help_formatter

DESCRIPTION = """\
Hold runs against the first one, class by class, over the cases that both have judged: paired differences with a bootstrap
confidence interval, Wilcoxon's signed-rank test with Holm's correction over all classes and runs, and the paired t-test. Cases
and values that cannot be paired are counted, never guessed."""

EPILOG = """\
a run is a summary.json, a folder that holds one, or the CSV or Parquet of `nnunet_partial evaluate`; NAME=PATH gives it a name

examples:
  nnunet_partial compare stock=PREDICTIONS_A ours=PREDICTIONS_B
  nnunet_partial compare a.csv b.csv c.csv --metric Dice HD95_mm NSD --markdown table.md --latex table.tex --csv table.csv"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "compare",
        help="paired statistics between evaluated runs",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=help_formatter(),
    )
    parser.add_argument("runs", nargs="+", metavar="[NAME=]RUN", help="the first is what the others are held against")
    parser.add_argument(
        "--metric", dest="metrics", nargs="+", default=["Dice"], metavar="METRIC", help="Dice (default), NSD, HD95_mm, ..."
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables as Markdown")
    parser.add_argument("--latex", type=Path, metavar="FILE", help="write the tables as LaTeX (booktabs)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write one row per metric, run and class")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON in place of the tables")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Read, compare, print, and say where the tables lie."""
    import pandas as pd

    from nnunet_partial.evaluation import compare_runs, latex_table, markdown_table, name_classes, read_run
    from nnunet_partial.labels import write_text

    named = [given.rpartition("=") for given in args.runs]
    runs = name_classes([read_run(Path(path), name or None) for name, _, path in named])
    comparisons = [compare_runs(runs, metric) for metric in args.metrics]
    rows = pd.concat([comparison.as_frame() for comparison in comparisons], ignore_index=True)
    markdown = "\n".join(map(markdown_table, comparisons))
    outputs = {
        args.markdown: markdown,
        args.latex: "\n".join(map(latex_table, comparisons)),
        args.csv: rows.to_csv(index=False),
    }
    for path, text in outputs.items():
        if path is not None:
            write_text(text, path)
    if args.json:
        unpaired = {comparison.metric: comparison.unpaired for comparison in comparisons}
        print(json.dumps({"rows": json.loads(rows.to_json(orient="records", double_precision=15)), "unpaired": unpaired}))
        return 0
    print(markdown, end="")
    written = [str(path) for path in outputs if path is not None]
    if written:
        print(f"\nwritten: {', '.join(written)}")
    return 0
