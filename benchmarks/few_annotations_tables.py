"""The tables of `benchmarks.few_annotations`, after tables II and IV of Shi et al. 2022 (CoraNet).

A fold's figure is the mean over organs of the mean over its validation cases; tables give mean and sample standard deviation over
folds, and compare methods case by case.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.differences import EXPLAINED, Difference, differences_table
from benchmarks.markdown import markdown_table, mean_and_spread, missing_folds
from nnunet_partial.labels import replacing

FIGURES = {"Dice": ("Dice", 100), "Precision": ("precision", 100), "Recall": ("recall", 100), "HD95_mm": ("HD95 (mm)", 1)}
KEYS = ["method", "fold", "case", "class"]
ABLATION = {  # method -> its name in the paper
    "seg": "seg",
    "st": "seg + st",
    "st_mask": "seg + st (mask)",
    "mt": "seg + mt",
    "mt_mask": "seg + mt (mask)",
    "coranet": "CoraNet",
}
PEERS = ("mean_teacher", "uncertainty_aware", "pi_model", "entropy", "adversarial", "prior_aware", "coranet")
COMPARED = (
    *(("supervised", method) for method in ("all_annotated", *PEERS)),
    *((peer, "coranet") for peer in PEERS[:-1]),
    *(("seg", method) for method in ABLATION if method != "seg"),
    ("st", "st_mask"),
    ("mt", "mt_mask"),
    *((method, "coranet") for method in ("st", "st_mask", "mt", "mt_mask")),
)
METHODS_TEXT = """## Methods (after table II)

Dice, precision and recall in %; mean over organs (± standard deviation over folds). Of an organ that a network does not find,
Dice and recall are 0, and precision and HD95 do not exist."""
ABLATION_TEXT = """## Ablation (after table IV)

The same. All six go on from one pretraining in each fold."""
ORGANS_TEXT = """## Organs

Dice, % (± standard deviation over folds)."""
DIFFERENCES_TEXT = f"""## Paired differences

Each case's mean Dice over the organs, first minus second, in points: {EXPLAINED}"""


def write_tables(rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Write results.csv and tables.md, and print the tables.

    Args:
        rows: Every figure of every case and organ.
        out: Where the files go.
    """
    if not rows:
        raise SystemExit(f"there are no predictions in {out} yet")
    frame = pd.DataFrame(rows, columns=[*KEYS, *FIGURES])
    with replacing(out / "results.csv") as temporary:
        frame.to_csv(temporary, index=False, float_format="%.5g")
    peers = frame[~frame["method"].isin([method for method in ABLATION if method != "coranet"])]
    parts = [METHODS_TEXT, figures_table(peers, {})]
    if len(ablation := frame[frame["method"].isin(ABLATION)]):
        parts += [ABLATION_TEXT, figures_table(ablation, ABLATION)]
    parts += [ORGANS_TEXT, organs_table(frame), DIFFERENCES_TEXT, method_differences(frame)]
    text = "\n\n".join(parts) + "\n"
    with replacing(out / "tables.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text)


def figures_table(frame: pd.DataFrame, names: Mapping[str, str]) -> str:
    """Rows methods, columns figures."""
    by_class = frame.groupby(["method", "fold", "class"], sort=False)[list(FIGURES)].mean()
    folds = by_class.groupby(["method", "fold"], sort=False).mean()
    rows = [
        [names.get(method, method), *(mean_and_spread(folds.loc[method, name], FIGURES[name][1]) for name in FIGURES)]
        for method in folds.index.unique("method")
    ]
    return markdown_table(["method", *(title for title, _ in FIGURES.values())], rows, left=["method"]) + missing_folds(frame)


def organs_table(frame: pd.DataFrame) -> str:
    """Rows methods, columns organs."""
    organs = list(frame["class"].unique())
    folds = frame.groupby(["method", "fold", "class"], sort=False)["Dice"].mean().unstack("class")[organs]
    rows = [
        [method, *(mean_and_spread(folds.loc[method, organ], decimals=1) for organ in organs)]
        for method in folds.index.unique("method")
    ]
    return markdown_table(["method", *organs], rows, left=["method"])


def method_differences(frame: pd.DataFrame) -> str:
    """Pairs of methods, case by case."""
    cases = frame.groupby(["method", "case"], sort=False)["Dice"].mean()
    found = [
        Difference([f"{second} - {first}"], (cases.loc[second] - cases.loc[first]).dropna().to_numpy())
        for first, second in COMPARED
        if {first, second} <= set(frame["method"])
    ]
    return differences_table(["difference"], found, mean="Dice")
