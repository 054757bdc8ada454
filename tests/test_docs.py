"""What the documentation says about options is what the code does."""

from pathlib import Path

import pytest

from nnunet_partial.cli import COMMANDS, main
from nnunet_partial.dataset_conversion import SOURCES
from nnunet_partial.dataset_conversion.label_plan import own_classes
from nnunet_partial.planners import PLANNERS
from nnunet_partial.pseudo_labels.audit_rows import COLUMNS
from nnunet_partial.training.settings import TrainingSettings

ROOT = Path(__file__).parents[1]


def test_every_setting_and_planner_is_in_the_training_page():
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    for name, field in TrainingSettings.model_fields.items():
        assert f"| `{name}` | {field.default} | {field.description} |" in page
    for name, planner in PLANNERS.items():
        assert f"| `{name}` | {planner.__doc__.splitlines()[0]} |" in page


def test_every_source_is_in_the_conversion_page():
    page = (ROOT / "docs" / "conversion.md").read_text(encoding="utf-8")
    for key, source in SOURCES.items():
        if key in ("msd", "nnunet_raw"):  # they say their own labels and licence
            row = f"| `{key}` | `{source.layout}` | as dataset.json says | as stated by its dataset.json |"
        elif key == "totalsegmentator":  # 117 names are too many for a table
            row = f"| `{key}` | `{source.layout}` | the {len(source.labels(ROOT))} of TotalSegmentator v2"
        else:
            classes = ", ".join(own_classes(source.labels(ROOT), "separate"))
            row = f"| `{key}` | `{source.layout}` | {classes} | {source.licence(ROOT)} |"
        assert row in page


def test_every_column_of_an_audit_is_in_the_page_of_rounds():
    table = (ROOT / "docs" / "rounds.md").read_text(encoding="utf-8").split("## Audit")[1].split("## ")[0]
    assert not [name for name in COLUMNS if name not in ("round", "class", "source") and f"`{name}`" not in table]


def test_links_of_the_readme_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = [part.split(")")[0] for part in text.split("](")[1:]]
    missing = [target for target in targets if not target.startswith("http") and not (ROOT / target.split("#")[0]).exists()]
    assert not missing


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_of_every_command(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"] if command else ["--help"])
    assert stopped.value.code == 0
    assert len(capsys.readouterr().out.splitlines()) > 5
