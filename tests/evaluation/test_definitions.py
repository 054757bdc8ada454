"""Every number that is written is explained where it is written, and in the documentation."""

from pathlib import Path

from nnunet_partial.evaluation import (
    DEFINITIONS,
    EMPTY_POLICY,
    METRIC_NAMES,
    SURFACE_NAMES,
    VOLUME_NAMES,
    Tolerances,
    evaluate_folder,
    write_csv,
)

PAGE = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")


def test_every_metric_has_a_definition_and_nothing_else_has():
    assert list(DEFINITIONS) == [*METRIC_NAMES, *VOLUME_NAMES, *SURFACE_NAMES]


def test_the_page_explains_every_metric_and_key():
    counts = ("FP", "TP", "FN", "TN", "n_pred", "n_ref")  # nnU-Net's own
    named = [*DEFINITIONS, "ECE", "Brier", "AUC", "AP_success", "AP_error", "reliability", "empty_cases", "per_protocol"]
    assert [name for name in named if f"`{name}`" not in PAGE and name not in counts] == []
    assert len(EMPTY_POLICY) == 4


def test_definitions_stand_above_the_rows_of_a_csv(folders, annotation, tmp_path):
    summary = evaluate_folder(*folders, annotation, tolerances=Tolerances(3))
    write_csv(summary, annotation.space, tmp_path / "rows.csv")
    lines = (tmp_path / "rows.csv").read_text(encoding="utf-8").splitlines()
    heads = [line for line in lines if line.startswith("# ")]
    assert [line.removeprefix("# ").split(": ")[0] for line in heads] == list(summary["mean"][1])
    assert next(line for line in heads if line.startswith("# HD95_mm")).count("directed 95th percentiles") == 1
    assert "tolerance 3 mm" in next(line for line in heads if line.startswith("# NSD"))
    assert lines[len(heads)].startswith("identifier,source,protocol,class,annotated,Dice")
