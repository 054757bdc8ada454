"""Runs against each other: what is paired, what is left out, and the tables."""

import json
import math

import pandas as pd
import pytest

from nnunet_partial.evaluation import (
    Run,
    Tolerances,
    compare_runs,
    evaluate_folder,
    latex_table,
    markdown_table,
    name_classes,
    read_run,
    write_csv,
    write_parquet,
    write_summary,
)

NAN = float("nan")


def run_of(name: str, dice: dict[str, dict[str, float]], definitions: dict[str, str] | None = None) -> Run:
    """Identifier -> class -> Dice."""
    rows = [{"identifier": key, "class": organ, "Dice": value} for key, values in dice.items() for organ, value in values.items()]
    return Run(name, pd.DataFrame(rows).set_index(["identifier", "class"]), definitions or {})


FIRST = run_of("stock", {f"c{n}": {"liver": 0.5 + 0.01 * n, "big_spleen": 0.8 if n else NAN} for n in range(8)})
OTHER = run_of("ours", {f"c{n}": {"liver": 0.6 + 0.02 * n, "big_spleen": 0.8} for n in range(1, 9)})


def test_pairs_by_case_and_class():
    comparison = compare_runs([FIRST, OTHER])
    liver, spleen, mean = comparison.differences
    assert (liver.class_name, liver.cases, liver.one_sided) == ("liver", 7, 0)
    assert liver.difference == pytest.approx(sum(0.1 + 0.01 * n for n in range(1, 8)) / 7)
    assert liver.low < liver.difference < liver.high
    assert liver.wilcoxon_p == pytest.approx(2 / 2**7)
    assert liver.wilcoxon_holm_p == pytest.approx(2 * 2 / 2**7)  # two classes
    assert (spleen.difference, spleen.wilcoxon_p, spleen.wilcoxon_holm_p) == (0, 1, 1)
    assert mean.difference == pytest.approx(liver.difference / 2)
    assert math.isnan(mean.wilcoxon_holm_p)
    assert comparison.unpaired == {"ours": ["c0", "c8"]}


def test_a_value_on_one_side_only_is_left_out_and_counted():
    first = run_of("a", {"c1": {"liver": NAN}, "c2": {"liver": 0.5}, "c3": {"liver": NAN}})
    other = run_of("b", {"c1": {"liver": 0.9}, "c2": {"liver": 0.6}, "c3": {"liver": NAN}})
    liver = compare_runs([first, other]).differences[0]
    assert (liver.cases, liver.one_sided, liver.difference) == (1, 1, pytest.approx(0.1))
    assert "Cases in which only one of the two runs has a value are left out: liver 1." in markdown_table(
        compare_runs([first, other])
    )


def test_holm_is_over_all_runs():
    third = Run("third", OTHER.rows)
    rows = compare_runs([FIRST, OTHER, third]).differences
    assert [row.run for row in rows] == ["ours"] * 3 + ["third"] * 3
    assert rows[0].wilcoxon_holm_p == pytest.approx(4 * 2 / 2**7)


def test_tables():
    comparison = compare_runs([FIRST, OTHER])
    markdown, latex = markdown_table(comparison), latex_table(comparison)
    assert "| class | cases | stock | ours | difference |" in markdown
    assert "| liver | 7 | 0.5400 | 0.6800 | +0.1400* |" in markdown
    assert "2 cases are in one of the two runs only and are left out: c0, c8." in markdown
    assert r"big\_spleen & 7 & 0.8000 & 0.8000 & +0.0000" in latex
    assert r"95 \% CI" in latex
    assert latex.count(r"\begin{") == latex.count(r"\end{") == 2
    assert "_" not in latex.replace(r"\_", "")


def test_refuses():
    with pytest.raises(ValueError, match="needs two runs"):
        compare_runs([FIRST])
    with pytest.raises(ValueError, match="two runs are named stock; name them with NAME=PATH"):
        compare_runs([FIRST, FIRST])
    with pytest.raises(ValueError, match="run 'stock' has no metric 'NSD'; it has Dice"):
        compare_runs([FIRST, OTHER], "NSD")
    with pytest.raises(ValueError, match="have no case in common"):
        compare_runs([FIRST, run_of("b", {"else": {"liver": 1.0}})])
    with pytest.raises(ValueError, match="have no class in common"):
        compare_runs([FIRST, run_of("b", {"c1": {"lung": 1.0}})])
    unlike = [run_of(name, {"c1": {"liver": 1.0}}, {"Dice": name}) for name in "ab"]
    with pytest.raises(ValueError, match="Dice was not measured alike"):
        compare_runs(unlike)


def test_every_file_of_a_run_reads_alike(folders, annotation, tmp_path):
    summary = evaluate_folder(*folders, annotation, tolerances=Tolerances(3, {"liver": 1}))
    (tmp_path / "run").mkdir()
    write_summary(summary, tmp_path / "run" / "summary.json")
    write_csv(summary, annotation.space, tmp_path / "rows.csv")
    write_parquet(summary, annotation.space, tmp_path / "rows.parquet")
    runs = [read_run(tmp_path / name) for name in ("run", "rows.csv", "rows.parquet")]
    assert [run.name for run in runs] == ["run", "rows", "rows"]
    for run in runs:
        assert run.definitions == summary["definitions"]
        assert run.definitions["NSD"].endswith("tolerance 3 mm, liver 1 mm")
        pd.testing.assert_frame_equal(run.rows.sort_index(), runs[0].rows.sort_index(), check_dtype=False, check_index_type=False)
    assert runs[0].rows.loc[("kits_1", "kidney_left+kidney_right"), "Dice"] == pytest.approx(0.8)


def test_nnunets_own_summary(folders, annotation, tmp_path):
    summary = evaluate_folder(*folders, annotation)
    write_summary(summary, tmp_path / "summary.json")
    host = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    del host["class_names"], host["definitions"]
    for case in host["metric_per_case"]:
        del case["identifier"], case["source"], case["protocol"]
    (tmp_path / "host.json").write_text(json.dumps(host))
    runs = name_classes([read_run(tmp_path / "summary.json", "ours"), read_run(tmp_path / "host.json", "host")])
    rows = compare_runs(runs).differences
    assert [row.class_name for row in rows][-2] == "kidney_left+kidney_right"
    assert all(row.difference == 0 for row in rows)
    assert rows[0].cases == 2


def test_files_that_are_no_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="judge the predictions first"):
        read_run(tmp_path)
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    with pytest.raises(ValueError, match=r"a\.csv does not hold what `nnunet_partial evaluate` writes"):
        read_run(tmp_path / "a.csv")
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(ValueError, match=r"a summary\.json, a \.csv or a \.parquet"):
        read_run(tmp_path / "a.txt")
    (tmp_path / "b.csv").write_text("identifier,class,Dice\nc1,liver,1\nc1,liver,1\n")
    with pytest.raises(ValueError, match=r"listed twice, such as c1/liver"):
        read_run(tmp_path / "b.csv")
