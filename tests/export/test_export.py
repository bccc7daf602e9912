"""A results folder becomes a complete model repository, or leaves it as it was."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from tritonclient.grpc import model_config_pb2

from spine_export import networks
from spine_export.architecture import find_trainer
from spine_export.cli import main
from spine_export.config_files import largest_batch, ports
from spine_export.errors import ExportError, GateError
from spine_export.files import sha256
from spine_export.networks import export_nnunet
from spine_export.nnunet_folder import read_results_folder
from spine_export.repository import Staging
from spine_export.stages import check_name, stage_files
from spine_server.repository import default_repository, entry_models, read_model, repository_problems
from spinecore import contract
from spinecore.network_spec import NetworkSpec

BACKENDS = frozenset({"python", "openvino", "tensorrt"})


def fingerprint(folder: Path) -> dict[str, str]:
    """Path -> hash of everything below `folder`."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def exported(odd_results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that holds the odd network under the name `brain`, in float32, mirroring by default."""
    repository = tmp_path_factory.mktemp("served") / "repository"
    export_nnunet(odd_results, repository=repository, model="brain", precision="fp32", mirror=True)
    return repository


def test_a_new_repository_is_complete(exported: Path) -> None:
    assert repository_problems(exported, "cpu", backends=BACKENDS) == []
    assert {path.name for path in exported.iterdir()} == {
        "attendant", "brain", "preprocess_brain", "segment_brain", "segmentation_brain",
    }  # fmt: skip
    (entry,) = entry_models(exported, "cpu")
    assert (entry.name, entry.channels, entry.report) == ("segmentation_brain", 2, False)


def test_networks_have_the_tensors_that_their_configs_and_the_contract_say(exported: Path) -> None:
    spec = NetworkSpec.load(exported / "brain" / "1" / "network.json")
    expected = contract.network_model(spec, name="brain", logits_dtype="FP32")
    for profile in ("cpu", "gpu"):
        config = read_model(exported / "brain", profile).config  # type: ignore[arg-type]
        for entries, tensors in ((config.input, expected.inputs), (config.output, expected.outputs)):
            found = [(e.name, model_config_pb2.DataType.Name(e.data_type), tuple(e.dims)) for e in entries]
            assert found == [(t.name, f"TYPE_{t.dtype}", t.dims) for t in tensors]
        assert config.max_batch_size == contract.NETWORK_BATCH
    cpu, gpu = (read_model(exported / "brain", profile) for profile in ("cpu", "gpu"))
    assert (cpu.kind, gpu.kind) == ("openvino", "tensorrt_plan")
    assert cpu.config.parameters["INFERENCE_PRECISION_HINT"].string_value == "f32"


def test_the_stages_of_a_named_network_point_to_it(exported: Path) -> None:
    assert read_model(exported / "segment_brain", "cpu").steps() == ["brain"]
    entry = read_model(exported / "segmentation_brain", "cpu")
    assert entry.steps() == ["preprocess_brain", "segment_brain"]
    assert [output.name for output in entry.config.output] == ["LABELS"]


def test_the_onnx_file_equals_torch_and_the_batch_alone_is_dynamic(exported: Path, odd_results: Path) -> None:
    path = exported / "brain" / "1" / "model.onnx"
    patches = np.random.default_rng(1).standard_normal((5, 2, 8, 16, 12), dtype=np.float32)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["LOGITS"], {"PATCH": patches})
    with torch.inference_mode():
        folds = [read_results_folder(odd_results, folds=n).network for n in ("0", "1")]
        expected = np.concatenate([fold(torch.from_numpy(patches)).numpy() for fold in folds], axis=1)
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    model = onnx.load(path)
    assert [port.dims for group in ports(model) for port in group] == [(2, 8, 16, 12), (6, 8, 16, 12)]
    operators = [node.op_type for node in model.graph.node]
    assert "InstanceNormalization" in operators
    assert "BatchNormalization" not in operators
    spec = NetworkSpec.load(path.parent / "network.json")
    assert spec.sha256 == sha256(path)
    assert (spec.precision, spec.mirroring, spec.num_outputs, spec.folds) == ("fp32", True, 3, 2)


def test_the_same_checkpoint_gives_the_same_bytes(exported: Path, odd_results: Path, tmp_path: Path) -> None:
    export_nnunet(odd_results, repository=tmp_path, model="brain", precision="fp32", mirror=True)
    assert fingerprint(tmp_path) == fingerprint(exported)


def test_a_trainer_of_nnunets_that_builds_another_network_is_found(
    plain_results: Path, tmp_path: Path
) -> None:
    """nnUNetTrainerBN swaps the plans' instance normalisation for batch normalisation."""
    results = shutil.copytree(plain_results, tmp_path / "results")
    path = results / "fold_0" / "checkpoint_final.pth"
    state = torch.load(path, weights_only=False)
    trainer = find_trainer("nnUNetTrainerBN")
    assert trainer.__name__ == "nnUNetTrainerBN"
    state["trainer_name"] = trainer.__name__
    network = build_architecture(state["init_args"], trainer)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    torch.save({**state, "network_weights": network.state_dict()}, path)
    for precision in ("fp32", "fp16"):
        done = export_nnunet(results, repository=tmp_path / precision, precision=precision)
        assert done.difference.largest < 0.01


def build_architecture(init: dict[str, Any], trainer: Any) -> torch.nn.Module:
    manager = PlansManager(init["plans"])
    configuration = manager.get_configuration(init["configuration"])
    network: torch.nn.Module = trainer.build_network_architecture(manager, configuration, 1, 4)
    return network


def test_several_networks_live_in_one_repository(
    exported: Path, plain_results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = shutil.copytree(exported, tmp_path / "repository")
    before = fingerprint(repository)
    assert main(["nnunet", str(plain_results), "--into", str(repository)]) == 0
    printed = capsys.readouterr().out
    assert "entry models: segmentation\n" in printed
    after = fingerprint(repository)
    assert {name: after[name] for name in before} == before
    assert repository_problems(repository, "cpu", backends=BACKENDS) == []
    assert {entry.name for entry in entry_models(repository, "cpu")} == {"segmentation", "segmentation_brain"}
    config = read_model(repository / "nnunet", "cpu").config
    assert config.output[0].data_type == model_config_pb2.TYPE_FP16
    assert "INFERENCE_PRECISION_HINT" not in config.parameters  # the processor's fastest


def test_an_export_replaces_the_one_before_with_its_engine(plain_results: Path, tmp_path: Path) -> None:
    for version in ("1", "2"):
        done = export_nnunet(plain_results, repository=tmp_path, version=version)
        (done.folder / "model.plan").touch()
    assert NetworkSpec.load(done.folder / "network.json").version == "2"
    export_nnunet(plain_results, repository=tmp_path)
    assert sorted(p.name for p in done.folder.iterdir()) == ["model.onnx", "network.json"]
    assert not list(tmp_path.glob(".*"))


def test_a_network_that_misses_its_tolerance_changes_nothing(
    exported: Path, plain_results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = shutil.copytree(exported, tmp_path / "repository")
    before = fingerprint(repository)
    monkeypatch.setitem(networks.ENGINE_TOLERANCE, "fp16", 0.0)
    with pytest.raises(GateError, match="does not compute what torch does"):
        export_nnunet(plain_results, repository=repository)
    with pytest.raises(GateError):
        export_nnunet(plain_results, repository=tmp_path / "new")
    assert fingerprint(repository) == before
    assert not (tmp_path / "new").exists()
    assert not list(tmp_path.glob(".*"))


def test_a_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "repository"
    (repository / "a").mkdir(parents=True)
    (repository / "a" / "config.pbtxt").write_text("old")
    renamed = Path.rename

    def fails_late(path: Path, target: Path) -> Path:
        if path.name == "b" and path.parent.name == "new":
            raise OSError(28, "No space left on device")
        return renamed(path, target)

    monkeypatch.setattr(Path, "rename", fails_late)
    with pytest.raises(OSError, match="No space"), Staging(repository) as staging:
        staging.write({"a/config.pbtxt": b"new", "b/config.pbtxt": b"new"})
        staging.commit()
    assert (repository / "a" / "config.pbtxt").read_text() == "old"
    assert [path.name for path in repository.iterdir()] == ["a"]
    assert [path.name for path in tmp_path.iterdir()] == ["repository"]


@pytest.mark.parametrize("name", ["", "../x", "a/b", "segment", "preprocess_x", "spine_mri", "measure_cnn"])
def test_names_that_would_be_in_the_way_are_refused(name: str) -> None:
    with pytest.raises(ExportError, match="cannot be called"):
        check_name(name, reserved=("measure_cnn",))


def test_a_network_that_is_no_spines_does_not_slip_under_the_spines_entry(
    plain_results: Path, tmp_path: Path
) -> None:
    (tmp_path / "spine_mri").mkdir()
    (tmp_path / "spine_mri" / "config.pbtxt").touch()
    with pytest.raises(ExportError, match="no spine structures"):
        export_nnunet(plain_results, repository=tmp_path)


def test_a_spine_network_gets_its_report_and_a_measurement_network_where_there_is_none(
    plain_results: Path, tmp_path: Path
) -> None:
    own = default_repository() / "measure_cnn"
    if not (own / "1" / "model.onnx").is_file():
        pytest.skip("the demo weights are not there")
    table = tmp_path / "table.json"
    table.write_text('{"fat": "vertebra", "muscle": "disc"}')
    repository = tmp_path / "repository"
    done = export_nnunet(plain_results, repository=repository, model="x", labels=table)
    assert (done.entries, done.lent_cnn) == (("segmentation_x", "spine_mri_x"), True)
    assert fingerprint(repository / "measure_cnn") == fingerprint(own)
    assert read_model(repository / "report_x", "cpu").config.parameters["segmentation"].string_value == "x"
    assert repository_problems(repository, "cpu", backends=BACKENDS) == []
    measured = (repository / "measure_cnn" / "1" / "measure.json").write_text("their own")
    again = export_nnunet(plain_results, repository=repository, model="y", labels=table)
    assert (again.entries, again.lent_cnn) == (("segmentation_y", "spine_mri_y"), False)
    assert (repository / "measure_cnn" / "1" / "measure.json").stat().st_size == measured


@pytest.mark.parametrize("name", ["nnunet", "measure_cnn"])
def test_the_checked_in_configs_are_what_is_generated(name: str) -> None:
    folder = default_repository() / name
    if not (folder / "1" / "model.onnx").is_file():
        pytest.skip("the demo weights are not there")
    batching = networks.NETWORK_BATCHING if name == "nnunet" else networks.CNN_BATCHING
    content = (folder / "1" / "model.onnx").read_bytes()
    for path, generated in networks._configs(name, content, batching, "fp16", "openvino").items():
        assert (default_repository() / path).read_bytes() == generated


def test_the_default_networks_stages_are_the_checked_in_ones() -> None:
    for path, content in stage_files(("preprocess", "segmentation", "report"), "nnunet").items():
        assert (default_repository() / path).read_bytes() == content


def test_large_patches_get_small_batches() -> None:
    dims = ["batch", 512, 512, 512]
    value = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, dims) for n in ("a", "b")]
    node = onnx.helper.make_node("Identity", ["a"], ["b"])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", value[:1], value[1:]))
    assert largest_batch(model, wanted=32) == (2**31 - 1) // 512**3 == 15


BAD_INPUT = {
    "no results folder": (["{new}", "--into", "{new}2"], "does not exist"),
    "empty results folder": (["{empty}", "--into", "{new}"], "plans.json is missing"),
    "wrong fold": (
        ["{results}", "--into", "{new}", "--folds", "3"],
        "fold_3/checkpoint_final.pth is missing",
    ),
    "wrong checkpoint": (["{results}", "--into", "{new}", "--checkpoint", "x"], "No fold_<N>/x"),
    "no repository": (["{results}", "--into", "{results}"], "is no model repository"),
    "a file": (["{results}", "--into", "{results}/plans.json"], "is a file"),
    "no parent": (["{results}", "--into", "{new}/a/b"], "does not exist"),
    "int8 without images": (["{results}", "--into", "{new}", "--precision", "int8"], "--images"),
    "tensorrt": (["{results}", "--into", "{new}", "--target", "tensorrt"], "TensorRT is not installed"),
    "missing image": (["{results}", "--into", "{new}", "--images", "{new}.nii.gz"], "does not exist"),
    "damaged image": (["{results}", "--into", "{new}", "--images", "{image}"], "cannot be read"),
    "table": (["{results}", "--into", "{new}", "--labels", "{new}.json"], "missing or unreadable"),
}


@pytest.mark.parametrize("what", BAD_INPUT)
def test_bad_input_gets_one_sentence_and_exit_code_2(
    what: str, plain_results: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments, sentence = BAD_INPUT[what]
    (tmp_path / "empty").mkdir()
    (tmp_path / "image.nii.gz").write_bytes(b"no image")
    places = {
        "new": tmp_path / "new",
        "empty": tmp_path / "empty",
        "results": plain_results,
        "image": tmp_path / "image.nii.gz",
    }
    assert main(["nnunet", *(a.format(**places) for a in arguments)]) == 2
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("spine-export: ")]
    assert len(said) == 1
    assert sentence in said[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "image.nii.gz"]
