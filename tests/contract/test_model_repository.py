"""The repository as checked in is what `spinecore.contract` says, for both kinds of hardware."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from tritonclient.grpc import model_config_pb2

from spine_client import _contract as client_contract
from spine_server.options import PROFILES, Profile
from spine_server.repository import Model, default_repository, read_model
from spinecore import contract
from spinecore.network_spec import NetworkSpec
from spinecore.plan import MODES, REGIONS

REPOSITORY = default_repository()
MODELS = sorted(path.name for path in REPOSITORY.iterdir() if path.is_dir())
NETWORKS = ("nnunet", "measure_cnn")
PYTHON_MODELS = ("preprocess", "segment", "identify", "report", "attendant")
MAX_LINES_OF_A_THIN_MODEL = 60


def spec() -> NetworkSpec:
    return NetworkSpec.load(REPOSITORY / "nnunet" / "1" / "network.json")


def expected_model(name: str) -> contract.Model:
    return contract.network_model(spec()) if name == "nnunet" else contract.MODELS[name]


def tensors(entries: Any) -> tuple[contract.Tensor, ...]:
    """Inputs or outputs of a parsed config, in the contract's words."""
    return tuple(
        contract.Tensor(
            name=entry.name,
            dtype=model_config_pb2.DataType.Name(entry.data_type)
            .removeprefix("TYPE_")
            .replace("STRING", "BYTES"),
            dims=tuple(entry.dims),
            optional=getattr(entry, "optional", False),
        )
        for entry in entries
    )


def test_the_repository_holds_the_models_of_the_contract_and_no_others() -> None:
    assert set(MODELS) == {"nnunet", *contract.MODELS}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", MODELS)
def test_configs_name_the_contracts_tensors(name: str, profile: Profile) -> None:
    config = read_model(REPOSITORY / name, profile).config
    expected = expected_model(name)
    assert tensors(config.input) == expected.inputs
    assert tensors(config.output) == expected.outputs
    assert config.max_batch_size == expected.max_batch_size


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_run_on_openvino_or_tensorrt(name: str) -> None:
    cpu, gpu = (read_model(REPOSITORY / name, profile) for profile in ("cpu", "gpu"))
    assert cpu.kind == "openvino" and cpu.file is not None and cpu.file.name == "model.onnx"
    assert gpu.kind == "tensorrt_plan" and gpu.file is not None and gpu.file.name == "model.plan"
    kinds = model_config_pb2.ModelInstanceGroup
    assert [group.kind for group in cpu.config.instance_group] == [kinds.KIND_CPU]
    assert [group.kind for group in gpu.config.instance_group] == [kinds.KIND_GPU]
    assert gpu.config.HasField("dynamic_batching")


def test_all_other_models_are_the_same_on_both_kinds_of_hardware() -> None:
    variants = {path.parent.parent.name for path in REPOSITORY.glob("*/configs/*.pbtxt")}
    assert variants == set(NETWORKS)


@pytest.mark.parametrize("name", MODELS)
def test_no_input_is_open_to_a_byte_count_that_wraps(name: str) -> None:
    """Triton 2.51 lets such a request through to the Python stub, which dies of it."""
    model = expected_model(name)
    for tensor in model.inputs:
        assert -1 not in tensor.dims or (tensor.dtype == "UINT8" and tensor.dims == (-1,))


@pytest.mark.parametrize("name", ["spine_mri", "segmentation"])
def test_ensembles_feed_every_input_of_every_step_with_a_tensor_of_the_same_kind(name: str) -> None:
    entry = read_model(REPOSITORY / name, "cpu")
    known = {tensor.name: (tensor.dtype, tensor.dims) for tensor in contract.MODELS[name].inputs}
    for step in entry.config.ensemble_scheduling.step:
        model = expected_model(step.model_name)
        assert set(step.input_map) == {tensor.name for tensor in model.inputs}
        for tensor in model.inputs:
            assert known[step.input_map[tensor.name]] == (tensor.dtype, tensor.dims)
        by_name = {tensor.name: tensor for tensor in model.outputs}
        assert set(step.output_map) <= set(by_name)
        known |= {to: (by_name[of].dtype, by_name[of].dims) for of, to in step.output_map.items()}
    for output in contract.MODELS[name].outputs:
        assert known[output.name] == (output.dtype, output.dims)


@pytest.mark.parametrize("name", ["preprocess", "segment"])
def test_the_slow_steps_turn_requests_away_instead_of_queueing_without_end(name: str) -> None:
    policy = read_model(REPOSITORY / name, "cpu").config.dynamic_batching.default_queue_policy
    assert policy.timeout_action == model_config_pb2.ModelQueuePolicy.REJECT
    assert 0 < policy.max_queue_size <= 64
    assert 0 < policy.default_timeout_microseconds <= 600_000_000


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_have_the_tensors_of_their_configs(name: str) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx comes with the exporter")
    model = read_model(REPOSITORY / name, "cpu")
    assert model.file is not None
    graph = onnx.load(model.file).graph
    expected = expected_model(name)
    for found, wanted in ((graph.input, expected.inputs), (graph.output, expected.outputs)):
        described = {
            value.name: (
                onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type),
                tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim[1:]),
            )
            for value in found
        }
        types = {"FP32": "FLOAT", "FP16": "FLOAT16"}
        assert described == {tensor.name: (types[tensor.dtype], tensor.dims) for tensor in wanted}
        batches = [value.type.tensor_type.shape.dim[0] for value in found]
        assert all(batch.dim_param for batch in batches)  # any number of patches


@pytest.mark.parametrize(
    ("name", "description"), [("nnunet", "network.json"), ("measure_cnn", "measure.json")]
)
def test_descriptions_belong_to_the_networks_beside_them(name: str, description: str) -> None:
    folder = REPOSITORY / name / "1"
    stated = json.loads((folder / description).read_text())["sha256"]
    assert stated == hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()


@pytest.mark.parametrize("name", PYTHON_MODELS)
def test_python_models_are_thin(name: str) -> None:
    source = (REPOSITORY / name / "1" / "model.py").read_text()
    assert len(source.splitlines()) <= MAX_LINES_OF_A_THIN_MODEL
    assert "class TritonPythonModel(Stage)" in source


def test_networks_named_by_parameters_exist() -> None:
    for name in PYTHON_MODELS:
        model = read_model(REPOSITORY / name, "cpu")
        assert isinstance(model, Model)
        assert all(Path(REPOSITORY / step).is_dir() for step in model.steps())


def test_the_client_speaks_the_same_contract() -> None:
    assert client_contract.ATTENDANT_MODEL in contract.MODELS
    assert (contract.LEFT.name, contract.STATE.name) == (client_contract.LEFT, client_contract.STATE)
    entry = contract.MODELS["spine_mri"]
    assert entry.name == client_contract.ENTRY_MODEL
    assert {tensor.name: tensor.dtype for tensor in entry.inputs} == client_contract.INPUT_DATATYPES
    assert {tensor.name: tensor.dtype for tensor in entry.outputs} == client_contract.OUTPUT_DATATYPES
    plain = contract.MODELS["segmentation"]
    assert plain.name == client_contract.SEGMENTATION_MODEL
    assert plain.inputs == entry.inputs
    outputs = {tensor.name: tensor.dtype for tensor in plain.outputs}
    assert outputs == client_contract.SEGMENTATION_OUTPUT_DATATYPES
    assert tuple(contract.DTYPES) == client_contract.VOXEL_DTYPES
    assert REGIONS == client_contract.REGIONS
    assert MODES == client_contract.MODES
