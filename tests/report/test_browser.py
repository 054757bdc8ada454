"""The pages in a browser: no complaint on the console, the viewer draws, both themes are readable."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH (Debian: apt-get install chromium)")
GRAPHICS = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--virtual-time-budget=20000")


def look_at(page: Path, folder: Path, *options: str) -> tuple[np.ndarray, list[str]]:
    """A screenshot in [0, 1] and what was said on the console."""
    picture = folder / "screenshot.png"
    command = [CHROMIUM, "--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=900,700", "--enable-logging=stderr"]
    command += [f"--user-data-dir={folder / 'profile'}", f"--screenshot={picture}", *options, page.as_uri()]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300)
    said = [line for line in process.stderr.splitlines() if "CONSOLE" in line]
    assert picture.is_file(), process.stderr[-2000:]
    return imread(picture)[..., :3], said


def test_the_report_opens_without_a_complaint_in_light_and_dark(report_page, tmp_path):
    light, said = look_at(report_page, tmp_path, "--disable-gpu")
    assert said == []
    dark, said = look_at(report_page, tmp_path, "--disable-gpu", "--blink-settings=preferredColorScheme=0")
    assert said == []
    assert light[5, 5].min() > 0.9
    assert dark[5, 5].max() < 0.15
    for picture in (light, dark):  # text stands out from its background
        assert np.ptp(picture.mean(axis=2)) > 0.8


def test_the_console_is_heard(report_page, tmp_path):
    broken = tmp_path / "broken.html"
    broken.write_text(report_page.read_text(encoding="utf-8") + "<script>nothing.at.all()</script>", encoding="utf-8")
    _, said = look_at(broken, tmp_path, "--disable-gpu")
    assert len(said) == 1
    assert re.search("nothing is not defined", said[0])


def test_the_viewer_draws_image_and_overlay(report_page, tmp_path):
    page = report_page.parent / "report_viewer" / "full_00.html"
    picture, said = look_at(page, tmp_path, *GRAPHICS)
    assert said == []
    stage = picture[250:]
    grey = np.ptp(stage, axis=2) < 0.02
    assert (grey & (stage[..., 0] > 0.2)).mean() > 0.05, "no image is drawn"
    orange = (stage[..., 0] > 0.35) & (stage[..., 0] - stage[..., 2] > 0.15)
    assert orange.mean() > 0.002, "the reference's liver is not drawn"
