"""The main job on real CT: five native layouts in, a trained model, stock prediction, evaluation."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

POOL = """\
dataset: {id: 500, name: Abdomen}
classes: [liver, spleen, pancreas, kidney_left, kidney_right]
sources:
  - {source: btcv, path: native/btcv}
  - {source: lits, path: native/lits, tumor: merge}
  - {source: tcia_pancreas, path: $NATIVE/tcia}
  - {source: msd, path: native/Task09_Spleen}
  - {source: kits19, path: native/kits19}
"""
TRAINER = "nnUNetTrainerMarginalExclusion"
UTF8 = {"encoding": "utf-8", "errors": "replace"}  # progress bars, whatever the locale


@pytest.fixture
def workplace(real_data, tmp_path):
    """The five native layouts, two cases each, and a shell environment for the commands."""
    script = real_data.parent / "tools" / "native_layouts.py"
    if not script.is_file():
        pytest.skip(f"no {script} to lay the CT out as five public datasets")
    subprocess.run([sys.executable, script, real_data / "btcv", tmp_path / "native", "--per-source", "2"], check=True)
    (tmp_path / "abdomen.yaml").write_text(POOL)
    folders = {name: str(tmp_path / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    for folder in folders.values():
        Path(folder).mkdir()
    few_workers = {"nnUNet_n_proc_DA": "0", "nnUNet_def_n_proc": "1", "nnUNet_compile": "f", "OMP_NUM_THREADS": "1"}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return tmp_path, {**os.environ, **folders, **few_workers, "NATIVE": str(tmp_path / "native"), "PATH": path}


def shell(command: str, workplace) -> str:
    folder, environment = workplace
    done = subprocess.run(
        ["bash", "-ec", command], cwd=folder, env=environment, capture_output=True, timeout=900, check=False, **UTF8
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_main_job(workplace):
    folder, environment = workplace
    shell("nnunet_partial convert abdomen.yaml -np 2", workplace)
    shell("nnUNetv2_extract_fingerprint -d 500 --verify_dataset_integrity -np 1", workplace)
    shell(
        "nnunet_partial plan -d 500 --tiny -np 2 --set num_epochs=2 num_iterations_per_epoch=3 num_val_iterations_per_epoch=1",
        workplace,
    )
    said = shell(f'eval "$(nnunet_partial env)"; nnUNetv2_train 500 3d_fullres 0 -tr {TRAINER} -device cpu', workplace)
    assert "left/right pairs: kidney_left/kidney_right" in said
    raw = folder / "nnUNet_raw" / "Dataset500_Abdomen"
    (folder / "in").mkdir()
    for key in ("btcv_0001", "tcia_pancreas_0001"):
        (folder / "in" / f"{key}_0000.nii.gz").symlink_to(raw / "imagesTr" / f"{key}_0000.nii.gz")
    predict = f"nnUNetv2_predict -d 500 -c 3d_fullres -f 0 -tr {TRAINER} -i in -o out -device cpu -npp 1 -nps 1"
    shell(f'eval "$(nnunet_partial env)"; {predict}', workplace)
    for key in ("btcv_0001", "tcia_pancreas_0001"):
        prediction, image = (
            nib.load(path) for path in (folder / "out" / f"{key}.nii.gz", raw / "imagesTr" / f"{key}_0000.nii.gz")
        )
        assert prediction.shape == image.shape
        np.testing.assert_allclose(prediction.affine, image.affine, atol=1e-3)
    means = json.loads(shell("nnunet_partial evaluate -d 500 -i out --json", workplace))
    assert means["annotated_cases"] == {"liver": 1, "spleen": 1, "pancreas": 2, "kidney_left": 1, "kidney_right": 1}
    shell(f"nnunet_partial export -d 500 -tr {TRAINER} -f 0 -o model.zip", workplace)
    elsewhere = {**environment, "nnUNet_results": str(folder / "elsewhere"), "nnUNet_extTrainer": ""}
    (folder / "elsewhere").mkdir()
    shell("nnUNetv2_install_pretrained_model_from_zip model.zip", (folder, elsewhere))
    stock = "nnUNetv2_predict -d 500 -c 3d_fullres -f 0 -i in -o stock -device cpu -npp 1 -nps 1"
    shell(stock, (folder, elsewhere))  # no -tr: the stock trainer, without our package in the search
    for key in ("btcv_0001", "tcia_pancreas_0001"):
        ours, theirs = (np.asarray(nib.load(folder / where / f"{key}.nii.gz").dataobj) for where in ("out", "stock"))
        assert np.array_equal(ours, theirs)


def test_stock_planning_serves_as_well(workplace):
    """`nnUNetv2_plan_and_preprocess` takes the converted dataset as it is, with its integrity check."""
    shell("nnunet_partial convert abdomen.yaml -np 2", workplace)
    check = "from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity as verify\n"
    check += "import os\nif __name__ == '__main__': verify(os.environ['nnUNet_raw'] + '/Dataset500_Abdomen', 1)"
    (workplace[0] / "check.py").write_text(check)
    assert "Done" in shell("python check.py", workplace)
