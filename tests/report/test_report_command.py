"""`nnunet_partial report` and `predict-preview`: what the page says, that it is one file, and what they refuse."""

import html
import re
import shutil
import struct

import pytest
from phantom_dataset import set_nnunet_folders

from nnunet_partial.cli import main
from nnunet_partial.labels import write_json
from nnunet_partial.pseudo_labels.files import RunFiles


def text_of(page):
    """The words of a page, without scripts, styles, charts and tags."""
    content = page.read_text(encoding="utf-8")
    content = re.sub(r"<(style|script)\b.*?</\1>", " ", content, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", content)))


def test_the_page_says_what_was_measured(report_page):
    text = text_of(report_page)
    assert "cases judged 9 validation, fold 0" in text
    assert "nnUNetTrainerMarginalExclusion · 3d_fullres · nnUNetPlans" in text
    assert re.search(r"liver 6 0\.\d{3} \[0\.\d\d, 0\.\d\d\]", text)  # looked for in 6 of 9 cases
    assert re.search(r"kidney left\+kidney right 3 0\.\d{3} \[", text)
    assert "nobody looked for" in text
    assert "fold 0: 1 epochs" in text
    assert "kept it by class only" in text
    assert "nnunet_partial plan -d 701 -pl tiny --set num_epochs=1 sampling=sqrt" in text
    assert "nnUNetv2_train 701 3d_fullres 0 -tr nnUNetTrainerMarginalExclusion -p nnUNetPlans" in text
    assert "as kidney left + kidney right" in text  # coverage of the source that knows no side
    assert "2000 resamples, seed 0" in text


def test_nothing_is_fetched_from_anywhere(report_page):
    for page in (report_page, *report_page.parent.glob("report_viewer/*.html")):
        content = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:link|script|img|iframe)[^>]*?\b(?:src|href)="([^"]*)"', content)
        assert all(target.startswith("data:") or target == "niivue-0.69.0.umd.js" for target in loaded)
        assert "@import" not in content
        assert "url(http" not in content


def test_links_lead_somewhere(report_page):
    pages = sorted(report_page.parent.glob("report_viewer/*.html"))
    assert len(pages) == 9
    for page in (report_page, *pages):
        content = page.read_text(encoding="utf-8")
        for target in re.findall(r'<a href="([^"]*)"', content):
            if target.startswith("#"):
                assert f'id="{target[1:]}"' in content
            else:
                assert (page.parent / target).is_file()
    assert (report_page.parent / "report_viewer" / "niivue-0.69.0.umd.js").stat().st_size > 1_000_000
    assert "BSD 2-Clause" in (report_page.parent / "report_viewer" / "niivue-LICENSE.txt").read_text(encoding="utf-8")
    assert "nifti-reader-js" in (report_page.parent / "report_viewer" / "niivue-THIRD-PARTY-LICENSES.txt").read_text(
        encoding="utf-8"
    )


def test_ids_are_unique(report_page):
    found = re.findall(r'\bid="([^"]+)"', report_page.read_text(encoding="utf-8"))
    assert len(found) == len(set(found))


def test_same_run_same_bytes(report_page, run_root, tmp_path, capsys):
    again = tmp_path / "report.html"
    assert main(["report", "-d", "701", "-o", str(again), "--worst", "1", "--viewer"]) == 0
    assert str(again) in capsys.readouterr().out
    assert again.read_bytes() == report_page.read_bytes()
    viewer = "report_viewer/full_00.html"
    assert (tmp_path / viewer).read_bytes() == (report_page.parent / viewer).read_bytes()


def test_any_metric_is_shown_and_without_pictures_no_image_is_needed(run_root, tmp_path):
    predictions = tmp_path / "predictions"
    shutil.copytree(run_root / "nnUNet_results", tmp_path / "results")
    shutil.copytree(next((tmp_path / "results").rglob("validation")), predictions)
    summary = predictions / "summary.json"
    summary.write_text(summary.read_text(encoding="utf-8").replace('"IoU":', '"HD95_mm":'))
    assert main(["report", "-d", "701", "-i", str(predictions), "--images", str(tmp_path), "--worst", "0"]) == 0
    page = predictions / "report.html"
    assert "HD95 mm" in text_of(page)
    assert 'aria-label="box HD95_mm"' in page.read_text(encoding="utf-8")
    assert "No pictures were asked for" in text_of(page)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["-tr", "nnUNetTrainerOther"], "not trained: .*; trained are nnUNetTrainerMarginalExclusion__"),
        (["-f", "0", "3"], "no finished validation in fold 3"),
        (["--images", "nowhere"], r"3 files that the pictures need are not there .*--worst 0\):\n  - nowhere"),
        (["--worst", "-1"], "cannot be negative"),
        (["-i", "nowhere"], "there is no nowhere/summary.json; make it with `nnunet_partial evaluate`"),
        (["-o", "nowhere/report.html"], "there is no folder .*nowhere"),
    ],
)
def test_refusals(arguments, complaint, run_root, capsys):
    assert main(["report", "-d", "701", *arguments]) == 1
    assert re.search(complaint, capsys.readouterr().err, flags=re.DOTALL)


class TestPredictPreview:
    def test_a_picture_a_case(self, finished_run, tmp_path, capsys):
        predictions = tmp_path / "predictions"
        predictions.mkdir()
        validation = next((finished_run / "nnUNet_results").rglob("validation"))
        for name in ("dataset.json", "full_00.nii.gz"):
            shutil.copy(validation / name, predictions)
        images = next((finished_run / "nnUNet_raw").rglob("imagesTr"))
        assert main(["predict-preview", "-i", str(predictions), "--images", str(images)]) == 0
        assert f"1 pictures in {predictions / 'previews'}" in capsys.readouterr().out
        content = (predictions / "previews" / "full_00.png").read_bytes()
        width, height = struct.unpack(">II", content[16:24])
        assert width == 1100
        assert 300 < height < 600

    def test_refusals(self, finished_run, tmp_path, capsys):
        assert main(["predict-preview", "-i", str(tmp_path)]) == 1
        assert "has no dataset.json" in capsys.readouterr().err
        validation = next((finished_run / "nnUNet_results").rglob("validation"))
        assert main(["predict-preview", "-i", str(validation), "-o", str(tmp_path / "out")]) == 1
        assert "name their folder with --images" in capsys.readouterr().err
        assert main(["predict-preview", "-i", str(validation), "--images", str(tmp_path)]) == 1
        assert "9 images are not there" in capsys.readouterr().err


def test_rounds_of_pseudo_labels(finished_run, tmp_path, monkeypatch):
    """A run's audit stands in the report of its fold; one without references has no columns for what nobody knows."""
    shutil.copytree(finished_run, tmp_path / "root")
    set_nnunet_folders(tmp_path / "root", monkeypatch)
    fold = next((tmp_path / "root" / "nnUNet_results").glob("*/*/fold_0"))
    base = {"class": "mean", "source": "all", "cases_touched": 3, "voxels_added": 4321, "share_added": 0.5, "dice": 0.625}
    judged = {"precision": 0.75, "recall": 0.25, "auc": 0.875}
    audits = {"confidence": {**base, **judged}, "mcp": {**base, **dict.fromkeys(judged)}}
    for name, row in audits.items():
        run = RunFiles(fold, tmp_path, name)
        run.results.mkdir(parents=True)
        rows = [{**row, "round": 0}, {**row, "round": 1}, {**row, "round": 1, "class": "liver"}]
        write_json({"rows": rows}, run.results / "audit.json")
        write_json({"arguments": {"criterion": name}}, run.description)
        (run.results / "audit.png").write_bytes(b"picture")
    assert main(["report", "-d", "701", "-o", str(tmp_path / "report.html"), "--worst", "0"]) == 0
    text = text_of(tmp_path / "report.html")
    assert "Pseudo-label rounds" in text
    assert (
        'run "confidence" round cases relabelled voxels added labelled of predicted precision recall AUC validation Dice' in text
    )
    assert "1 3 4321 0.500 0.750 0.250 0.875 0.625" in text
    assert 'run "mcp" round cases relabelled voxels added labelled of predicted validation Dice' in text
    assert (tmp_path / "report.html").read_text(encoding="utf-8").count("data:image/png;base64,cGljdHVyZQ==") == 2


def test_without_rounds_nothing_is_said_of_them(report_page):
    assert "Pseudo-label" not in text_of(report_page)
