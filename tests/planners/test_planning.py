"""`nnunet_partial plan`: the block, the bounds, and preprocessing that goes on where it was stopped."""

import json
import shutil

import pytest
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from phantom_dataset import set_nnunet_folders

from nnunet_partial.cli import main
from nnunet_partial.planners import PLANNERS, describe_planners, preprocess
from nnunet_partial.planners.preprocess import preprocess_configuration
from nnunet_partial.training.settings import TrainingSettings

DATASET = "Dataset701_Small"


@pytest.fixture
def root(small_dataset, tmp_path, monkeypatch):
    shutil.copytree(small_dataset, tmp_path / "nnunet")
    return set_nnunet_folders(tmp_path / "nnunet", monkeypatch)


def plans_of(root, name="nnUNetPlans"):
    return json.loads((root / "nnUNet_preprocessed" / DATASET / f"{name}.json").read_text(encoding="utf-8"))


def states(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


class TestPlans:
    def test_the_block_has_every_setting(self, root):
        block = plans_of(root)["partial"]
        assert TrainingSettings(**block).num_epochs == 2
        assert block["optimizer"] == "adamw"  # the tiny planner's own
        assert block["weight_exclusion"] == 2

    def test_tiny_is_tiny(self, root):
        configuration = plans_of(root)["configurations"]["3d_fullres"]
        assert all(edge <= bound for edge, bound in zip(configuration["patch_size"], (32, 48, 48), strict=True))
        assert min(configuration["spacing"]) >= 5
        assert configuration["architecture"]["arch_kwargs"]["features_per_stage"][0] == 8
        assert configuration["median_image_size_in_voxels"] == [24, 24, 24]

    @pytest.mark.parametrize(("planner", "name"), [("shi2021", "nnUNetPlans"), ("resenc_m", "nnUNetResEncUNetMPlans")])
    def test_other_planners(self, root, planner, name):
        assert main(["plan", "-d", DATASET, "-pl", planner, "--no_pp", "-np", "1"]) == 0
        plans = plans_of(root, name)
        assert plans["partial"]["stage_one_epochs"] == (120 if planner == "shi2021" else 0)
        if planner == "shi2021":
            assert plans["configurations"]["3d_fullres"]["spacing"] == [3.0, 1.5, 1.5]
        assert plans["image_reader_writer"] == "SimpleITKIO"  # everything used at prediction time keeps the host's names
        assert plans["label_manager"] == "LabelManager"

    def test_spacing_and_name_can_be_chosen(self, root):
        spacing = ["-overwrite_target_spacing", "6", "6", "6", "-overwrite_plans_name", "mine"]
        assert main(["plan", "-d", "701", "--tiny", "--no_pp", "-np", "1", *spacing]) == 0
        assert plans_of(root, "mine")["configurations"]["3d_fullres"]["spacing"] == [6, 6, 6]

    def test_every_planner_is_described(self):
        assert all(name in describe_planners() for name in PLANNERS)

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--set", "num_epoch=3"], "did you mean 'num_epochs'"),
            (["--set", "sampling=fair"], "sampling"),
            (["--tiny", "-pl", "resenc_l"], "contradict"),
            (["--tiny", "-c", "3d_lowres"], "configuration '3d_lowres' is not in"),
        ],
    )
    def test_refuses(self, root, capsys, arguments, words):
        assert main(["plan", "-d", "701", "-np", "1", *arguments]) == 1
        assert words in capsys.readouterr().err

    def test_a_dataset_that_is_not_there(self, root, capsys):
        assert main(["plan", "-d", "702"]) == 1
        assert "702" in capsys.readouterr().err

    def test_settings_are_listed_without_a_dataset(self, capsys):
        with pytest.raises(SystemExit) as stopped:
            main(["plan", "--list-settings"])
        assert stopped.value.code == 0
        assert "num_epochs" in capsys.readouterr().out


class TestPreprocessing:
    @pytest.fixture
    def folders(self, root):
        preprocessed = root / "nnUNet_preprocessed" / DATASET
        return root / "nnUNet_raw" / DATASET, preprocessed, preprocessed / "nnUNetPlans_3d_fullres"

    def test_nnunet_takes_the_folder_for_its_own(self, folders):
        *_, folder = folders
        dataset = infer_dataset_class(str(folder))(str(folder))
        assert len(dataset.identifiers) == 9
        data, labels, _, properties = dataset.load_case("full_00")
        assert data.shape == labels.shape
        assert set(properties["class_locations"]) == {1, 2, 3}

    def test_a_rerun_does_only_what_is_missing(self, folders):
        raw, preprocessed, folder = folders
        preprocess_configuration(raw, preprocessed, "nnUNetPlans", "3d_fullres")  # the copied files have new times
        before = states(folder)
        (folder / "liver_01.pkl").unlink()  # it is written last: the case was not finished
        (folder / ".full_03.123.tmp").mkdir()
        preprocess_configuration(raw, preprocessed, "nnUNetPlans", "3d_fullres")
        after = states(folder)
        assert set(after) == set(before)
        assert {name for name in after if after[name] != before[name]} == {"liver_01.b2nd", "liver_01_seg.b2nd", "liver_01.pkl"}

    def test_a_changed_case_is_made_again(self, folders):
        raw, preprocessed, folder = folders
        preprocess_configuration(raw, preprocessed, "nnUNetPlans", "3d_fullres")
        before = states(folder)
        label = raw / "labelsTr" / "kidney_02.nii.gz"
        label.write_bytes((raw / "labelsTr" / "kidney_05.nii.gz").read_bytes())
        preprocess_configuration(raw, preprocessed, "nnUNetPlans", "3d_fullres")
        assert {name.split(".")[0] for name, time in states(folder).items() if time != before[name]} == {
            "kidney_02",
            "kidney_02_seg",
        }
        assert (preprocessed / "gt_segmentations" / label.name).read_bytes() == label.read_bytes()

    def test_another_spacing_makes_all_again_another_network_none(self, folders):
        raw, preprocessed, folder = folders
        preprocess_configuration(raw, preprocessed, "nnUNetPlans", "3d_fullres")
        before = states(folder)
        plans_file = preprocessed / "nnUNetPlans.json"
        plans = json.loads(plans_file.read_text(encoding="utf-8"))
        plans["configurations"]["3d_fullres"]["batch_size"] = 7
        plans_file.write_text(json.dumps(plans))
        preprocess_configuration(raw, preprocessed, "nnUNetPlans", "3d_fullres")
        assert states(folder) == before
        plans["configurations"]["3d_fullres"]["spacing"] = [6.0, 6.0, 6.0]
        plans_file.write_text(json.dumps(plans))
        preprocess_configuration(raw, preprocessed, "nnUNetPlans", "3d_fullres")
        assert all(time != before[name] for name, time in states(folder).items())

    def test_all_faulty_cases_are_named_and_the_others_kept(self, folders):
        raw, preprocessed, folder = folders
        for key in ("full_00", "liver_01"):
            (raw / "imagesTr" / f"{key}_0000.nii.gz").write_bytes(b"no image")
        with pytest.raises(RuntimeError, match=r"preprocessing 3d_fullres: 2 of \d cases failed(.|\n)*full_00(.|\n)*liver_01"):
            preprocess_configuration(raw, preprocessed, "nnUNetPlans", "3d_fullres")
        assert (folder / "kidney_02.pkl").exists()
        assert not (folder / "full_00.pkl").exists()

    def test_parts_are_those_of_the_host(self, folders):
        assert {path.name.removeprefix("full_00") for path in folders[2].glob("full_00*")} == set(preprocess.PARTS)
