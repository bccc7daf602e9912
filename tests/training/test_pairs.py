"""A site's pairs: found by their names, checked, read in our numbers, and refused with one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from spine_training.cli import main
from spine_training.dataset import raw_cases
from spine_training.pairs import PairError, choose_table, find_pairs, read_pair
from spine_training.pairs.dataset import PairSettings, split_of_pairs
from spine_training.pairs.read import label_numbers
from spine_training.pairs.tables import NNUNET, SPINEPS, VERSE
from spine_training.workspace import Workspace
from spinecore.labels import Class

SHAPE = (12, 10, 8)  # x, y, z
REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "labelled_t2"


def write(path: Path, voxels: Any, affine: Any = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([1.0, 1.0, 2.0, 1.0]) if affine is None else affine
    nib.save(nib.Nifti1Image(np.asarray(voxels), affine), path)


def image() -> Any:
    return np.random.default_rng(0).integers(0, 500, SHAPE, dtype=np.int16)


def labels(*numbers: int) -> Any:
    """A label map with one slab along x per number."""
    found = np.zeros(SHAPE, dtype=np.uint8)
    for place, number in enumerate(numbers):
        found[place + 1] = number
    return found


def test_every_naming_is_understood(tmp_path: Path) -> None:
    namings = {
        "nnunet": ("imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"),
        "folders": ("images/a.nii.gz", "labels/a.nii.gz"),
        "case": ("one/image.nii.gz", "one/labels.nii.gz"),
        "suffix": ("a.nii.gz", "a_seg.nii.gz"),
        "bids": ("sub-1_label-6_T2w.nii.gz", "sub-1_seg-subreg_label-6_msk.nii.gz"),
        "spineps": ("sub-1_T2w.nii.gz", "deep/../sub-1_mod-T2w_seg-spine_msk.nii.gz"),
    }
    for naming, (picture, mask) in namings.items():
        folder = tmp_path / naming
        write(folder / picture, image())
        write(folder / mask.replace("deep/../", ""), labels(49))
        (pair,) = find_pairs(folder)
        assert pair.image == folder / picture, naming
        assert pair.subject == ("sub-1" if "sub-1" in picture else pair.name)


def test_verse_numbers_become_classes_and_levels(tmp_path: Path) -> None:
    write(tmp_path / "a.nii", image())
    write(tmp_path / "a_seg.nii", labels(1, 2, 24, 124, 61, 26, 224, 72))
    (pair,) = find_pairs(tmp_path)
    table, why = choose_table("auto", label_numbers([pair]))
    volume = read_pair(pair, table)
    assert table is VERSE and "VerSe" in why
    assert volume.classes.shape == SHAPE[::-1]
    assert volume.classes[0, 0, 1:9].tolist() == [0, 5, 1, 2, 3, 4, 1, 1]
    assert volume.levels is not None
    assert volume.levels[0, 0, 1:9].tolist() == [0, 2, 24, 124, 61, 26, 24, 72]
    assert volume.endplates[0, 0].nonzero()[0].tolist() == [7]


def test_spineps_instances_tell_c2_and_sacrum_from_bodies(tmp_path: Path) -> None:
    write(tmp_path / "sub-1_T2w.nii", image())
    write(tmp_path / "sub-1_seg-subreg_msk.nii", labels(49, 62, 100, 49, 60, 45, 49))
    write(tmp_path / "sub-1_seg-vert_msk.nii", labels(2, 202, 102, 3, 0, 3, 26))
    (pair,) = find_pairs(tmp_path)
    volume = read_pair(pair, SPINEPS)
    assert volume.classes[0, 0, 1:8].tolist() == [Class.C2, Class.C2, 2, 1, 3, 0, Class.SACRUM]
    assert volume.levels is not None
    assert volume.levels[0, 0, 1:8].tolist() == [2, 2, 102, 3, 61, 0, 26]


def test_the_table_is_detected_or_asked_for() -> None:
    assert choose_table("auto", {0, 41, 49, 100})[0] is SPINEPS
    assert choose_table("auto", {0, 1, 2, 3, 4, 5})[0] is NNUNET
    assert choose_table("auto", {0, 20, 120, 61})[0] is VERSE
    with pytest.raises(PairError, match="--labels nnunet or --labels verse"):
        choose_table("auto", {0, 2, 3})


def test_a_dataset_json_names_the_numbers(tmp_path: Path) -> None:
    described = tmp_path / "dataset.json"
    described.write_text(json.dumps({"labels": {"background": 0, "Discs": 1, "vertebrae": 7}}))
    table, _ = choose_table("auto", {0, 1, 7}, dataset_json=described)
    assert table.apply(np.array([0, 1, 7])).tolist() == [0, Class.DISC, Class.BODY]
    described.write_text(json.dumps({"labels": {"background": 0, "liver": 1}}))
    with pytest.raises(PairError, match="liver"):
        choose_table("auto", {0, 1}, dataset_json=described)


SHIFTED = np.diag([1.0, 1.0, 2.0, 1.0])
SHIFTED[0, 3] = 3.0
FAULTS = {
    "no label map": (image(), None, None, "has no label map"),
    "other size": (image(), labels(20)[:-1], None, "different sizes, 12×10×8 and 11×10×8"),
    "other place": (image(), labels(20), SHIFTED, "3.0 mm apart"),
    "unknown label": (image(), labels(20, 150), None, "label 150 is not in the table verse"),
    "no spine": (image(), labels(27), None, "no structure of the spine"),
    "four axes": (np.stack([image()] * 2, axis=3), labels(20), None, "expected one 3-D image"),
    "no image": (np.zeros(SHAPE, np.int16), labels(20), None, "same value"),
    "not finite": (np.full(SHAPE, np.nan, np.float32), labels(20), None, "NaN"),
    "fractions": (image(), labels(20) * 0.5 + 0.25, None, "no labels"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_pair_is_one_sentence_and_nothing_is_written(
    fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, mask, affine, wanted = FAULTS[fault]
    for case in ("good", "other"):
        write(tmp_path / "pairs" / f"{case}.nii", image())
        write(tmp_path / "pairs" / f"{case}_seg.nii", labels(20, 120))
    write(tmp_path / "pairs" / "bad.nii", picture)
    if mask is not None:
        write(tmp_path / "pairs" / "bad_seg.nii", mask, affine)
    work = tmp_path / "work"
    with pytest.raises(SystemExit, match="2"):
        main(["--work", str(work), "data", "--pairs", str(tmp_path / "pairs"), "--labels", "verse"])
    (sentence,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("spine-train:")]
    assert wanted in sentence and "bad" in sentence, sentence
    assert not [path for path in work.rglob("*") if path.is_file()]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a.nii.gz", image())
    write(tmp_path / "a_seg.nii.gz", labels(20))
    whole = (tmp_path / "a.nii.gz").read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PairError, match="damaged"):
        read_pair(find_pairs(tmp_path)[0], VERSE)


def test_subjects_stay_in_one_split_and_where_they_are(tmp_path: Path) -> None:
    for subject in range(6):
        for session in (1, 2):
            write(tmp_path / "pairs" / f"sub-{subject}_ses-{session}_T2w.nii", image())
            write(tmp_path / "pairs" / f"sub-{subject}_ses-{session}_seg-subreg_msk.nii", labels(49))
    workspace, pairs = Workspace(tmp_path / "work"), find_pairs(tmp_path / "pairs")
    split = split_of_pairs(workspace, pairs, PairSettings(validation_share=0.34))
    assert sorted(split.values()).count("val") == 4
    assert all(split[f"sub-{s}-ses-1"] == split[f"sub-{s}-ses-2"] for s in range(6))
    held = next(name for name, kind in split.items() if kind == "val")
    write(workspace.raw / "labelsTr" / f"val_case-{held}.nii", labels(1))
    assert raw_cases(workspace) == [f"val_case-{held}"]
    for seed in range(5):
        again = split_of_pairs(workspace, pairs, PairSettings(validation_share=0.34, seed=seed))
        assert again[held] == "val" and sorted(again.values()).count("val") == 4


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real images in ../shared/data")
def test_the_real_crop_reads_as_spineps() -> None:
    (pair,) = find_pairs(REAL)
    table, _ = choose_table("auto", label_numbers([pair]))
    volume = read_pair(pair, table)
    assert table is SPINEPS and volume.levels is not None
    assert set(np.unique(volume.classes)) == {0, 1, 2, 3}
    assert set(np.unique(volume.levels)) == {0, 5, 6, 7, 61, 105, 106}
    assert int(volume.endplates.sum()) == 1891
