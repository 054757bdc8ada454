"""The demonstration's numbers: one structure, as Markdown and for the terminal."""

from typing import Any

from nnunet_partial.labels import Annotation

HEADINGS = {"naive": "stock nnU-Net", "ours": "nnunet_partial"}

NOTE = """\
Dice on {held_out} held-out phantom cases against the full truth. Both networks have the same tiny plan, {training_cases} training
cases and {iterations} iterations. Stock nnU-Net (`nnUNetTrainerNaive`) takes every organ that nobody looked for in a case as
background; ours (`nnUNetTrainerMarginalExclusion`) leaves it open, and sees every source equally often. Phantoms show that the
method works, not how well it does on patients."""


def gather(summaries: dict[str, dict[str, Any]], annotation: Annotation, settings: dict[str, Any]) -> dict[str, Any]:
    """The numbers of the demonstration from the summary of each trainer.

    Args:
        summaries: Trainer's short name -> what `evaluate_folder` returns.
        annotation: Of the training dataset.
        settings: What the demonstration was run with.
    """
    classes = dict(enumerate(annotation.space.classes, 1))
    organs = {
        organ: {
            "annotated_cases": len(annotation.annotated_cases(organ, annotation.cases)),
            **{name: _rounded(summary["mean"][number]["Dice"]) for name, summary in summaries.items()},
        }
        for number, organ in classes.items()
    }
    cases: dict[str, dict[str, Any]] = {}
    for name, summary in summaries.items():
        for case in summary["metric_per_case"]:
            dice = {organ: _rounded(case["metrics"][number]["Dice"]) for number, organ in classes.items()}
            mean = _mean(list(dice.values()))
            cases.setdefault(case["identifier"], {})[name] = {**dice, "mean": mean}
    return {
        "training_cases": len(annotation.cases),
        "settings": settings,
        "organs": organs,
        "mean": {name: _mean([organ[name] for organ in organs.values()]) for name in summaries},
        "cases": cases,
    }


def rows(results: dict[str, Any]) -> list[list[str]]:
    """Heading, one row an organ, and the mean."""
    names = list(results["mean"])
    heading = ["organ", "annotated in", *(HEADINGS.get(name, name) for name in names)]
    body = [
        [organ, f"{numbers['annotated_cases']} of {results['training_cases']}", *(_text(numbers[name]) for name in names)]
        for organ, numbers in results["organs"].items()
    ]
    return [heading, *body, ["mean", "", *(_text(results["mean"][name]) for name in names)]]


def as_markdown(results: dict[str, Any]) -> str:
    """The table with a note on what was compared."""
    heading, *body = rows(results)
    lines = [heading, ["---", "---:", *["---:"] * (len(heading) - 2)], *body]
    settings = results["settings"]
    note = NOTE.format(
        held_out=settings["held_out"],
        training_cases=results["training_cases"],
        iterations=settings["num_epochs"] * settings["num_iterations_per_epoch"],
    )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{note}\n"


def as_text(results: dict[str, Any]) -> str:
    """The table for a terminal."""
    lines = rows(results)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines]
    rule = "─" * len(texts[0])
    return "\n".join(["Dice on held-out phantoms, full truth", "", texts[0], rule, *texts[1:-1], rule, texts[-1]])


def _rounded(dice: float) -> float | None:
    return None if dice != dice else round(float(dice), 4)  # NaN, where neither truth nor prediction has the organ


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 4) if known else None


def _text(dice: float | None) -> str:
    return "–" if dice is None else f"{dice:.2f}"
