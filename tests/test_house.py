"""Imports go down the house only, and the ground floor stays light (docs/design.md)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {
    "labels": set(),
    "targets": {"labels"},
    "losses": {"targets", "labels"},
    "evaluation": {"labels"},
    "report": {"evaluation", "labels", "paths"},
    "training": {"losses", "targets", "networks", "evaluation", "report", "labels", "paths"},
    "networks": set(),
    "pseudo_labels": {"training", "losses", "targets", "networks", "evaluation", "report", "labels", "paths"},
    "trainers": {"training", "losses", "targets", "networks", "labels"},
    "planners": {"training", "targets", "paths", "labels"},
    "dataset_conversion": {"labels", "paths"},
}
WITHOUT_HOST = ("labels", "targets", "losses", "networks", "evaluation", "report")
WITHOUT_TORCH = ("labels", "dataset_conversion", "evaluation", "report")
STREET = ("trainers", "planners", "dataset_conversion")


def modules(room: str) -> list[Path]:
    folder = ROOT / room if room in STREET else ROOT / "nnunet_partial" / room
    return sorted(folder.rglob("*.py"))


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide which room a name comes from"
            names.add(node.module)
    return names


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_down(room):
    assert modules(room)
    for path in modules(room):
        rooms = {name.split(".")[1] for name in imported(path) if name.startswith("nnunet_partial.")} - {room}
        assert rooms <= ROOMS[room], f"{path.relative_to(ROOT)} imports {sorted(rooms - ROOMS[room])}"


@pytest.mark.parametrize("room", WITHOUT_HOST)
def test_rooms_that_do_not_know_nnunet(room):
    assert not [path.name for path in modules(room) if any(name.split(".")[0] == "nnunetv2" for name in imported(path))]


@pytest.mark.parametrize("room", WITHOUT_TORCH)
def test_rooms_that_do_not_know_torch(room):
    assert not [path.name for path in modules(room) if any(name.split(".")[0] == "torch" for name in imported(path))]


def test_help_imports_neither_torch_nor_nnunet():
    code = (
        "import sys; from nnunet_partial.cli import build_parser; build_parser().format_help(); "
        "heavy = {'torch', 'nnunetv2', 'SimpleITK', 'pandas', 'matplotlib', 'jinja2'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_data_files_are_packaged():
    call = next(
        node
        for node in ast.walk(ast.parse((ROOT / "setup.py").read_text(encoding="utf-8")))
        if isinstance(node, ast.keyword) and node.arg == "package_data"
    )
    patterns = ast.literal_eval(call.value)["nnunet_partial"]
    package = ROOT / "nnunet_partial"
    packaged = {path for pattern in patterns for path in package.glob(pattern)}
    data = {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert not data - packaged


def test_no_junk_drawers():
    names = {path.stem for path in ROOT.rglob("*.py") if ".venv" not in path.parts}
    assert not names & {"utils", "util", "misc", "helpers", "common"}
