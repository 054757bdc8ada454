"""Scans that occur twice are found, recorded, dropped or merged."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from native_sources import voxels
from repeated_scans import write, write_repeated_scans

from nnunet_partial.dataset_conversion import ConversionError, ConvertOptions, convert_pool
from nnunet_partial.dataset_conversion.duplicates.deduplicate import drop_duplicates, merge_duplicates
from nnunet_partial.dataset_conversion.duplicates.known_overlaps import known_overlap
from nnunet_partial.dataset_conversion.duplicates.merge_cases import merge_labels, plan_merge
from nnunet_partial.dataset_conversion.duplicates.scan_groups import group_pairs, record_groups, with_recorded_scans
from nnunet_partial.dataset_conversion.duplicates.scan_hash import hash_scan
from nnunet_partial.dataset_conversion.duplicates.search import search_dataset
from nnunet_partial.labels import Annotation, AnnotationProtocol, DatasetRecord, LabelError, LabelSpace, read_manifest

GROUP = ("btcv_0001", "lits_1", "msd_spleen_1")
QUIET = ConvertOptions(progress=False)


@pytest.fixture(scope="module")
def converted(real_data, tmp_path_factory):
    """The pool file and its dataset, already searched once."""
    root = tmp_path_factory.mktemp("repeated")
    pool = write_repeated_scans(real_data, root)
    folder = convert_pool(pool, root / "raw", QUIET)
    return pool, folder, search_dataset(folder, num_processes=2, progress=False)


@pytest.fixture
def dataset(converted, tmp_path):
    return shutil.copytree(converted[1], tmp_path / converted[1].name, copy_function=shutil.copy2)


def identifiers(folder):
    return [case.identifier for case in read_manifest(folder / "label_manifest.json").cases]


@pytest.fixture
def scan():
    return np.random.default_rng(0).integers(-1000, 1000, (20, 24, 30)).astype(np.int16)


class TestHash:
    def test_exact_whatever_the_file_looks_like(self, scan, tmp_path):
        write(scan, (2, 2, 3), tmp_path / "a.nii")
        image = nib.Nifti1Image(scan.astype(np.float32), np.diag([2, 2, 3, 1.0]))
        image.affine[:3, 3] = 100, -50, 7
        nib.save(image.as_reoriented(np.array([[1, -1], [0, 1], [2, -1]])), tmp_path / "b.nii.gz")
        stored = nib.Nifti1Image(scan + 1024, image.affine)
        nib.save(stored, tmp_path / "c.nii")
        content = bytearray((tmp_path / "c.nii").read_bytes())
        content[112:120] = np.array([1, -1024], "<f4").tobytes()  # scl_slope, scl_inter
        (tmp_path / "c.nii").write_bytes(content)
        assert len({hash_scan(tmp_path / name, is_ct=True).voxels for name in ("a.nii", "b.nii.gz", "c.nii")}) == 1

    def test_one_voxel_differs(self, scan, tmp_path):
        changed = scan.copy()
        changed[3, 4, 5] += 1
        write(scan, (2, 2, 3), tmp_path / "a.nii")
        write(changed, (2, 2, 3), tmp_path / "b.nii")
        one, other = (hash_scan(tmp_path / name, is_ct=True) for name in ("a.nii", "b.nii"))
        assert one.voxels != other.voxels
        assert one.histogram != other.histogram

    def test_mirrored_voxels_have_the_same_histogram_only(self, scan, tmp_path):
        write(scan, (2, 2, 3), tmp_path / "a.nii")
        write(scan[::-1], (2, 2, 3), tmp_path / "b.nii")
        one, other = (hash_scan(tmp_path / name, is_ct=True) for name in ("a.nii", "b.nii"))
        assert one.histogram == other.histogram
        assert one.voxels != other.voxels


class TestSearch:
    def test_exact_and_near(self, converted):
        found = {(pair.first, pair.second): pair for pair in converted[2].pairs}
        assert found["btcv_0001", "msd_spleen_1"].kind == "exact"
        assert found["btcv_0001", "lits_1"].kind == "near"
        assert found["btcv_0001", "lits_1"].correlation > 0.98
        assert converted[2].groups == [GROUP]
        assert converted[2].in_words.startswith("4 cases, 3 of them in 1 groups")

    def test_held_out_scans(self, converted, real_data, tmp_path):
        image = nib.as_closest_canonical(nib.load(real_data / "btcv/img/img0002.nii.gz"))
        array = np.asarray(image.dataobj).astype(np.float32)
        noisy = array + np.random.default_rng(0).normal(0, 20, array.shape).astype(np.float32)
        write(noisy[::-1, :, :-8], image.header.get_zooms(), tmp_path / "mirrored.nii.gz")
        (tmp_path / "other.nii.gz").symlink_to((real_data / "btcv/img/img0003.nii.gz").resolve())
        found = search_dataset(converted[1], [tmp_path], progress=False)
        hits = [pair for pair in found.pairs if pair.held_out]
        assert [(pair.first, pair.second, pair.kind) for pair in hits] == [
            ("btcv_0002", str(tmp_path / "mirrored.nii.gz"), "near")
        ]
        assert found.groups == [GROUP]

    def test_cached_and_the_same_whatever_the_number_of_processes(self, dataset, converted, monkeypatch):
        shutil.rmtree(dataset / ".scan_hashes", ignore_errors=True)
        assert search_dataset(dataset, num_processes=1, progress=False) == converted[2]
        monkeypatch.setattr("nnunet_partial.dataset_conversion.duplicates.scan_cache.hash_scan", None)
        monkeypatch.setattr("nnunet_partial.dataset_conversion.duplicates.search.find_duplicates", lambda *_, **__: [])
        search_dataset(dataset, progress=False)
        touched = dataset / "imagesTr/lits_1_0000.nii.gz"
        touched.write_bytes(touched.read_bytes())
        with pytest.raises(TypeError):
            search_dataset(dataset, progress=False)

    def test_all_unreadable_images_in_one_report(self, dataset):
        for name in ("btcv_0002", "lits_1"):
            (dataset / f"imagesTr/{name}_0000.nii.gz").unlink()
            (dataset / f"imagesTr/{name}_0000.nii.gz").write_bytes(b"no image")
        with pytest.raises(ConversionError) as caught:
            search_dataset(dataset, progress=False)
        assert len(caught.value.faults) == 2

    def test_small_volumes_are_compared_voxel_by_voxel_only(self, real_data, tmp_path):
        """Real hippocampi, cut out to 35 mm, are all much alike."""
        cases = {}
        for number in ("001", "003", "004"):
            path = tmp_path / f"imagesTr/mr_{number}_0000.nii.gz"
            path.parent.mkdir(exist_ok=True)
            path.symlink_to((real_data / f"Task04_Hippocampus/imagesTr/hippocampus_{number}.nii.gz").resolve())
            cases[f"mr_{number}"] = {"protocol": "a", "source": "a"}
        content = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "anterior": 1}, "file_ending": ".nii.gz"}
        content["annotation"] = {"protocols": {"a": {"labels": {1: ["anterior"]}}}, "cases": cases}
        (tmp_path / "dataset.json").write_text(json.dumps(content))
        found = search_dataset(tmp_path, progress=False)
        assert not found.pairs
        assert "3 scans show too little" in found.in_words


class TestRecord:
    def test_convert_keeps_the_groups_of_cases_that_still_exist(self, converted):
        pool, folder, found = converted
        before = (folder / "dataset.json").read_bytes()
        assert b'"scan"' not in before
        annotation = record_groups(folder, found.groups)
        assert [annotation.cases[key].scan for key in GROUP] == ["btcv_0001"] * 3
        convert_pool(pool, folder.parent, QUIET)
        kept = Annotation.from_dataset_json(json.loads((folder / "dataset.json").read_text(encoding="utf-8")))
        assert kept == annotation
        record_groups(folder, [])
        assert (folder / "dataset.json").read_bytes() == before

    def test_a_group_of_one_is_none(self, dataset):
        annotation = record_groups(dataset, [("btcv_0001", "gone")])
        assert annotation.cases["btcv_0001"].scan == ""

    def test_broken_record(self, dataset):
        (dataset / "duplicates.json").write_text('{"groups": [{"cases": 3}]}')
        with pytest.raises(LabelError, match="not a list of duplicates"):
            with_recorded_scans(
                Annotation.from_dataset_json(json.loads((dataset / "dataset.json").read_text(encoding="utf-8"))), dataset
            )

    def test_pairs_that_hang_together(self):
        assert group_pairs([("c", "b"), ("b", "a"), ("e", "d")], "abcdef") == [("a", "b", "c"), ("d", "e")]


class TestDropAndMerge:
    @pytest.mark.parametrize(("rule", "kept"), [("most_classes", "btcv_0001"), ("first", "lits_1")])
    def test_drop(self, dataset, rule, kept):
        group = ("lits_1", "btcv_0001", "msd_spleen_1")
        new, said = drop_duplicates(dataset, DatasetRecord(id=501, name="Once"), [group], rule)
        assert sorted(identifiers(new)) == sorted([kept, "btcv_0002"])
        assert f"kept '{kept}'" in said[0]
        assert len(read_manifest(new / "label_manifest.json").skipped) == 2
        assert sorted(path.name for path in (new / "labelsTr").iterdir()) == sorted([f"{kept}.nii.gz", "btcv_0002.nii.gz"])
        assert len(identifiers(dataset)) == 4

    def test_merge_refuses_the_crop_and_keeps_its_group_together(self, dataset, converted):
        new, said = merge_duplicates(dataset, DatasetRecord(id=501, name="Once"), converted[2].groups, set())
        assert "are not merged: they have different shapes" in said[0]
        annotation = Annotation.from_dataset_json(json.loads((new / "dataset.json").read_text(encoding="utf-8")))
        assert [annotation.cases[key].scan for key in GROUP] == ["btcv_0001"] * 3

    def test_merge_is_the_union_voxel_for_voxel(self, dataset):
        from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

        pair = ("msd_spleen_1", "btcv_0001")
        new, _ = merge_duplicates(dataset, DatasetRecord(id=501, name="Once"), [pair], {frozenset(pair)})
        spleen, full = (voxels(dataset / f"labelsTr/{name}.nii.gz") for name in pair)
        expected = np.where(spleen == 2, 2, np.where(full == 2, 0, full))
        np.testing.assert_array_equal(voxels(new / "labelsTr/msd_spleen_1.nii.gz"), expected)
        (record,) = (case for case in read_manifest(new / "label_manifest.json").cases if case.identifier == pair[0])
        assert record.merged_from == pair
        assert record.protocol == "msd+btcv"
        assert record.label_counts == {n: int(np.count_nonzero(expected == n)) for n in range(1, 6)}
        different = np.count_nonzero((spleen == 2) != (full == 2))
        assert f"spleen (id 2) was drawn 2 times, {different} voxels differ; first kept" in record.notes
        assert identifiers(new) == ["btcv_0002", "lits_1", "msd_spleen_1"]
        verify_dataset_integrity(str(new), 1)

    def test_an_id_in_use_is_refused(self, dataset):
        with pytest.raises(ConversionError, match="has the same id"):
            drop_duplicates(dataset, DatasetRecord(id=500, name="Other"), [], "first")


class TestMergeRules:
    SPACE = LabelSpace(classes=("liver", "kidney_left", "kidney_right", "liver_tumor"))
    UNSIDED = AnnotationProtocol(labels={1: ("liver", "liver_tumor"), 2: ("kidney_left", "kidney_right")})
    SIDED = AnnotationProtocol(labels={2: ("kidney_left",), 3: ("kidney_right",)})

    def test_sided_kidneys_win_and_the_other_union_stays(self):
        plan = plan_merge([self.UNSIDED, self.SIDED], self.SPACE)
        assert plan.protocol.labels == {1: ("liver", "liver_tumor"), 2: ("kidney_left",), 3: ("kidney_right",)}
        merged, notes = merge_labels([np.array([1, 2, 2, 0, 1]), np.array([0, 0, 2, 3, 3])], [self.UNSIDED, self.SIDED], plan)
        assert merged.tolist() == [1, 0, 2, 3, 1]
        assert notes == ["1 voxels were drawn for different classes; the first case's class was kept"]

    def test_what_only_a_union_held_is_unannotated(self):
        liver = AnnotationProtocol(labels={1: ("liver",)})
        plan = plan_merge([self.UNSIDED, liver], self.SPACE)
        assert "liver_tumor" not in plan.protocol.annotated_classes
        assert plan.notes[0].startswith("liver_tumor was drawn only together")


def test_known_overlaps():
    assert known_overlap("lits LiTS /data", "AbdomenCT-1K") == "LiTS is contained in AbdomenCT-1K"
    assert known_overlap("msd x Task03_Liver", "lits") == "LiTS and Decathlon Task03 are the same scans"
    assert known_overlap("btcv", "kits19") == ""
