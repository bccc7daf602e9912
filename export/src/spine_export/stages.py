"""The Python stages and the ensembles around a network: which there are, and their files under its name.

Their one source is SpineServe's own repository, ``model_repository/`` of the checkout. A network of the
default name `nnunet` gets them as they are. One of another name N gets
``preprocess_N``, ``segment_N`` and the entry ``segmentation_N`` that point to it, so that several models live
side by side; with roles in the spine also ``identify_N``, ``report_N`` and ``spine_mri_N``.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from google.protobuf import text_format  # type: ignore[import-untyped]
from tritonclient.grpc import model_config_pb2

from spine_export.errors import ExportError
from spine_server.errors import PreconditionError
from spine_server.repository import REPOSITORY_VARIABLE, default_repository

DEFAULT_NETWORK = "nnunet"
DEFAULT_CNN = "measure_cnn"
SHARED_STAGES = ("attendant",)  # one of a server, whatever networks it has
PLAIN_STAGES = (*SHARED_STAGES, "preprocess", "segment", "segmentation")
SPINE_STAGES = ("identify", "report", "spine_mri")
ALL_STAGES = PLAIN_STAGES + SPINE_STAGES
PLAIN_ENTRY, SPINE_ENTRY = "segmentation", "spine_mri"
_CONFIG = "config.pbtxt"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def check_name(name: str, *, reserved: Iterable[str]) -> None:
    """ExportError unless a network may be called `name`."""
    taken = name in reserved or any(name == s or name.startswith(f"{s}_") for s in ALL_STAGES)
    if not _NAME.fullmatch(name) or taken:
        raise ExportError(
            f"A network cannot be called {name!r}: letters, digits, '.', '_' and '-', and none of the "
            f"stages' names ({', '.join(ALL_STAGES)})."
        )


def stage_name(stage: str, network: str) -> str:
    """Name of a stage or ensemble in the repository, for a network's name."""
    return stage if network == DEFAULT_NETWORK or stage in SHARED_STAGES else f"{stage}_{network}"


def stage_files(stages: Iterable[str], network: str, *, cnn: str = DEFAULT_CNN) -> dict[str, bytes]:
    """Path in the repository -> content, of `stages` around `network`."""
    source = source_folder()
    files: dict[str, bytes] = {}
    for stage in stages:
        name = stage_name(stage, network)
        config = (source / stage / _CONFIG).read_bytes()
        if stage not in SHARED_STAGES and (network, cnn) != (DEFAULT_NETWORK, DEFAULT_CNN):
            config = _renamed(config, stage, network, cnn)
        files[f"{name}/{_CONFIG}"] = config
        model = source / stage / "1" / "model.py"
        if model.is_file():
            files[f"{name}/1/model.py"] = model.read_bytes()
        else:
            files[f"{name}/1/.gitkeep"] = b""  # an ensemble needs a version folder, empty
    return files


def cnn_files() -> dict[str, bytes]:
    """Path in the repository -> content of SpineServe's own measurement CNN; empty without its weights."""
    folder = source_folder() / DEFAULT_CNN
    if not (folder / "1" / "model.onnx").is_file():
        return {}
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder.parent)): path.read_bytes() for path in files}


def source_folder() -> Path:
    """Where the stages' files are: the checkout's repository, or the one that the server takes by default.

    ExportError if there is none.
    """
    candidates = [parent / "model_repository" for parent in Path(__file__).resolve().parents]
    with contextlib.suppress(PreconditionError):
        candidates.append(default_repository())
    for folder in candidates:
        if all((folder / stage / _CONFIG).is_file() for stage in ALL_STAGES):
            return folder
    raise ExportError(
        "The stages' files are not found: run from a checkout, or name its model_repository by "
        f"{REPOSITORY_VARIABLE}."
    )


def _renamed(config: bytes, stage: str, network: str, cnn: str) -> bytes:
    parsed: Any = text_format.Parse(config.decode(), model_config_pb2.ModelConfig())
    for step in parsed.ensemble_scheduling.step:
        step.model_name = stage_name(step.model_name, network)
    names = {DEFAULT_NETWORK: network, DEFAULT_CNN: cnn}
    for parameter in parsed.parameters.values():
        parameter.string_value = names.get(parameter.string_value, parameter.string_value)
    header = f"# The stage {stage} for the network {network}; made by spine-export.\n"
    text: str = text_format.MessageToString(parsed)
    return (header + text).encode()
