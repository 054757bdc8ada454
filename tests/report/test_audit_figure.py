"""The figure of an audit: which panels it has, with and without references, and that it is the same for the same rows."""

from typing import Any

import matplotlib.figure
import pytest

from nnunet_partial.report.audit_figure import draw_audit

UNKNOWN = ("precision", "recall", "auc", "threshold_lowest", "threshold_median", "dice")
CLASSES = (
    *("liver", "spleen", "kidney_left", "kidney_right", "stomach", "gallbladder", "esophagus", "pancreas", "aorta", "postcava"),
    *("portal_and_splenic_vein", "adrenal_gland_left", "adrenal_gland_right"),
)


def row(number: int, name: str, source: str = "all", **known: Any) -> dict[str, Any]:
    counts = {"voxels_added": 1234567 // number if number else 0, "cases_touched": 12 * (number > 0)}
    return {"round": number, "class": name, "source": source, **dict.fromkeys(UNKNOWN), **counts, **known}


def audit(classes: tuple[str, ...], rounds: int = 3, *, judged: bool, dice: bool = True) -> list[dict[str, Any]]:
    rows = []
    for number in range(rounds + 1):
        measured = {"dice": 0.6 + 0.05 * number} if dice else {}
        ranked = {"threshold_lowest": 0.9 - 0.1 * number, "threshold_median": 0.95 - 0.05 * number} if number else {}
        truth = {"precision": 0.95 - 0.04 * number, "recall": 0.2 * number, "auc": 0.85} if judged and number else {}
        rows += [row(number, name, **measured, **ranked, **truth) for name in (*classes, "mean")]
        rows.append(row(number, classes[0], "somewhere", voxels_added=5))
    return rows


@pytest.fixture
def drawn(monkeypatch) -> list[matplotlib.figure.Figure]:
    """The figures that are saved."""
    figures, save = [], matplotlib.figure.Figure.savefig

    def keep(figure, *args, **options):
        figures.append(figure)
        save(figure, *args, **options)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", keep)
    return figures


def titles(figure: matplotlib.figure.Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


@pytest.mark.parametrize("classes", [CLASSES[:1], CLASSES[:7], CLASSES])
def test_with_references(classes, tmp_path, drawn):
    draw_audit(audit(classes, judged=True), tmp_path / "audit.png")
    assert (tmp_path / "audit.png").read_bytes().startswith(b"\x89PNG")
    assert titles(drawn[0]) == ["Dice after the round", "relabelling", "voxels added", "AUC of the criterion"]
    assert len(drawn[0].axes) == 4 * (len(classes) + 1)
    names = [axes.get_ylabel() for axes in drawn[0].axes[::4]]
    assert names == ["all classes", *(name.replace("_", " ") for name in classes)]
    precision, recall = drawn[0].axes[5].lines
    assert precision.get_xydata().tolist() == [[number, pytest.approx(0.95 - 0.04 * number)] for number in (1, 2, 3)]
    assert recall.get_ydata()[-1] == pytest.approx(0.6)
    assert [bar.get_height() for bar in drawn[0].axes[6].patches] == [0, 1234567, 617283, 411522]
    assert [text.get_text() for text in drawn[0].axes[6].texts] == ["", "1.23M", "617k", "412k"]


def test_without_references(tmp_path, drawn):
    draw_audit(audit(CLASSES[:2], judged=False), tmp_path / "audit.png")
    assert titles(drawn[0]) == ["Dice after the round", "voxels added", "lowest confidence added", "cases relabelled"]
    draw_audit(audit(CLASSES[:2], judged=False, dice=False), tmp_path / "audit.png")
    assert titles(drawn[1]) == ["voxels added", "lowest confidence added", "cases relabelled"]


def test_what_is_unknown_is_said(tmp_path, drawn):
    rows = audit(CLASSES[:2], judged=True)
    for entry in rows:
        if entry["class"] == "spleen":
            entry |= {"precision": None, "recall": None, "voxels_added": 0}
    draw_audit(rows, tmp_path / "audit.png")
    _, relabelling, voxels, _ = drawn[0].axes[8:]
    assert [text.get_text() for text in relabelling.texts] == ["unknown"]
    assert [text.get_text() for text in voxels.texts if text.get_text()] == ["none"]


def test_many_rounds_have_few_numbers(tmp_path, drawn):
    draw_audit(audit(CLASSES[:1], rounds=40, judged=False), tmp_path / "audit.png")
    bars = drawn[0].axes[1]
    assert [text.get_text() for text in bars.texts if text.get_text()] == ["1.23M", "30.9k"]
    assert len(bars.get_xticks()) <= 10


def test_human_labels_alone(tmp_path, drawn):
    draw_audit(audit(CLASSES[:2], rounds=0, judged=False), tmp_path / "audit.png")
    assert titles(drawn[0]) == ["Dice after the round", "voxels added", "cases relabelled"]


def test_same_rows_same_bytes(tmp_path):
    for name in ("a.png", "b.png"):
        draw_audit(audit(CLASSES[:2], judged=True), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_nothing_to_draw(tmp_path):
    with pytest.raises(ValueError, match="no row over all sources to draw; audit a round first"):
        draw_audit([row(1, "liver", "somewhere")], tmp_path / "audit.png")


def test_fonts_of_the_process_do_not_show(tmp_path):
    """nnU-Net sets a seaborn style with fonts of 2.5 times the size when a training ends."""
    rows = audit(CLASSES[:2], judged=True)
    draw_audit(rows, tmp_path / "plain.png")
    with matplotlib.rc_context({"font.size": 30, "axes.labelsize": 30, "axes.facecolor": "red"}):
        draw_audit(rows, tmp_path / "within.png")
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "within.png").read_bytes()
