"""Many cases: parts of the work, a cluster, memory and time that do not grow."""

import subprocess
import sys

import pytest
from native_sources import CLASSES, contents, write_btcv, write_kits19, write_pool

from nnunet_partial.dataset_conversion import ConversionError, ConvertOptions, convert_pool
from nnunet_partial.labels import Annotation, read_manifest


@pytest.fixture
def pool(tmp_path):
    write_btcv(tmp_path / "btcv", numbers=range(1, 5))
    write_kits19(tmp_path / "kits19", numbers=range(3))
    return write_pool(tmp_path / "pool.yaml", [{"source": "btcv", "path": "btcv"}, {"source": "kits19", "path": "kits19"}])


def convert(pool, root, **options):
    return convert_pool(pool, root, ConvertOptions(progress=False, **options))


def test_parts_in_any_order_make_the_dataset_of_one_run(pool, tmp_path, capsys):
    whole = contents(convert(pool, tmp_path / "whole"))
    for part_id in (2, 0):
        folder = convert(pool, tmp_path / "raw", part=(part_id, 3))
        assert not (folder / "dataset.json").exists()
    assert "cases of other parts are open" in capsys.readouterr().out
    assert contents(convert(pool, tmp_path / "raw", part=(1, 3))) == whole


def test_a_part_leaves_what_another_is_writing(pool, tmp_path):
    folder = convert(pool, tmp_path / "raw", part=(0, 2))
    others = folder / "labelsTr/.btcv_0002.nii.gz.77.tmp.nii.gz"
    others.write_bytes(b"half a file of part 1")
    convert(pool, tmp_path / "raw", part=(0, 2))
    assert others.exists()
    convert(pool, tmp_path / "raw")
    assert not others.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"part": (3, 3)}, "numbered from 0 to 2"),
        ({"num_processes": 0}, "at least one process"),
        ({"skip_bad": True, "part": (0, 2)}, "--skip-bad cannot be used for a part"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        ConvertOptions(**options)


def test_a_dask_cluster_converts_the_same_bytes(pool, tmp_path):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        folder = convert(pool, tmp_path / "raw", scheduler=cluster.scheduler_address)
    assert contents(folder) == contents(convert(pool, tmp_path / "whole"))


def test_a_cluster_that_does_not_answer(pool, tmp_path):
    pytest.importorskip("distributed")
    with pytest.raises(ConversionError, match=r"no Dask scheduler answers at 'tcp://127\.0\.0\.1:9'"):
        convert(pool, tmp_path / "raw", scheduler="tcp://127.0.0.1:9")


def test_images_nobody_annotated_become_cases_where_that_is_asked_for(tmp_path):
    root = write_btcv(tmp_path / "btcv", numbers=(1, 2))
    (root / "RawData/Training/label/label0002.nii.gz").unlink()
    folder = convert(
        write_pool(tmp_path / "pool.yaml", [{"source": "btcv", "path": "btcv", "unlabelled": "keep"}]), tmp_path / "raw"
    )
    manifest = read_manifest(folder / "label_manifest.json")
    annotation = manifest.annotation()
    assert [case.protocol for case in manifest.cases] == ["btcv", "btcv_unlabelled"]
    assert annotation.protocol_of("btcv_0002").labels == {}
    assert manifest.cases[1].label_counts == {0: 24 * 20 * 16}
    assert manifest.cases[1].absent == ()
    assert annotation == Annotation(space=manifest.space, protocols=annotation.protocols, cases=annotation.cases)
    assert annotation.annotated_cases(CLASSES[0], annotation.cases) == ["btcv_0001"]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_cases(tmp_path):
    """The peak of one process after 200 cases is that after 20, within a tenth."""
    code = (
        "import sys, resource; from pathlib import Path; from nnunet_partial.dataset_conversion import *; "
        "convert_pool(Path(sys.argv[1]), Path(sys.argv[2]), ConvertOptions(progress=False)); "
        "print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for count in (20, 200):
        write_btcv(tmp_path / f"btcv_{count}", numbers=range(1, count + 1))
        pool = write_pool(tmp_path / f"{count}.yaml", [{"source": "btcv", "path": f"btcv_{count}"}])
        run = subprocess.run(
            [sys.executable, "-c", code, pool, tmp_path / f"raw_{count}"], check=True, capture_output=True, text=True
        )
        peaks.append(int(run.stdout.split("peak")[1]))
    assert peaks[1] < 1.1 * peaks[0]
