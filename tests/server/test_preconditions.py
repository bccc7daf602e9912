"""Every precondition that fails is told in one sentence that says what to do."""

from __future__ import annotations

import dataclasses
import re
import shutil
import socket
from pathlib import Path

import pytest

from spine_server import preconditions
from spine_server.distribution import LIBPYTHON, find_distribution, libpython_folder
from spine_server.options import ServerOptions
from spine_server.ports import port_problems, with_ports_chosen
from spine_server.repository import Model, default_repository, read_model, repository_problems

BACKENDS = frozenset({"python", "openvino"})


def test_this_machine_and_repository_can_serve() -> None:
    options = with_ports_chosen(ServerOptions())
    assert preconditions.problems(options, default_repository(), find_distribution()) == []


def test_a_library_that_the_loader_cannot_find_is_named_with_its_package(tmp_path: Path) -> None:
    distribution = find_distribution()
    patched = tmp_path / "stub"
    content = distribution.stub.read_bytes()
    library = next(iter(re.findall(rb"libcudart-[0-9a-f]+\.so[0-9.]*", content)))
    patched.write_bytes(content.replace(library, b"libcudart-gone".ljust(len(library), b"_")))
    patched.chmod(0o755)
    (problem,) = preconditions.library_problems(dataclasses.replace(distribution, stub=patched))
    assert "libcudart-gone" in problem and "LD_LIBRARY_PATH" in problem


def test_a_missing_libpython_is_named_with_its_debian_package() -> None:
    assert f"apt-get install {LIBPYTHON.removesuffix('.so.1.0')}" in preconditions._library_problem(LIBPYTHON)


def test_the_stub_is_pointed_to_this_interpreters_own_libpython() -> None:
    folder = libpython_folder()
    assert folder is None or (folder / LIBPYTHON).is_file()
    if folder is not None:
        assert str(folder) in find_distribution().library_path().split(":")


def test_too_little_shared_memory_is_told_with_both_sizes() -> None:
    assert preconditions.shared_memory_problems(needed_bytes=1) == []
    (problem,) = preconditions.shared_memory_problems(needed_bytes=2**60)
    assert "MiB free" in problem and "--shm-size" in problem


def test_a_log_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    assert preconditions.log_problems(tmp_path / "new.log") == []
    (problem,) = preconditions.log_problems(tmp_path / "missing" / "new.log")
    assert "--log-file" in problem


def test_a_port_taken_names_its_option() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (problem,) = port_problems(ServerOptions(metrics_port=port))
    assert f"127.0.0.1:{port}" in problem and "--metrics-port" in problem


def test_two_services_on_one_port_are_refused() -> None:
    (problem,) = port_problems(
        dataclasses.replace(with_ports_chosen(ServerOptions()), grpc_port=1, http_port=1)
    )[-1:]
    assert "wanted by both --grpc-port and --http-port" in problem


def test_free_ports_differ() -> None:
    chosen = with_ports_chosen(ServerOptions(http_port=0, metrics_port=0))
    assert len({chosen.grpc_port, chosen.http_port, chosen.metrics_port} - {0}) == 3


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        ("nnunet/1/model.onnx", "Model nnunet has no 1/model.onnx; export the network with spine-export."),
        ("segment/1/model.py", "Model segment has no 1/model.py."),
        ("report/config.pbtxt", "Model report has no config.pbtxt."),
        ("spine_mri/1", "Model spine_mri has no version folder 1."),
        ("measure_cnn", "Model report needs model measure_cnn, which the repository lacks."),
    ],
)
def test_an_incomplete_repository_is_told_file_by_file(
    repository_copy: Path, broken: str, sentence: str
) -> None:
    path = repository_copy / broken
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert sentence in repository_problems(repository_copy, "cpu", backends=BACKENDS)


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("nnunet/1/network.json", "{", "Model nnunet: The network description is not valid JSON"),
        ("nnunet/1/network.json", "{}", "Model nnunet: The network description"),
        ("measure_cnn/1/measure.json", "[]", "Model measure_cnn: 1/measure.json must hold a JSON object."),
        ("measure_cnn/1/measure.json", "{", "Model measure_cnn: 1/measure.json cannot be read as JSON."),
    ],
)
def test_an_unusable_description_is_told(
    repository_copy: Path, file: str, content: str, sentence: str
) -> None:
    (repository_copy / file).write_text(content)
    (problem,) = repository_problems(repository_copy, "cpu", backends=BACKENDS)
    assert problem.startswith(sentence)


def test_a_configuration_that_cannot_be_parsed_is_told(repository_copy: Path) -> None:
    (repository_copy / "segment" / "config.pbtxt").write_text("backend: [")
    (problem, *_) = repository_problems(repository_copy, "cpu", backends=BACKENDS)
    assert problem.startswith("Model segment: config.pbtxt cannot be parsed")


def test_the_gpu_profile_wants_engines() -> None:
    problems = repository_problems(default_repository(), "gpu", backends=BACKENDS)
    assert any("Model nnunet has no 1/model.plan; build it on the GPU" in problem for problem in problems)
    assert "This Triton has no tensorrt backend; the wheel carries none" in problems[-1]


def test_a_folder_without_the_entry_model_is_no_repository(tmp_path: Path) -> None:
    (problem,) = repository_problems(tmp_path, "cpu", backends=BACKENDS)
    assert "holds no model spine_mri" in problem


def test_a_model_tells_the_file_it_needs() -> None:
    model = read_model(default_repository() / "nnunet", "cpu")
    assert isinstance(model, Model)
    assert model.kind == "openvino" and model.file == model.folder / "1" / "model.onnx"
