"""The gate: what is served answers as nnUNetPredictor does, and what does not is turned away."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spine_export.cli import main
from spine_export.engines import RunningNetwork, load_network
from spine_export.errors import ExportError, GateError
from spine_export.gate import TOLERANCES, UNTRAINED, Comparison, Tolerance, compare_on, require
from spine_export.images import Image, image_of, read_images, synthetic_image
from spine_export.networks import export_nnunet, export_trained
from spine_export.nnunet_folder import TrainedNetwork, read_results_folder
from spine_export.parity.cases import CASES
from spine_export.parity.results import Kind, plans_of, write_results
from spine_export.verify import verify_images
from spinecore.geometry import Volume
from spinecore.network_spec import NetworkSpec

TILTED = np.array([[0.1, 1.1, 0, 5], [-1.0, 0.1, 0, 6], [0, 0, -1.2, 7], [0, 0, 0, 1.0]])
"""An affine whose first axis runs mostly to the front, and whose slices run down."""

nibabel = pytest.importorskip("nibabel")


@pytest.fixture(scope="module")
def repository(fitted_results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fitted network in float32."""
    path = tmp_path_factory.mktemp("gate") / "repository"
    export_nnunet(fitted_results, repository=path, precision="fp32")
    return path


@pytest.fixture(scope="module")
def trained(fitted_results: Path, repository: Path) -> TrainedNetwork:
    """The fitted network and the description that is served."""
    spec = NetworkSpec.load(repository / "nnunet" / "1" / "network.json")
    return replace(read_results_folder(fitted_results), spec=spec)


@pytest.fixture(scope="module")
def image_file(trained: TrainedNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic image as a NIfTI file, tilted and stored head first."""
    image = synthetic_image(trained.spec)
    path = tmp_path_factory.mktemp("images") / "case.nii.gz"
    affine = np.diag([1.0, -0.9, 1.1, 1.0])
    finer = image.volume.voxels[0].T.repeat(2, axis=0).repeat(2, axis=1).repeat(2, axis=2)
    nibabel.save(nibabel.Nifti1Image(finer, affine), path)
    return path


def comparison(**changed: object) -> Comparison:
    values = {
        "image": "i", "shape": (9, 9, 9), "equal_voxels": 1.0, "dice": {"a": 1.0, "b": 0.5},
        "counted": ("a",), "largest_logit_difference": 0.0, "mean_logit_difference": 0.0,
        "logit_scale": 1.0, "seconds": 1.0, "seconds_nnunet": 1.0, "peak_mb": None, "peak_mb_nnunet": 1.0,
    }  # fmt: skip
    return Comparison(**{**values, **changed})  # type: ignore[arg-type]


def test_float32_answers_as_nnunetpredictor(trained: TrainedNetwork, repository: Path) -> None:
    found = verify_images(repository / "nnunet", trained, [synthetic_image(trained.spec)])
    assert found.missed == []
    assert found.engine == "OpenVINO float32"
    (each,) = found.comparisons
    assert each.equal_voxels >= 0.9999
    assert len(each.counted) >= 3
    assert 0 < each.largest_logit_difference < 0.05
    assert each.mean_logit_difference < 1e-3 * each.logit_scale
    assert each.seconds > 0 and each.seconds_nnunet > 0


def test_everything_odd_at_once_answers_as_nnunetpredictor(odd_results: Path, tmp_path: Path) -> None:
    """Two folds, two channels, masks, a transpose, thick slices, regions, mirroring, random weights."""
    trained = read_results_folder(odd_results, mirror=True, step_size=0.8)
    done = export_trained(trained, repository=tmp_path / "r", precision="fp32")
    trained = replace(trained, spec=NetworkSpec.load(done.folder / "network.json"))
    image = synthetic_image(trained.spec)
    turned = image.volume.voxels.transpose(0, 2, 3, 1)
    volume = Volume(np.ascontiguousarray(turned), np.diag([3.1, 0.9, 1.1, 1.0]))
    image = image_of(volume, trained.spec, "turned")
    found = verify_images(tmp_path / "r" / "nnunet", trained, [image], untrained=True)
    assert found.tolerance == UNTRAINED
    assert found.missed == []


def test_the_command_verifies_files_and_writes_a_report(
    repository: Path,
    fitted_results: Path,
    image_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = tmp_path / "report.json"
    against = ["--against", str(fitted_results), "--images", str(image_file), "--json", str(report)]
    assert main(["verify", str(repository), *against]) == 0
    printed = capsys.readouterr().out
    assert "equal voxels" in printed and "case" in printed
    content = json.loads(report.read_text())
    assert content["passed"] is True
    assert content["network"]["precision"] == "fp32"
    assert content["images"][0]["equal_voxels"] >= 0.9999


def test_a_network_of_another_results_folder_is_not_verified(
    repository: Path, plain_results: Path, image_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--against", str(plain_results), "--images", str(image_file)]
    assert main(["verify", str(repository), *arguments]) == 2
    assert "was exported from another" in capsys.readouterr().err
    assert main(["verify", str(repository), *arguments, "--name", "none"]) == 2
    assert "holds no segmentation network 'none'" in capsys.readouterr().err


def test_half_and_mixed_precision_pass_on_images_of_their_own(
    fitted_results: Path, image_file: Path, tmp_path: Path
) -> None:
    done = export_nnunet(fitted_results, repository=tmp_path / "r", images=[image_file])
    (found,) = done.comparisons
    assert found.mean_dice >= TOLERANCES["fp16"].mean_dice
    assert found.image == "case"


def test_an_export_that_misses_its_gate_leaves_the_repository_as_it_was(
    fitted_results: Path, image_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TOLERANCES, "fp16", Tolerance(mean_dice=1.1))
    with pytest.raises(GateError, match=r"misses its tolerance \(case: mean dice .* below 1\.1\)"):
        export_nnunet(fitted_results, repository=tmp_path / "r", images=[image_file])
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_answers_something_else_is_noticed(trained: TrainedNetwork, repository: Path) -> None:
    right = load_network(repository / "nnunet")
    wrong = RunningNetwork(lambda patches: right.run(patches)[:, ::-1], "upside down")
    found = compare_on(synthetic_image(trained.spec), trained, wrong)
    assert found.equal_voxels < 0.9
    with pytest.raises(GateError, match="fp32 on upside down misses"):
        require([found], TOLERANCES["fp32"], precision="fp32", engine="upside down")


def test_classes_of_a_thousand_voxels_or_less_do_not_count() -> None:
    assert (comparison().worst_dice, comparison().mean_dice) == (1.0, 1.0)
    counted = comparison(counted=("a", "b"))
    assert (counted.worst_dice, counted.mean_dice) == (0.5, 0.75)
    assert counted.misses(TOLERANCES["fp32"]) == ["worst dice 0.50000 below 0.999"]
    assert comparison(equal_voxels=float("nan")).misses(TOLERANCES["fp32"])  # never within
    assert comparison(counted=()).misses(TOLERANCES["int8"]) == []


def test_the_onnx_target_is_served_by_onnx_runtime(plain_results: Path, tmp_path: Path) -> None:
    done = export_nnunet(plain_results, repository=tmp_path, precision="fp32", target="onnx")
    assert done.engine == "ONNX Runtime"
    assert 'platform: "onnxruntime_onnx"' in (tmp_path / "nnunet" / "config.pbtxt").read_text()


def test_images_of_several_channels_are_grouped_by_nnunets_numbers(tmp_path: Path) -> None:
    for name in ("b_0000", "b_0001", "a_0000", "a_0001"):
        voxels = np.full((5, 6, 7), 10 * int(name[-1]) + 1, dtype=np.int16)
        voxels[0, 0, 0] = 0
        nibabel.save(
            nibabel.Nifti1Image(voxels, np.diag([-1.0, -2.0, 3.0, 1.0])), tmp_path / f"{name}.nii.gz"
        )
    plans = plans_of(Kind(normalization=("ZScoreNormalization",) * 2, use_mask=(False, False)))
    images = read_images([tmp_path], plans, ".nii.gz")
    assert [image.name for image in images] == ["a", "b"]
    first: Image = images[0]
    assert first.volume.voxels.shape == first.array.shape == (2, 7, 6, 5)
    assert first.spacing == first.volume.spacing_zyx == (3.0, 2.0, 1.0)
    assert [int(channel.max()) for channel in first.volume.voxels] == [1, 11]
    with pytest.raises(ExportError, match=r"no file ending in \.mha"):
        read_images([tmp_path], plans, ".mha")


def test_a_reader_that_reorients_is_followed_there_and_back(image_file: Path, tmp_path: Path) -> None:
    """From a file stored inferior to superior, left to right: both label maps on the file's own grid."""
    kind = CASES["torch resampling, reorienting reader"].kind
    trained = read_results_folder(write_results(tmp_path / "results", kind, steps=10))
    (image,) = read_images([image_file], trained.plans, ".nii.gz")
    turned = Volume(np.ascontiguousarray(image.volume.voxels.transpose(0, 2, 1, 3)), TILTED)
    done = export_trained(trained, repository=tmp_path / "r", precision="fp32")
    images = [image, image_of(turned, trained.spec, "turned")]
    served = replace(trained, spec=NetworkSpec.load(done.folder / "network.json"))
    found = verify_images(tmp_path / "r" / "nnunet", served, images, untrained=True)
    assert found.missed == []
    assert all(min(each.dice.values()) > 0.99 for each in found.comparisons)


@pytest.fixture(scope="module")
def quantized(
    fitted_results: Path, image_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    pytest.importorskip("nncf", reason="INT8 needs the extra spineserve-export[int8]")
    path = tmp_path_factory.mktemp("int8") / "repository"
    export_nnunet(fitted_results, repository=path, precision="int8", images=[image_file])
    yield path
    shutil.rmtree(path)


@pytest.mark.slow
def test_int8_passes_its_gate_and_is_what_the_cpu_profile_serves(quantized: Path) -> None:
    version = quantized / "nnunet" / "1"
    assert 'default_model_filename: "model.xml"' in (version.parent / "configs/cpu.pbtxt").read_text()
    assert {path.name for path in version.iterdir()} == {
        "model.onnx", "model.xml", "model.bin", "network.json",
    }  # fmt: skip
    assert b"FakeQuantize" in (version / "model.xml").read_bytes()
    assert NetworkSpec.load(version / "network.json").precision == "int8"
